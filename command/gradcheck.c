/* SPDX-License-Identifier: MIT
 *
 * natten gradcheck: analytic gradients against central differences, in fp64, through
 * the public interface alone.  The loss is the inner product of an operation's results
 * with fixed weights, which are its gradient's grad_out and grad_lse (or grad_attn).
 *
 * The differences are of fourth order: with a step of 2^-9 what they leave out is below
 * 1e-9 for data in [-2, 2) and windows of a few dozen keys, and rounding below 1e-10.
 * The bound, 1e-7 of 1 + the largest gradient, lies above both and far below any
 * mistake.    */
#include "gradcheck_data.h"

#include "report.h"

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
    int32_t backend;
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
    for (int i = 0; i < 2; i++) {
        const npy_array *result = &c->array[c->results[i]];
        const npy_array *weight = &c->array[c->weights[i]];
        const double *r = result->tensor.data, *w = weight->tensor.data;
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
static bool check_tensor(check *c, role input, role gradient)
{
    npy_array *values = &c->array[input], *slopes = &c->array[gradient];
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
           role_name(gradient), fine ? "Ok   " : "WRONG", error, limit, tried,
           values->count);
    return fine;
}

/* Sets *fine; returns an exit status for what is no wrong gradient. */
static int check_problem(const gradchecking *g, const char *text, bool *fine)
{
    check c;
    const char *token;
    problem asked;
    if (!problem_parse(&asked, text, &token))
        return command_fail(EXIT_USAGE, "'%s': %s%s", text,
                            *token ? "not understood from " : "something is missing",
                            token);
    if (asked.kind != ELEMENT_FP64)
        return command_fail(EXIT_USAGE, "'%s': differences need fp64", text);
    asked.params.backend = g->backend;
    int status = check_create(&c, &asked);
    if (!status)
        status = command_check(check_forward(&c));
    if (!status)
        status = command_check(check_backward(&c));
    if (!status) {
        printf("%s\n", text);
        for (int i = 0; i < c.pairs; i++) {
            double *slope = c.array[c.gradients[i]].tensor.data;
            slope[0] += g->spoil ? 0.001 : 0;
            *fine &= check_tensor(&c, c.inputs[i], c.gradients[i]);
            if (command_interrupted())
                status = EXIT_IO;
        }
    }
    check_destroy(&c);
    return status;
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
        char random[256];
        if (!g.texts)
            check_random_text(random, sizeof random, (uint32_t)(g.seed * 1000 + i));
        status = check_problem(&g, g.texts ? g.text[i] : random, &fine);
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
