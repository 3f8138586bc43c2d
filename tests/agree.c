/* SPDX-License-Identifier: MIT
 *
 * Do the backends agree with the definition?  Random problems of each rank, with every
 * option and value profile, done by every backend and variant; a table of the largest
 * error over its bound (docs/definition.md, section 12) of each result.  scripts/agree
 * runs it.
 *
 * Exit status: 0, 1 if anything is above 1 or fails, 2 for wrong usage, 3 if a backend
 * is asked for that isn't here. */
#include "base/status.h"
#include "cuda/cuda.h"
#include "support/judge.h"
#include "support/performers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What --backend takes. */
#define BACKENDS "{reference, cpu, cuda}"

static const char usage[] =
    "Usage: agree [OPTION VALUE]...\n"
    "Hold backends against the definition over random problems: prints, for each "
    "result of\n"
    "each operation, the largest error over its bound, which is at most 1.\n"
    "\n"
    "  --problems N   problems of each rank (default 300)\n"
    "  --seed N       of the first problem (default 1); a problem of seed N is always "
    "the same\n"
    "  --dtype T      fp64, fp32, bf16 or fp16 (default: all)\n"
    "  --rank R       1, 2 or 3 (default: all)\n"
    "  --backend B    of " BACKENDS " (default: all that this machine has)\n"
    "  --variant V    of the cpu backend (default: all that this machine has)\n"
    "  --help\n";

typedef struct options {
    long problems, seed;
    int dtype, rank; /* -1: all */
    int32_t backend; /* auto: all */
    const char *variant;
} options;

static int complain(const char *option, const char *value, const char *range)
{
    fprintf(stderr, "agree: %s=%s not in %s\n", option, value, range);
    return 2;
}

/* 0, or 2 after a sentence. */
static int read_number(const char *option, const char *text, long low, long high,
                       long *to)
{
    char *end, range[64];
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < low || value > high) {
        snprintf(range, sizeof range, "[%ld, %ld]", low, high);
        return complain(option, text, range);
    }
    *to = value;
    return 0;
}

static int read_dtype(const char *text, int *to)
{
    natten_dtype dtype;
    if (!natten_dtype_from_name(text, &dtype))
        return complain("--dtype", text, "{fp64, fp32, bf16, fp16}");
    *to = (int)dtype;
    return 0;
}

static int read_backend(const char *text, int32_t *to)
{
    if (natten_backend_from_name(text, to) != NATTEN_OK || *to == NATTEN_BACKEND_AUTO)
        return complain("--backend", text, BACKENDS);
    return 0;
}

static int read_variant(const char *text, const char **to)
{
    performer list[MOST_PERFORMERS];
    int count = performers_list(list);
    for (int n = 0; n < count; n++)
        if (list[n].backend == NATTEN_BACKEND_CPU &&
            strcmp(list[n].variant, text) == 0) {
            *to = text;
            return 0;
        }
    char range[128];
    snprintf(range, sizeof range, "{%s}", natten_cpu_variants());
    return complain("--variant", text, range);
}

static int read_option(const char *option, const char *value, options *o)
{
    long rank = o->rank;
    int status;
    if (strcmp(option, "--problems") == 0)
        return read_number(option, value, 1, 100000000, &o->problems);
    if (strcmp(option, "--seed") == 0)
        return read_number(option, value, 0, 1000000000, &o->seed);
    if (strcmp(option, "--dtype") == 0)
        return read_dtype(value, &o->dtype);
    if (strcmp(option, "--backend") == 0)
        return read_backend(value, &o->backend);
    if (strcmp(option, "--variant") == 0)
        return read_variant(value, &o->variant);
    if (strcmp(option, "--rank") == 0) {
        status = read_number(option, value, 1, 3, &rank);
        o->rank = (int)rank;
        return status;
    }
    fprintf(stderr, "agree: %s is no option; --help lists them\n", option);
    return 2;
}

/* The same for the one backend that a machine or a build may lack. */
static int find_gpu(void)
{
    if (natten_device_count() > 0)
        return -1;
    natten_gpu gpu = natten_gpu_get(0);
    natten_status_enter("agree");
    natten_status status = natten_cuda_is_built()
                               ? natten_gpu_check(&gpu)
                               : natten_status_fail(NATTEN_ERR_UNSUPPORTED,
                                                    "no CUDA kernels in this build");
    fprintf(stderr, "%s (--backend=cuda)\n",
            status != NATTEN_OK ? natten_last_error() : "agree: no GPU");
    return 3;
}

