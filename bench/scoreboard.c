/* SPDX-License-Identifier: MIT
 *
 * Factors are made here, out of times: a NaN is a factor that there is not, a dash in
 * the table and null in JSON. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "scoreboard.h"

#include "problem/problem_text.h"
#include "yardstick.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef NATTEN_HAVE_JANSSON
#include <jansson.h>
#endif

/* The original NATTEN's last kernels for CPUs, version 0.17.5, on two cores of a Zen 4
 * whose multiply-adds reached 235 GFLOP/s in fp32: 2.5 to 4.7 GFLOP/s forward, 1.5 to
 * 2.2 backward. Its best share of the peak. */
static const double upstream_forward = 4.7 / 235, upstream_backward = 2.2 / 235;

struct scoreboard {
    FILE *file; /* NULL: no JSON is wanted */
    const char *path;
    const ceiling *ceilings;
    int ceiling_count;
    natten_variant variant;
#ifdef NATTEN_HAVE_JANSSON
    json_t *object, *results;
#endif
};

/* The columns of numbers, in the table's order. */
enum {
    MINIMUM,
    MEDIAN,
    RATE,
    SHARE,
    GEMM,
    RATIO,
    SPEEDUP,
    OF_FP32,
    LOOPS,
    UPSTREAM,
    ERROR,
    COLUMNS
};

static const struct {
    const char *title, *name; /* in the table, in JSON */
    int width, digits;
    double factor; /* JSON has seconds, the table milliseconds */
} columns[COLUMNS] = {
    [MINIMUM] = {"min ms", "minimum_seconds", 10, 4, 1e3},
    [MEDIAN] = {"median ms", "median_seconds", 10, 4, 1e3},
    [RATE] = {"GFLOP/s", "gflops", 8, 1, 1},
    [SHARE] = {"peak", "share_of_peak", 6, 3, 1},
    [GEMM] = {"gemm", "gemm_gflops", 7, 1, 1},
    [RATIO] = {"ratio", "ratio_to_gemm", 6, 2, 1},
    [SPEEDUP] = {"faster", "speedup", 7, 3, 1},
    [OF_FP32] = {"fp32", "ratio_to_fp32", 6, 2, 1},
    [LOOPS] = {"loops", "times_loops", 6, 1, 1},
    [UPSTREAM] = {"upstream", "times_upstream", 9, 1, 1},
    [ERROR] = {"error", "error", 6, 2, 1},
};

static double known(double x)
{
    return x > 0 && isfinite(x) ? x : (double)NAN;
}

static double peak_of(const scoreboard *s, const timing *t)
{
    for (int n = 0; n < s->ceiling_count; n++)
        if (s->ceilings[n].threads == t->threads)
            return known(s->ceilings[n].fma[s->variant][t->spec.dtype == NATTEN_FP64]);
    return (double)NAN;
}

/* The row of timings[n]; the others are of the same problem. */
static void fill(const scoreboard *s, const timing *timings, int ways, int n,
                 double row[COLUMNS])
{
    const timing *t = &timings[n];
    bool forward = t->spec.operation == NATTEN_FORWARD;
    row[MINIMUM] = t->minimum;
    row[MEDIAN] = t->median;
    row[RATE] = 1e-9 * t->flop / t->minimum;
    row[SHARE] = row[RATE] / peak_of(s, t);
    row[GEMM] = known(t->gemm);
    row[RATIO] = row[RATE] / row[GEMM];
    row[SPEEDUP] = row[OF_FP32] = (double)NAN;
    for (int i = ways - 1; i >= 0; i--) {
        if (timings[i].spec.dtype == t->spec.dtype)
            row[SPEEDUP] = timings[i].median / t->median;
        if (timings[i].spec.dtype == NATTEN_FP32 && timings[i].threads == t->threads)
            row[OF_FP32] = timings[i].minimum / t->minimum;
    }
    row[LOOPS] = known(t->loops) / t->minimum;
    row[UPSTREAM] = row[SHARE] / (forward ? upstream_forward : upstream_backward);
    row[ERROR] = t->error;
}

/* ---- JSON ------------------------------------------------------------------------ */

#ifdef NATTEN_HAVE_JANSSON

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static bool open_json(scoreboard *s, int argc, char **argv)
{
    json_t *command = json_array();
    for (int i = 1; i < argc; i++)
        json_array_append_new(command, json_string(argv[i]));
    s->results = json_array();
    s->object = json_object();
    json_object_set_new(s->object, "version", json_string(natten_version()));
    json_object_set_new(s->object, "build", json_string(natten_build_info()));
    json_object_set_new(s->object, "arguments", command);
    return true;
}

static json_t *ceiling_json(const ceiling *c)
{
    json_t *object = json_object(), *fma = json_object();
    json_object_set_new(object, "threads", json_integer(c->threads));
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        if (c->fma[v][0] > 0)
            json_object_set_new(
                fma, natten_machine_variant_name((natten_variant)v),
                json_pack("{s:f, s:f}", "fp32", c->fma[v][0], "fp64", c->fma[v][1]));
    json_object_set_new(object, "fma_gflops", fma);
    json_object_set_new(object, "l2_read_gbs", number(known(c->l2)));
    json_object_set_new(object, "memory_read_gbs", number(known(c->dram)));
    return object;
}

