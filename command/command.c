/* SPDX-License-Identifier: MIT
 *
 * How the subcommands speak and stop: one form for every message, one translation of
 * the library's statuses to exit statuses, one handler for the signals that end long
 * work. */
#include "command.h"

#include "progress.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t caught; /* the signal, or 0 */

int command_fail(int status, const char *format, ...)
{
    va_list arguments;
    progress_clear();
    fprintf(stderr, "%s: ", program_invocation_name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return status;
}

/* Parameters of the library that are options here, with '-' for '_'. */
static bool is_option(const char *name, size_t length)
{
    static const char *const options[] = {"kernel_size",
                                          "stride",
                                          "dilation",
                                          "is_causal",
                                          "scale",
                                          "threads",
                                          "backend",
                                          "grid_length",
                                          "query_begin",
                                          "key_begin",
                                          "bias",
                                          "additional_keys",
                                          "additional_values",
                                          "grad_out",
                                          "grad_lse",
                                          "grad_query",
                                          "grad_key",
                                          "grad_value",
                                          "grad_bias",
                                          "grad_attn",
                                          "grad_additional_keys",
                                          "grad_additional_values"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strlen(options[i]) == length && memcmp(options[i], name, length) == 0)
            return true;
    return false;
}

/* Is what stands at `at`, `length` bytes of the sentence, one of them?  Some are plain
 * words, too: of those only the first of a sentence, and what is NULL. */
static bool is_parameter(const char *sentence, const char *at, size_t length)
{
    bool plain = memchr(at, '_', length) == NULL;
    bool named = at == sentence || strncmp(at + length, " is NULL", 8) == 0;
    return is_option(at, length) && (named || !plain);
}

/* "kernel_size[height]=9 ..." -> "--kernel-size[height]=9 ..."; what there is no room
 * for is cut off. */
static void spell_options(const char *sentence, char *text, size_t room)
{
    char *end = text + room - sizeof "--";
    for (const char *at = sentence; *at && text < end;) {
        size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
        bool option = is_parameter(sentence, at, length);
        if (option)
            text += sprintf(text, "--");
        /* A word, or a character of what is between words. */
        for (size_t left = length > 0 ? length : 1; left > 0 && text < end;
             left--, at++)
            *text++ = (char)(option && *at == '_' ? '-' : *at);
    }
    *text = '\0';
}

int command_check(natten_status status)
{
    if (status == NATTEN_OK)
        return EXIT_FINE;
    const char *sentence = natten_last_error();
    if (*sentence == '\0')
        sentence = natten_status_string(status);
    /* "natten_forward: kernel_size..." -> "kernel_size..." */
    const char *colon = strchr(sentence, ':');
    if (strncmp(sentence, "natten_", 7) == 0 && colon && colon[1] == ' ')
        sentence = colon + 2;
    char text[1024];
    spell_options(sentence, text, sizeof text);
    switch (status) {
    case NATTEN_ERR_INTERRUPTED:
        return command_fail(EXIT_IO, "interrupted");
    case NATTEN_ERR_MEMORY:
    case NATTEN_ERR_UNSUPPORTED:
    case NATTEN_ERR_DEVICE:
    case NATTEN_ERR_ABI:
    case NATTEN_ERR_NO_DEVICE:
    case NATTEN_ERR_DRIVER_TOO_OLD:
    case NATTEN_ERR_ARCH:
    case NATTEN_ERR_CUDA:
        return command_fail(EXIT_IO, "%s", text);
    default:
        return command_fail(EXIT_USAGE, "%s", text);
    }
}

static void catch (int signal_number)
{
    caught = signal_number;
}

static int32_t stop(void *user)
{
    (void)user;
    progress_pulse();
    return caught != 0;
}

void command_catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction action;
        /* What the caller chose to ignore (nohup) stays ignored. */
        if (sigaction(signals[i], NULL, &action) != 0 || action.sa_handler == SIG_IGN)
            continue;
        memset(&action, 0, sizeof action);
        sigemptyset(&action.sa_mask);
        action.sa_handler = catch;
        /* Not SA_RESTART: a read from a silent pipe ends too. */
        sigaction(signals[i], &action, NULL);
    }
    natten_set_cancel_callback(stop, NULL);
}

bool command_interrupted(void)
{
    return caught != 0;
}

void command_end_by_signal(void)
{
    if (!caught)
        return;
    signal(caught, SIG_DFL);
    raise(caught);
}
