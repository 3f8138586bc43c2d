/* SPDX-License-Identifier: MIT
 *
 * natten gradcheck: analytic gradients against central differences, in fp64, through
 * the public interface alone.  The loss is the inner product of an operation's results
 * with fixed weights, which are its gradient's grad_out and grad_lse (or grad_attn).
 *
 * The differences are of fourth order: with a step of 2^-9 what they leave out is below
 * 1e-9 for data in [-2, 2) and windows of a few dozen keys, and rounding below 1e-10.
 * The bound, 1e-7 of 1 + the largest gradient, lies above both and far below any
 * mistake. */
#include "base/status.h"
#include "command.h"
#include "gradcheck_data.h"
#include "options.h"
#include "problem/roles.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double step = 1.0 / 512;
static const double bound = 1e-7;
/* Elements of each tensor that are tried, spread over it. */
enum { TRIED = 40 };

typedef struct gradchecking {
    const char **text;
    int texts;
    int64_t count, seed;
    bool spoil;
} gradchecking;

enum { KEY_COUNT = KEY_OWN, KEY_SEED, KEY_SPOIL };

static const struct argp_option table[] = {
    {"count", KEY_COUNT, "N", 0, "random problems, where no text is given [4]", 0},
    {"seed", KEY_SEED, "N", 0, "of the random problems [1]", 0},
    {"spoil", KEY_SPOIL, NULL, 0,
     "add 0.001 to one element of every gradient, to see the check fail", 0},
    {0}};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    gradchecking *g = state->input;
    switch (key) {
    case KEY_COUNT:
        g->count = options_integer(state, "--count", argument, 1, 1000);
        return 0;
    case KEY_SEED:
        g->seed = options_integer(state, "--seed", argument, 0, INT32_MAX);
        return 0;
    case KEY_SPOIL:
        g->spoil = true;
        return 0;
    case ARGP_KEY_ARG:
        g->text[g->texts++] = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    table,
    parse,
    "[PROBLEM...]",
    "Hold the gradients of attention, of qk and of av against finite differences in "
    "fp64."
    "\vA problem is a line of text such as 'bwd fp64 b1 h2 d3 7x5 w3x3 causal01 bias "
    "dlse', "
    "one argument each; without any, random ones are made.  The exit status is 1 if a "
    "gradient is wrong.",
    NULL,
    NULL,
    NULL};

/* The operation's results for the present data, times the weights; NaN on failure. */
static double loss(check *c)
{
    long double sum = 0;
    if (check_forward(c) != NATTEN_OK)
        return (double)NAN;
    for (int i = 0; i < CHECK_PAIRS; i++) {
        const npy_array *result = &c->array[check_pairs[i].tensor];
        const npy_array *weight = &c->array[check_pairs[i].gradient];
        const double *r = result->tensor.data, *w = weight->tensor.data;
        if (!check_is_result(c, check_pairs[i].tensor))
            continue;
        for (int64_t e = 0; r && w && e < result->count; e++)
            if (isfinite(r[e])) /* empty slots of qk hold -inf */
                sum += (long double)r[e] * (long double)w[e];
    }
    return (double)sum;
}

/* d loss / d element, by fourth-order central differences. */
static double difference(check *c, double *at)
{
    static const struct {
        double at, factor;
    } points[] = {{-2, 1}, {-1, -8}, {1, 8}, {2, -1}};
    double before = *at, sum = 0;
    for (int i = 0; i < 4; i++) {
        *at = before + points[i].at * step;
        sum += points[i].factor * loss(c);
    }
    *at = before;
    return sum / (12 * step);
}

/* One tensor's line; false if it is wrong. */
static bool check_tensor(check *c, const check_pair *pair)
{
    npy_array *values = &c->array[pair->tensor], *slopes = &c->array[pair->gradient];
    double *x = values->tensor.data, largest = 0, error = 0;
    const double *slope = slopes->tensor.data;
    int64_t tried = values->count < TRIED ? values->count : TRIED;
    for (int64_t e = 0; e < slopes->count; e++)
        largest = fabs(slope[e]) > largest ? fabs(slope[e]) : largest;
    for (int64_t i = 0; i < tried; i++) {
        int64_t e = i * values->count / tried;
        double wrong = fabs(difference(c, &x[e]) - slope[e]);
        /* Written so that a NaN counts as wrong. */
        error = !(wrong <= error) ? wrong : error;
    }
    double limit = bound * (1 + largest);
    bool fine = error <= limit;
    printf("  %-22s %s  largest error %.1e of %.1e, %" PRId64 " of %" PRId64
           " elements\n",
           natten_roles_info(pair->gradient)->name, fine ? "Ok   " : "WRONG", error,
           limit, tried, values->count);
    return fine;
}

/* Every gradient that the problem has; false if one is wrong. */
static bool check_tensors(const gradchecking *g, check *c)
{
    bool fine = true;
    for (int i = 0; i < CHECK_PAIRS && !command_interrupted(); i++) {
        const npy_array *gradient = &c->array[check_pairs[i].gradient];
        double *slope = gradient->tensor.data;
        if (!slope || check_is_result(c, check_pairs[i].tensor))
            continue;
        if (g->spoil && gradient->count)
            slope[0] += 0.001;
        fine &= check_tensor(c, &check_pairs[i]);
    }
    return fine;
}

/* Sets *fine; returns an exit status for what is no wrong gradient. */
static int check_problem(const gradchecking *g, const natten_problem_spec *asked,
                         bool *fine)
{
    check c;
    char text[NATTEN_PROBLEM_TEXT_BYTES];
    natten_problem_text_print(asked, text);
    if (asked->dtype != NATTEN_FP64)
        return command_fail(EXIT_USAGE, "'%s': differences need fp64", text);
    int status = check_create(&c, asked);
    if (!status)
        status = command_check(check_forward(&c));
    if (!status)
        status = command_check(check_backward(&c));
    if (!status) {
        printf("%s\n", text);
        *fine &= check_tensors(g, &c);
        status = command_interrupted() ? EXIT_IO : EXIT_FINE;
    }
    check_destroy(&c);
    return status;
}

/* Problem `i`: of those that were named, or a random one. */
static int get_problem(const gradchecking *g, int64_t i, natten_problem_spec *asked)
{
    if (!g->texts) {
        *asked = check_random_problem((uint32_t)(g->seed * 1000 + i));
        return EXIT_FINE;
    }
    if (natten_problem_text_parse(g->text[i], asked) == NATTEN_OK)
        return EXIT_FINE;
    /* "natten: problem text at ...": who says so is known. */
    const char *sentence = strchr(natten_status_sentence(), ':');
    return command_fail(EXIT_USAGE, "'%s'%s", g->text[i], sentence);
}

int command_gradcheck(int argc, char **argv)
{
    gradchecking g = {.count = 4, .seed = 1};
    bool fine = true;
    int status = EXIT_FINE;
    g.text = calloc((size_t)argc, sizeof *g.text);
    if (!g.text)
        return command_fail(EXIT_IO, "out of memory");
    argp_parse(&argp, argc, argv, 0, NULL, &g);
    int64_t problems = g.texts ? g.texts : g.count;
    for (int64_t i = 0; i < problems && !status; i++) {
        natten_problem_spec asked;
        status = get_problem(&g, i, &asked);
        if (!status)
            status = check_problem(&g, &asked, &fine);
    }
    free(g.text);
    if (status)
        return status;
    if (!fine)
        return command_fail(EXIT_WRONG, "gradients are wrong");
    printf("Gradients Ok: %" PRId64 " %s\n", problems,
           problems == 1 ? "problem" : "problems");
    return EXIT_FINE;
}