static void machine_json(scoreboard *s, const char *processor, bool alone)
{
    json_t *ceilings = json_array();
    for (int n = 0; n < s->ceiling_count; n++)
        json_array_append_new(ceilings, ceiling_json(&s->ceilings[n]));
    json_object_set_new(s->object, "processor", json_string(processor));
    json_object_set_new(s->object, "variant",
                        json_string(natten_machine_variant_name(s->variant)));
    json_object_set_new(s->object, "clock",
                        json_string(alone ? "processor time" : "monotonic"));
    json_object_set_new(s->object, "openblas",
                        yardstick_name() ? json_string(yardstick_name()) : json_null());
    json_object_set_new(s->object, "ceilings", ceilings);
    json_object_set(s->object, "results", s->results);
}

static void row_json(scoreboard *s, const char *label, const char *text,
                     const timing *t, const double row[COLUMNS])
{
    json_t *object = json_object();
    json_object_set_new(object, "label", json_string(label));
    json_object_set_new(object, "problem", json_string(text));
    json_object_set_new(object, "threads", json_integer(t->threads));
    json_object_set_new(object, "samples", json_integer(t->samples));
    json_object_set_new(object, "flop", number(t->flop));
    for (int c = 0; c < COLUMNS; c++)
        json_object_set_new(object, columns[c].name, number(row[c]));
    json_object_set_new(object, "gemm_median_gflops", number(known(t->gemm_median)));
    json_array_append_new(s->results, object);
}

static bool write_json(scoreboard *s)
{
    bool good =
        json_dumpf(s->object, s->file, JSON_INDENT(1) | JSON_PRESERVE_ORDER) == 0 &&
        fputc('\n', s->file) != EOF;
    json_decref(s->object);
    json_decref(s->results);
    return good;
}

#else

static bool open_json(scoreboard *s, int argc, char **argv)
{
    (void)s, (void)argc, (void)argv;
    fprintf(stderr, "natten-bench: --json: this build has no jansson\n");
    return false;
}

static void machine_json(scoreboard *s, const char *processor, bool alone)
{
    (void)s, (void)processor, (void)alone;
}

static void row_json(scoreboard *s, const char *label, const char *text,
                     const timing *t, const double row[COLUMNS])
{
    (void)s, (void)label, (void)text, (void)t, (void)row;
}

static bool write_json(scoreboard *s)
{
    (void)s;
    return true;
}

#endif

/* ---- table ----------------------------------------------------------------------- */

/* What Linux calls the processor; "unknown" elsewhere. */
static void name_processor(char *name, size_t bytes)
{
    char line[256];
    snprintf(name, bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(name, bytes, "%.100s", strchr(line, ':') + 2);
            break;
        }
    if (file)
        fclose(file);
}

static void print_ceiling(const ceiling *c)
{
    printf("%d threads at most: multiply-adds, GFLOP/s in fp32 and fp64:", c->threads);
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        if (c->fma[v][0] > 0)
            printf(" %s %.1f %.1f,", natten_machine_variant_name((natten_variant)v),
                   c->fma[v][0], c->fma[v][1]);
    printf(" read GB/s: L2 %.1f, memory %.1f\n", c->l2, c->dram);
}

static void print_cell(int column, double value)
{
    if (isnan(value))
        printf("%*s", columns[column].width + 1, "-");
    else
        printf(" %*.*f", columns[column].width, columns[column].digits,
               columns[column].factor * value);
}

scoreboard *scoreboard_open(const char *path, int argc, char **argv)
{
    scoreboard *s = calloc(1, sizeof *s);
    if (!s) {
        fprintf(stderr, "natten-bench: out of memory\n");
        return NULL;
    }
    s->path = path;
    if (!path)
        return s;
    if (!open_json(s, argc, argv)) {
        free(s);
        return NULL;
    }
    s->file = fopen(path, "w");
    if (!s->file) {
        perror(path);
        scoreboard_close(s);
        return NULL;
    }
    return s;
}

void scoreboard_machine(scoreboard *s, const ceiling *ceilings, int count, bool alone)
{
    char processor[128];
    name_processor(processor, sizeof processor);
    s->ceilings = ceilings;
    s->ceiling_count = count;
    s->variant = natten_machine_get().variant;
    printf("%s; %s of %s; %s\n", processor, natten_machine_variant_name(s->variant),
           natten_cpu_variants(), yardstick_name() ? yardstick_name() : "no OpenBLAS");
    for (int n = 0; n < count; n++)
        print_ceiling(&ceilings[n]);
    printf("%4s", "thr");
    for (int c = 0; c < COLUMNS; c++)
        printf(" %*s", columns[c].width, columns[c].title);
    printf("  problem\n");
    fflush(stdout);
    if (s->file)
        machine_json(s, processor, alone);
}

void scoreboard_add(scoreboard *s, const char *label, const timing *timings, int ways)
{
    for (int n = 0; n < ways; n++) {
        char text[NATTEN_PROBLEM_TEXT_BYTES];
        double row[COLUMNS];
        fill(s, timings, ways, n, row);
        natten_problem_text_print(&timings[n].spec, text);
        printf("%4d", timings[n].threads);
        for (int c = 0; c < COLUMNS; c++)
            print_cell(c, row[c]);
        printf("  %s%s%s\n", label, *label ? ": " : "", text);
        if (s->file)
            row_json(s, label, text, &timings[n], row);
    }
    fflush(stdout);
}

bool scoreboard_close(scoreboard *s)
{
    bool good = true;
    if (s->file) {
        good = write_json(s);
        good = fclose(s->file) == 0 && good;
        if (!good)
            perror(s->path);
    }
    free(s);
    return good;
}
