/* SPDX-License-Identifier: MIT
 *
 * The judge judged: mistakes that a tolerance such as 1e-2 lets pass are planted into
 * right results, and each must be found in nine of ten trials at least (in some trials
 * a mistake changes nothing, as a wrong scale where only one key is seen).  Right
 * results pass, which is checked here for the same trials and in
 * numerics/check_accuracy.c for many more.       */
#include "support/judge.h"
#include "support/tap.h"

#include <math.h>
#include <stdlib.h>

enum { TRIALS = 60 };

static void run(trial *t)
{
    natten_status status = trial_run(t, NATTEN_BACKEND_REFERENCE);
    ck_assert_msg(status == NATTEN_OK, "%s: %s", natten_last_error(), trial_text(t));
}

static bool passes(const trial *t, const judgement *j)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (j->of[role].count > 0 &&
            judge_ratio(&j->of[role], &t->array[role], NULL) > 1)
            return false;
    return true;
}

/* ---- the mistakes: compute the trial's results, wrongly ---- */

typedef void mistake(trial *t);

static double scale_of(const trial *t)
{
    return t->params.has_scale ? t->params.scale : 1 / sqrt((double)t->spec.dim);
}

static void with_scale(trial *t, double scale)
{
    natten_params kept = t->params;
    t->params.has_scale = 1;
    t->params.scale = scale;
    run(t);
    t->params = kept;
}

static void takes_logits_for_powers_of_two(trial *t)
{
    with_scale(t, scale_of(t) * 0.6931471805599453);
}

static void gives_lse_in_base_two(trial *t)
{
    run(t);
    array *lse = &t->array[NATTEN_LSE];
    for (int64_t i = 0; i < array_count(lse); i++)
        array_set(lse, i, array_get(lse, i) * 1.4426950408889634);
}

static void is_off_by_a_percent_in_scale(trial *t)
{
    with_scale(t, scale_of(t) * 1.01);
}

static void leaves_the_last_row_to_chance(trial *t)
{
    run(t);
    natten_role role =
        t->spec.operation == NATTEN_FORWARD ? NATTEN_OUT : NATTEN_GRAD_QUERY;
    array *a = &t->array[role];
    int64_t width = a->shape[a->tensor.ndim - 1], count = array_count(a);
    for (int64_t i = count - width; i < count; i++)
        array_set(a, i, array_get(a, i - width) * 0.5 + 0.01);
}

/* Keep 11 bits, as tensor cores do with fp32 when they are allowed to. */
static void round_to_tf32(array *a)
{
    for (int64_t i = 0; i < array_count(a); i++) {
        int exponent;
        double fraction = frexp(array_get(a, i), &exponent);
        array_set(a, i, ldexp(nearbyint(ldexp(fraction, 11)), exponent - 11));
    }
}

static void multiplies_in_tf32(trial *t)
{
    static trial rounded;
    randoms r = {1};
    trial_copy(&rounded, t, ARRAY_COMPACT, &r);
    round_to_tf32(&rounded.array[NATTEN_QUERY]);
    round_to_tf32(&rounded.array[NATTEN_KEY]);
    run(&rounded);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (t->given[role] && trial_writes(t->spec.operation, role))
            array_assign(&t->array[role], &rounded.array[role]);
    trial_free(&rounded);
}

static void keeps_lse_in_bf16(trial *t)
{
    run(t);
    array *lse = &t->array[NATTEN_LSE];
    for (int64_t i = 0; i < array_count(lse); i++) {
        uint16_t bits = natten_dtype_bf16_from_double(array_get(lse, i));
        array_set(lse, i, (double)natten_dtype_bf16_to_float(bits));
    }
}

static void drops_grad_lse(trial *t)
{
    t->given[NATTEN_GRAD_LSE] = false;
    run(t);
    t->given[NATTEN_GRAD_LSE] = true;
}

static void drops_the_bias(trial *t)
{
    t->given[NATTEN_BIAS] = false;
    bool wanted = t->given[NATTEN_GRAD_BIAS];
    t->given[NATTEN_GRAD_BIAS] = false;
    run(t);
    t->given[NATTEN_BIAS] = true;
    t->given[NATTEN_GRAD_BIAS] = wanted;
}

/* The causal flags belong to the first and last axis the other way round. */
static void swaps_the_causal_axes(trial *t)
{
    natten_params kept = t->params;
    int last = t->params.rank - 1;
    t->params.is_causal[0] = kept.is_causal[last];
    t->params.is_causal[last] = kept.is_causal[0];
    run(t);
    t->params = kept;
}

static void shifts_a_window(trial *t)
{
    natten_params kept = t->params;
    t->params.stride[0] =
        2; /* the leader is one further: the window of every other query */
    run(t);
    t->params = kept;
}

static void lets_a_nan_through(trial *t)
{
    run(t);
    natten_role role =
        t->spec.operation == NATTEN_FORWARD ? NATTEN_OUT : NATTEN_GRAD_KEY;
    array_set(&t->array[role], array_count(&t->array[role]) / 2, NAN);
}

static void swallows_a_nan(trial *t)
{
    run(t);
    natten_role role =
        t->spec.operation == NATTEN_FORWARD ? NATTEN_OUT : NATTEN_GRAD_KEY;
    for (int64_t i = 0; i < array_count(&t->array[role]); i++)
        if (isnan(array_get(&t->array[role], i)))
            array_set(&t->array[role], i, 0);
}

/* ---- which trials a mistake matters in ---- */

typedef bool condition(const trial *t);

