/* SPDX-License-Identifier: MIT
 *
 * natten-bench [OPTION]... [PROBLEM]...: times problems (docs/problem-text.md) and
 * prints a line for each: minimum and median time, useful GFLOP/s, the ratio to
 * OpenBLAS's sgemm around the same line, the error that the judge found, text and
 * backend.
 *
 * A report, never a test: only a wrong result makes it fail. */
#include "base/status.h"
#include "subject.h"
#include "verify.h"
#include "yardstick.h"

#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_REPEATS = 1000, LINE_BYTES = 1024 };

typedef struct options {
    const char *suite; /* a file of problem texts; NULL: none */
    const char *variant;
    char **problems;
    int problem_count;
    int threads;
    double seconds; /* that a line may take */
    natten_backend backend;
} options;

static const struct argp_option argp_options[] = {
    {"suite", 's', "FILE", 0, "Problems, one on a line (default: suites/cpu.txt)", 0},
    {"threads", 't', "N", 0, "Threads, also of sgemm (default: all)", 0},
    {"seconds", 'n', "S", 0, "Time given to each problem (default 1)", 0},
    {"variant", 'v', "NAME", 0, "Instruction set (default: the best)", 0},
    {"reference", 'r', NULL, 0, "Time the reference backend", 0},
    {0},
};

static double number(struct argp_state *state, const char *option, const char *text,
                     double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        argp_error(state, "--%s=%s not in [%g, %g]", option, text, low, high);
    return value;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 's':
        o->suite = text;
        return 0;
    case 't':
        o->threads = (int)number(state, "threads", text, 1, 256);
        return 0;
    case 'n':
        o->seconds = number(state, "seconds", text, 0, 3600);
        return 0;
    case 'v':
        o->variant = text;
        return 0;
    case 'r':
        o->backend = NATTEN_BACKEND_REFERENCE;
        return 0;
    case ARGP_KEY_ARGS:
        o->problems = state->argv + state->next;
        o->problem_count = state->argc - state->next;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Repeats for `seconds`, sorted; their number. In turn with sgemm, whose best GFLOP/s
 * are taken: what else the machine does meets both. */
static int time_runs(const subject *s, double seconds, double times[MOST_REPEATS],
                     double *sgemm)
{
    enum { ROUNDS = 8 };
    int count = 0;
    *sgemm = 0;
    for (int n = 0; n < ROUNDS; n++) {
        *sgemm = fmax(*sgemm, yardstick_sgemm());
        subject_run(s); /* warms up, and is left out */
        double start = yardstick_now();
        do {
            double begin = yardstick_now();
            subject_run(s);
            times[count++] = yardstick_now() - begin;
        } while (count < (n + 1) * MOST_REPEATS / ROUNDS &&
                 yardstick_now() - start < seconds / ROUNDS);
    }
    qsort(times, (size_t)count, sizeof *times, ascending);
    return count;
}

/* False after a failure or a wrong result, which a sentence on standard error tells. */
static bool bench(const options *o, const char *text)
{
    static double times[MOST_REPEATS];
    natten_problem_spec spec;
    subject s = {0};
    bool right = false;
    if (natten_problem_text_parse(text, &spec) != NATTEN_OK ||
        subject_make(&s, &spec, o->backend) != NATTEN_OK ||
        subject_run(&s) != NATTEN_OK) {
        fprintf(stderr, "natten-bench: %s: %s\n", text, natten_last_error());
    } else {
        double error = verify(&s), sgemm;
        int count = time_runs(&s, o->seconds, times, &sgemm);
        double gflops = 1e-9 * subject_flop(&s) / times[0];
        right = error <= 1;
        printf("%10.4f %10.4f %8.1f", 1e3 * times[0], 1e3 * times[count / 2], gflops);
        if (sgemm > 0)
            printf(" %7.1f %6.2f", sgemm, gflops / sgemm);
        else
            printf(" %7s %6s", "-", "-");
        printf(" %6.2f  %s\n", error, text);
        fflush(stdout);
        if (!right)
            fprintf(stderr, "natten-bench: %s: wrong: %g times the error allowed\n",
                    text, error);
    }
    subject_free(&s);
    return right;
}

static bool bench_suite(const options *o)
{
    char line[LINE_BYTES];
    bool right = true;
    FILE *file = fopen(o->suite, "r");
    if (!file) {
        perror(o->suite);
        return false;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] && line[0] != '#')
            right = bench(o, line) && right;
    }
    fclose(file);
    return right;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        argp_options, parse, "[PROBLEM]...", "Time neighborhood attention.", NULL,
        NULL,         NULL};
    options o = {.seconds = 1, .backend = NATTEN_BACKEND_AUTO};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (natten_set_num_threads(o.threads) != NATTEN_OK ||
        natten_set_cpu_variant(o.variant) != NATTEN_OK) {
        fprintf(stderr, "natten-bench: %s\n", natten_last_error());
        return 2;
    }
    if (!o.suite && o.problem_count == 0)
        o.suite = NATTEN_BENCH_SUITES "/cpu.txt";
    yardstick_open(natten_get_num_threads());
    printf("%d threads; variants: %s\n", natten_get_num_threads(),
           natten_cpu_variants());
    printf("%10s %10s %8s %7s %6s %6s  %s\n", "min ms", "median ms", "GFLOP/s", "sgemm",
           "ratio", "error", "problem");
    bool right = !o.suite || bench_suite(&o);
    for (int i = 0; i < o.problem_count; i++)
        right = bench(&o, o.problems[i]) && right;
    return right ? 0 : 1;
}
