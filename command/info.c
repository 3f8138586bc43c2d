/* SPDX-License-Identifier: MIT
 *
 * natten info: what a bug report should have in it. */
#include "config.h"

#include "command.h"
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const struct argp_option table[] = {{"json", 'j', NULL, 0, "print as JSON", 0},
                                           {0}};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    switch (key) {
    case 'j':
        *(bool *)state->input = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s': there is nothing to name", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    table, parse, "",  "Facts about the library, this machine, and what runs on it.",
    NULL,  NULL,  NULL};

/* The processor's name as Linux tells it; "" where it doesn't. */
static void get_processor(char *name, size_t size)
{
    char line[256];
    name[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !*name && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon)
            snprintf(name, size, "%s", colon + 2);
    }
    name[strcspn(name, "\n")] = '\0';
    if (file)
        fclose(file);
}

/* The GPUs, or why there is none. */
static void report_devices(report *facts)
{
    int32_t count = natten_device_count();
    report_integer(facts, "cuda_devices", count);
    for (int32_t i = 0; i < (count > 0 ? count : 1); i++) {
        char name[32] = "no_cuda_because", text[256];
        if (count > 0)
            snprintf(name, sizeof name, "cuda:%" PRId32, i);
        if (natten_device_text(i, text, sizeof text) == NATTEN_OK) {
            report_text(facts, name, text);
            continue;
        }
        const char *colon = strstr(natten_last_error(), ": "); /* behind the function */
        report_text(facts, name, colon ? colon + 2 : natten_last_error());
    }
}

static const char *yes_no(bool fact)
{
    return fact ? "yes" : "no";
}

int command_info(int argc, char **argv)
{
    bool json = false, png = false, jpeg = false;
    argp_parse(&argp, argc, argv, 0, NULL, &json);
    report *facts = report_create(json);
    if (!facts)
        return EXIT_IO;
#ifdef NATTEN_HAVE_PNG
    png = true;
#endif
#ifdef NATTEN_HAVE_JPEG
    jpeg = true;
#endif
    char text[512];
    struct utsname system;
    report_text(facts, "version", natten_version());
    report_integer(facts, "abi", natten_abi_version());
    report_text(facts, "build", natten_build_info());
    if (uname(&system) == 0) {
        snprintf(text, sizeof text, "%s %s %s", system.sysname, system.release,
                 system.machine);
        report_text(facts, "system", text);
    }
    get_processor(text, sizeof text);
    if (*text)
        report_text(facts, "processor", text);
    report_integer(facts, "threads", natten_get_num_threads());
    report_text(facts, "backends",
                natten_device_count() > 0 ? "cpu cuda reference" : "cpu reference");
    report_text(facts, "cpu_variants", natten_cpu_variants());
    report_devices(facts);
    snprintf(text, sizeof text, "npy, PNG: %s, JPEG: %s", yes_no(png), yes_no(jpeg));
    report_text(facts, "files", text);
    report_finish(facts, true);
    return EXIT_FINE;
}