static bool several_keys(const trial *t)
{
    int64_t window = t->spec.extras;
    for (int a = 0; a < t->spec.rank; a++)
        window += t->spec.kernel_size[a] - 1;
    return window > 3 && scale_of(t) != 0;
}

static bool several_rows(const trial *t)
{
    int64_t rows = t->spec.heads * t->spec.batch;
    for (int a = 0; a < t->spec.rank; a++)
        rows *= t->spec.queries[a];
    return rows > 1;
}

static bool has_grad_lse(const trial *t)
{
    return t->spec.has_grad_lse && several_keys(t);
}

static bool has_bias(const trial *t)
{
    return t->spec.has_bias && several_keys(t);
}

static bool differs_in_causal(const trial *t)
{
    int last = t->spec.rank - 1;
    return t->spec.is_causal[0] != t->spec.is_causal[last] && t->spec.queries[0] > 2 &&
           t->spec.queries[last] > 2 && t->spec.kernel_size[0] > 1 &&
           t->spec.kernel_size[last] > 1;
}

/* There is room for the window to be elsewhere. */
static bool slides(const trial *t)
{
    return t->spec.stride[0] == 1 && !t->spec.is_causal[0] &&
           t->spec.kernel_size[0] > 1 &&
           t->spec.kernel_size[0] * t->spec.dilation[0] + 3 * t->spec.dilation[0] <=
               t->spec.queries[0] &&
           several_keys(t);
}

static bool has_nan(const trial *t)
{
    judgement j;
    judge_evaluate(t, &j);
    const verdict *v =
        &j.of[t->spec.operation == NATTEN_FORWARD ? NATTEN_OUT : NATTEN_GRAD_KEY];
    bool found = false;
    for (int64_t i = 0; i < v->count; i++)
        found = found || isnan(v->value[i]);
    judge_free(&j);
    return found;
}

static const struct planted {
    const char *what;
    mistake *plant;
    condition *matters;
    bool forward, backward;
    int dtype; /* -1: every type */
    profile profile;
} planted[] = {
    {"takes logits for powers of two", takes_logits_for_powers_of_two, several_keys,
     true, true, -1, PROFILE_NORMAL},
    {"gives lse in base two", gives_lse_in_base_two, several_keys, true, false, -1,
     PROFILE_NORMAL},
    {"is off by 1 % in scale", is_off_by_a_percent_in_scale, several_keys, true, false,
     -1, PROFILE_NORMAL},
    {"is off by 1 % in scale", is_off_by_a_percent_in_scale, several_keys, false, true,
     NATTEN_FP32, PROFILE_NORMAL},
    {"leaves the last row to chance", leaves_the_last_row_to_chance, several_rows, true,
     true, -1, PROFILE_NORMAL},
    {"multiplies in tf32", multiplies_in_tf32, several_keys, true, true, NATTEN_FP32,
     PROFILE_NORMAL},
    {"keeps lse in bf16", keeps_lse_in_bf16, several_keys, true, false, NATTEN_BF16,
     PROFILE_NORMAL},
    {"drops grad_lse", drops_grad_lse, has_grad_lse, false, true, -1, PROFILE_NORMAL},
    {"drops the bias", drops_the_bias, has_bias, true, true, -1, PROFILE_NORMAL},
    {"swaps the causal axes", swaps_the_causal_axes, differs_in_causal, true, true, -1,
     PROFILE_NORMAL},
    {"shifts a window", shifts_a_window, slides, true, true, -1, PROFILE_NORMAL},
    {"lets a NaN through", lets_a_nan_through, several_rows, true, true, -1,
     PROFILE_NORMAL},
    {"swallows a NaN", swallows_a_nan, has_nan, true, true, -1, PROFILE_NONFINITE},
};

static void check_plant(const struct planted *p, natten_operation operation)
{
    int tried = 0, found = 0;
    for (uint64_t seed = 1; seed < 4000 && tried < TRIALS; seed++) {
        trial_wish wish = TRIAL_ANY;
        wish.operation = (int)operation;
        wish.dtype = p->dtype;
        wish.profile = (int)p->profile;
        wish.part = 0;
        static trial t;
        trial_draw(&t, &wish, seed); /* most are of no use: look before making */
        if (p->matters != has_nan && !p->matters(&t))
            continue;
        trial_make(&t, &wish, seed);
        if (p->matters(&t)) {
            judgement j;
            judge_evaluate(&t, &j);
            tried++;
            run(&t);
            ck_assert_msg(passes(&t, &j), "a right result is refused: %s",
                          trial_text(&t));
            p->plant(&t);
            found += !passes(&t, &j);
            judge_free(&j);
        }
        trial_free(&t);
    }
    ck_assert_int_eq(tried, TRIALS);
    ck_assert_msg(found * 10 >= TRIALS * 9, "%s: found in %d of %d trials only",
                  p->what, found, TRIALS);
}

START_TEST(a_planted_mistake_is_found)
{
    const struct planted *p = &planted[_i];
    ck_assert(p->forward || p->backward);
    if (p->forward)
        check_plant(p, NATTEN_FORWARD);
    if (p->backward)
        check_plant(p, NATTEN_BACKWARD);
}
END_TEST

int main(void)
{
    int count = sizeof planted / sizeof planted[0];
    TCase *mistakes = tcase_create("mistakes");
    tcase_add_loop_test(mistakes, a_planted_mistake_is_found, 0, count);
    Suite *suite = suite_create("judge");
    suite_add_tcase(suite, mistakes);
    return tap_run(suite);
}