/* -1 to go on, else the exit status. */
static int read_options(int argc, char **argv, options *o)
{
    for (int n = 1; n < argc; n++) {
        char option[32];
        const char *equals = strchr(argv[n], '=');
        size_t length = equals != NULL ? (size_t)(equals - argv[n]) : strlen(argv[n]);
        if (strcmp(argv[n], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        snprintf(option, sizeof option, "%.*s", (int)length, argv[n]);
        const char *value = equals != NULL ? equals + 1 : argv[n + 1];
        static const char *const known[] = {"--problems", "--seed",    "--dtype",
                                            "--rank",     "--backend", "--variant"};
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            if (strcmp(option, known[k]) == 0 && value == NULL) {
                fprintf(stderr, "agree: %s needs a value\n", option);
                return 2;
            }
        int status = read_option(option, value, o);
        if (status != 0)
            return status;
        n += equals == NULL;
    }
    if (o->variant != NULL && o->backend != NATTEN_BACKEND_AUTO &&
        o->backend != NATTEN_BACKEND_CPU) {
        fprintf(stderr, "agree: --variant=%s goes with --backend=cpu only\n",
                o->variant);
        return 2;
    }
    return o->backend == NATTEN_BACKEND_CUDA ? find_gpu() : -1;
}

/* ---- the table ---- */

/* Largest error over its bound; -1 where there was none. */
typedef double table[TRIAL_OPERATIONS][NATTEN_ROLES][MOST_PERFORMERS];

static bool chosen(const options *o, const performer *p)
{
    if (o->backend != NATTEN_BACKEND_AUTO && o->backend != (int32_t)p->backend)
        return false;
    return o->variant == NULL || strcmp(o->variant, p->variant) == 0;
}

/* False if the call failed, wrote where it may not, or is out of bounds. */
static bool perform(trial *t, judgement *j, const performer *p, int column,
                    table errors)
{
    bool right = true;
    judge_turn_to(t, p->backend, j);
    performer_enter(p);
    if (trial_run(t, p->backend) != NATTEN_OK) {
        printf("%s fails: %s: %s\n", p->name, natten_last_error(), trial_text(t));
        return false;
    }
    const char *damage = trial_damage(t);
    if (damage != NULL) {
        printf("%s writes where it may not, at %s: %s\n", p->name, damage,
               trial_text(t));
        return false;
    }
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (j->of[role].count == 0)
            continue;
        double ratio = judge_ratio(&j->of[role], &t->array[role], NULL);
        double *largest = &errors[t->spec.operation][role][column];
        if (ratio > 1 && *largest <= 1) /* the first of its kind */
            printf("%s: %s is %.3g times its bound: %s\n", p->name, role_name(role),
                   ratio, trial_text(t));
        *largest = ratio > *largest ? ratio : *largest;
        right = right && ratio <= 1;
    }
    return right;
}

static void print_table(table errors, const performer *list, int count)
{
    static const char *const operations[TRIAL_OPERATIONS] = {
        "forward", "backward", "qk", "qk_backward", "av", "av_backward"};
    printf("%-12s %-23s", "", "");
    for (int p = 0; p < count; p++)
        printf(" %11s", list[p].name);
    printf("\n");
    for (int o = 0; o < TRIAL_OPERATIONS; o++)
        for (natten_role role = 0; role < NATTEN_ROLES; role++) {
            if (count == 0 || errors[o][role][0] < 0)
                continue;
            printf("%-12s %-23s", operations[o], role_name(role));
            for (int p = 0; p < count; p++)
                printf(" %11.3f", errors[o][role][p]);
            printf("\n");
        }
}

int main(int argc, char **argv)
{
    options o = {.problems = 300, .seed = 1, .dtype = -1, .rank = -1};
    o.backend = NATTEN_BACKEND_AUTO;
    int status = read_options(argc, argv, &o);
    if (status >= 0)
        return status;
    performer all[MOST_PERFORMERS], list[MOST_PERFORMERS];
    int count = 0, listed = performers_list(all);
    for (int n = 0; n < listed; n++)
        if (chosen(&o, &all[n]))
            list[count++] = all[n];

    static table errors;
    for (int op = 0; op < TRIAL_OPERATIONS; op++)
        for (int role = 0; role < NATTEN_ROLES; role++)
            for (int p = 0; p < MOST_PERFORMERS; p++)
                errors[op][role][p] = -1;
    bool right = true;
    long problems = 0;
    for (int rank = 1; rank <= 3; rank++)
        for (long n = 0; n < o.problems; n++) {
            if (o.rank > 0 && rank != o.rank)
                break;
            static trial t;
            judgement j;
            trial_wish wish = TRIAL_ANY;
            wish.rank = rank;
            wish.dtype = o.dtype;
            trial_make(&t, &wish, (uint64_t)(o.seed + n));
            judge_evaluate(&t, &j);
            for (int p = 0; p < count; p++)
                right = perform(&t, &j, &list[p], p, errors) && right;
            judge_free(&j);
            trial_free(&t);
            problems++;
        }
    printf("Largest error over its bound, %ld problems from seed %ld:\n\n", problems,
           o.seed);
    print_table(errors, list, count);
    printf("\n%s\n", right ? "All agree." : "They do not agree.");
    return right ? 0 : 1;
}
