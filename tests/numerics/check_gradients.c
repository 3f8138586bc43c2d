/* SPDX-License-Identifier: MIT
 *
 * Gradients against central differences, in double, through the public API: the
 * derivative of L = <grad_out, out> + <grad_lse, lse> along a coordinate, and along a
 * random direction in all elements of a tensor at once, for random combinations of
 * every option.            */
#include "support/performers.h"
#include "support/tap.h"
#include "support/trial.h"

#include <stdlib.h>

/* Combinations of options; coordinates tried of each tensor; the step. */
enum { COMBINATIONS = 220, COORDINATES = 3, FEW_PAIRS = 400 };
static const double STEP = 1e-5;
/* Central differences in double err by STEP^2 |f'''| / 6, about 2e-11 |f'''|, and by
 * the loss's rounding over STEP: a sum of up to some thousand terms of order 1 whose
 * errors add up to 1e-13 or so, hence 1e-8.  Wide logits make f''' thousands. */
static const double TOLERANCE = 1e-6;

typedef struct input {
    natten_role input, grad;
} input;

static const input inputs[] = {
    {NATTEN_QUERY, NATTEN_GRAD_QUERY},
    {NATTEN_KEY, NATTEN_GRAD_KEY},
    {NATTEN_VALUE, NATTEN_GRAD_VALUE},
    {NATTEN_BIAS, NATTEN_GRAD_BIAS},
    {NATTEN_ADDITIONAL_KEYS, NATTEN_GRAD_ADDITIONAL_KEYS},
    {NATTEN_ADDITIONAL_VALUES, NATTEN_GRAD_ADDITIONAL_VALUES},
};

/* What is differentiated. Writes the trial's out and lse. */
static double loss(trial *t)
{
    natten_status status = natten_forward(
        &t->params, trial_tensor(t, NATTEN_QUERY), trial_tensor(t, NATTEN_KEY),
        trial_tensor(t, NATTEN_VALUE), trial_tensor(t, NATTEN_BIAS),
        trial_tensor(t, NATTEN_ADDITIONAL_KEYS),
        trial_tensor(t, NATTEN_ADDITIONAL_VALUES), trial_tensor(t, NATTEN_OUT),
        trial_tensor(t, NATTEN_LSE), NULL, 0, NULL);
    ck_assert_msg(status == NATTEN_OK, "%s: %s", natten_last_error(), trial_text(t));
    double sum = 0;
    for (int64_t i = 0; i < array_count(&t->array[NATTEN_OUT]); i++)
        sum += array_get(&t->array[NATTEN_OUT], i) *
               array_get(&t->array[NATTEN_GRAD_OUT], i);
    /* A query that sees nothing has lse -inf, whatever the inputs. */
    for (int64_t i = 0;
         t->given[NATTEN_GRAD_LSE] && i < array_count(&t->array[NATTEN_LSE]); i++)
        if (isfinite(array_get(&t->array[NATTEN_LSE], i)))
            sum += array_get(&t->array[NATTEN_LSE], i) *
                   array_get(&t->array[NATTEN_GRAD_LSE], i);
    return sum;
}

/* Derivative of the loss along `direction` in tensor `a`, whose values are `at`. */
static double slope(trial *t, array *a, const double *at, const double *direction)
{
    double side[2];
    int64_t count = array_count(a);
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < count; i++)
            array_set(a, i, at[i] + (s == 0 ? STEP : -STEP) * direction[i]);
        side[s] = loss(t);
    }
    for (int64_t i = 0; i < count; i++)
        array_set(a, i, at[i]);
    return (side[0] - side[1]) / (2 * STEP);
}

static void check_input(trial *t, const input *in, const performer *p, randoms *r)
{
    array *a = &t->array[in->input];
    int64_t count = array_count(a);
    double *at = malloc((size_t)count * sizeof *at);
    double *direction = malloc((size_t)count * sizeof *direction);
    ck_assert(at != NULL && direction != NULL);
    for (int64_t i = 0; i < count; i++)
        at[i] = array_get(a, i);
    for (int n = 0; n <= COORDINATES; n++) {
        double length = 0, analytic = 0;
        int64_t only = n == 0 ? -1 : random_int(r, 0, count - 1);
        for (int64_t i = 0; i < count; i++) {
            direction[i] = only >= 0 ? i == only : random_normal(r);
            length += direction[i] * direction[i];
        }
        for (int64_t i = 0; i < count; i++) {
            direction[i] /= sqrt(length);
            analytic += direction[i] * array_get(&t->array[in->grad], i);
        }
        double numeric = slope(t, a, at, direction);
        ck_assert_msg(fabs(numeric - analytic) <= TOLERANCE * (1 + fabs(numeric)),
                      "%s: %s along %lld: %.12g, differences say %.12g: %s", p->name,
                      role_name(in->grad), (long long)only, analytic, numeric,
                      trial_text(t));
    }
    free(at);
    free(direction);
}

START_TEST(gradients_are_the_slopes_of_forward)
{
    performer list[MOST_PERFORMERS];
    int count = performers_on_host(list);
    for (int n = 0; n < test_effort(COMBINATIONS); n++) {
        /* The reference and the variants take turns. */
        const performer *p = &list[n % count];
        performer_enter(p);
        trial_wish wish = TRIAL_ANY;
        wish.operation = NATTEN_BACKWARD;
        wish.dtype = NATTEN_FP64;
        wish.profile = PROFILE_NORMAL;
        wish.pairs = FEW_PAIRS;
        wish.layout = 0; /* broadcast inputs can't be moved one element at a time */
        static trial t;
        trial_make(&t, &wish, (uint64_t)(9000000 + n));
        t.params.backend = (int32_t)p->backend;
        loss(&t); /* out and lse */
        natten_status status = trial_run(&t, p->backend);
        ck_assert_msg(status == NATTEN_OK, "%s: %s", natten_last_error(),
                      trial_text(&t));
        randoms r = {(uint64_t)n};
        for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++)
            if (t.given[inputs[i].input] && array_count(&t.array[inputs[i].input]) > 0)
                check_input(&t, &inputs[i], p, &r);
        trial_free(&t);
    }
    performers_leave();
}
END_TEST

int main(void)
{
    TCase *differences = tcase_create("differences");
    tcase_add_test(differences, gradients_are_the_slopes_of_forward);
    Suite *suite = suite_create("gradients");
    suite_add_tcase(suite, differences);
    return tap_run(suite);
}
