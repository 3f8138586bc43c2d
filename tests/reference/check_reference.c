/* SPDX-License-Identifier: MIT
 *
 * The rows that the definition treats by name, with results that can be written down by
 * hand, for the reference and for every variant: rows that see nothing, logits of -inf,
 * +inf and NaN, a value that is not finite, bias that forbids, zero batches; and that a
 * long single-threaded call can be stopped.  With the judge in
 * numerics/check_accuracy.c this is the test of core/reference/fused.c,
 * core/reference/gradients.c, core/reference/pair.c and core/reference/unfused.c. */
#include "reference/reference.h"

#include "support/performers.h"
#include "support/tap.h"

#include <math.h>

static performer performers[MOST_PERFORMERS];
static int performer_count;

/* A 1-D problem of TOKENS tokens, one head, D = Dv = 1, with views on plain arrays. */
enum { TOKENS = 4, WINDOW = 3, EXTRAS = 1, BIASES = 2 * WINDOW - 1, SLOTS = WINDOW };

typedef struct small {
    natten_params params;
    double query[TOKENS], key[TOKENS], value[TOKENS], bias[BIASES];
    double out[TOKENS], lse[TOKENS], grad_out[TOKENS];
    double grad_query[TOKENS], grad_key[TOKENS], grad_value[TOKENS], grad_bias[BIASES];
} small;

static int64_t token_shape[] = {1, TOKENS, 1, 1};
static int64_t bias_shape[] = {1, BIASES};
static int64_t no_shape[] = {0, TOKENS, 1, 1};

static natten_tensor view(double *data, int64_t *shape, int32_t ndim)
{
    return (natten_tensor){
        .data = data,
        .device_type = NATTEN_CPU,
        .ndim = ndim,
        .dtype_code = NATTEN_FLOAT,
        .dtype_bits = 64,
        .dtype_lanes = 1,
        .shape = shape,
    };
}

/* q = 1, k = 0, v = 1 2 3 4, no bias, grad_out = 1: every logit is 0. */
static small plain(void)
{
    small s;
    natten_params_init(&s.params, sizeof s.params, 1);
    s.params.kernel_size[0] = WINDOW;
    for (int i = 0; i < TOKENS; i++) {
        s.query[i] = s.grad_out[i] = 1;
        s.key[i] = 0;
        s.value[i] = i + 1;
    }
    for (int i = 0; i < BIASES; i++)
        s.bias[i] = 0;
    return s;
}

static void run(small *s, const performer *p)
{
    performer_enter(p);
    s->params.backend = (int32_t)p->backend;
    natten_tensor query = view(s->query, token_shape, 4),
                  key = view(s->key, token_shape, 4);
    natten_tensor value = view(s->value, token_shape, 4),
                  bias = view(s->bias, bias_shape, 2);
    natten_tensor out = view(s->out, token_shape, 4),
                  lse = view(s->lse, token_shape, 3);
    natten_tensor grad_out = view(s->grad_out, token_shape, 4);
    natten_tensor grad_query = view(s->grad_query, token_shape, 4);
    natten_tensor grad_key = view(s->grad_key, token_shape, 4);
    natten_tensor grad_value = view(s->grad_value, token_shape, 4);
    natten_tensor grad_bias = view(s->grad_bias, bias_shape, 2);
    ck_assert_int_eq(natten_forward(&s->params, &query, &key, &value, &bias, NULL, NULL,
                                    &out, &lse, NULL, 0, NULL),
                     NATTEN_OK);
    ck_assert_int_eq(natten_backward(&s->params, &query, &key, &value, &bias, NULL,
                                     NULL, &out, &lse, &grad_out, NULL, &grad_query,
                                     &grad_key, &grad_value, &grad_bias, NULL, NULL,
                                     NULL, 0, NULL),
                     NATTEN_OK);
}

static void near(double got, double want)
{
    ck_assert_double_eq_tol(got, want, 1e-14);
}

START_TEST(equal_logits_give_the_mean_of_the_window)
{
    small s = plain();
    run(&s, &performers[_i]);
    const double mean[TOKENS] = {2, 2, 3, 3};
    for (int i = 0; i < TOKENS; i++) {
        near(s.out[i], mean[i]);
        near(s.lse[i], log(3));
    }
    /* Seen by 2, 4, 4 and 2 queries that weigh it 1/3. */
    near(s.grad_value[0], 2.0 / 3);
    near(s.grad_value[1], 4.0 / 3);
    /* dS = (v - mean) / 3, for the two queries that see the first key. */
    near(s.grad_key[0], 2 * (1.0 - 2) / 3);
}
END_TEST

START_TEST(a_row_of_minus_infinity_is_zero_and_has_no_gradient)
{
    small s = plain();
    for (int i = 0; i < BIASES; i++)
        s.bias[i] = -HUGE_VAL;
    s.value[1] = NAN; /* not even 0 times this */
    s.grad_out[2] = HUGE_VAL;
    run(&s, &performers[_i]);
    for (int i = 0; i < TOKENS; i++) {
        ck_assert(s.out[i] == 0 && s.lse[i] == -HUGE_VAL);
        ck_assert(s.grad_query[i] == 0 && s.grad_key[i] == 0 && s.grad_value[i] == 0);
    }
    for (int i = 0; i < BIASES; i++)
        ck_assert(s.grad_bias[i] == 0);
}
END_TEST

START_TEST(a_very_negative_logit_is_not_minus_infinity)
{
    small s = plain();
    for (int i = 0; i < BIASES; i++)
        s.bias[i] = -1e300;
    run(&s, &performers[_i]);
    near(s.out[0], 2);
    ck_assert(s.lse[0] == -1e300);
}
END_TEST

START_TEST(a_forbidden_key_has_no_weight)
{
    small s = plain();
    s.bias[WINDOW - 1] = -HUGE_VAL; /* nobody sees itself */
    run(&s, &performers[_i]);
    near(s.out[0], 2.5); /* of 2 and 3 */
    near(s.out[1], 2);   /* of 1 and 3 */
    near(s.lse[1], log(2));
    ck_assert(s.grad_bias[WINDOW - 1] == 0);
}
END_TEST

START_TEST(a_nan_or_an_infinite_logit_makes_its_rows_nan_and_no_others)
{
    const double bad[] = {NAN, HUGE_VAL};
    for (int n = 0; n < 2; n++) {
        small s = plain();
        s.key[0] = bad[n]; /* seen by queries 0 and 1 */
        run(&s, &performers[_i]);
        for (int i = 0; i < TOKENS; i++) {
            ck_assert_int_eq(isnan(s.out[i]) != 0, i < 2);
            ck_assert_int_eq(isnan(s.lse[i]) != 0, i < 2);
            ck_assert_int_eq(isnan(s.grad_query[i]) != 0, i < 2);
        }
        /* Queries 2 and 3 see keys 1 to 3; only they see key 3. */
        near(s.out[2], 3);
        near(s.grad_value[3], 2.0 / 3);
        near(s.grad_key[3], 2 * (4.0 - 3) / 3);
    }
}
END_TEST

START_TEST(an_infinite_value_reaches_those_who_see_it_and_no_others)
{
    small s = plain();
    s.value[3] = HUGE_VAL; /* seen by queries 2 and 3 */
    run(&s, &performers[_i]);
    near(s.out[0], 2);
    near(s.out[1], 2);
    ck_assert(!isfinite(s.out[2]) && !isfinite(s.out[3]));
    for (int i = 0; i < TOKENS; i++)
        near(s.lse[i], log(3));
    near(s.grad_key[0], 2 * (1.0 - 2) / 3);
    near(s.grad_value[3], 2.0 / 3);
}
END_TEST

START_TEST(a_part_that_holds_no_visible_key_gives_zero_and_minus_infinity)
{
    small s = plain();
    s.params.is_causal[0] = 1;
    s.params.grid_length[0] = 2 * TOKENS;
    s.params.key_begin[0] = TOKENS; /* all keys are in the future */
    run(&s, &performers[_i]);
    for (int i = 0; i < TOKENS; i++) {
        ck_assert(s.out[i] == 0 && s.lse[i] == -HUGE_VAL);
        ck_assert(s.grad_query[i] == 0 && s.grad_key[i] == 0 && s.grad_value[i] == 0);
    }
}
END_TEST

START_TEST(empty_slots_hold_minus_infinity_and_have_no_gradient)
{
    performer_enter(&performers[_i]);
    small s = plain();
    double attn[TOKENS * SLOTS], grad_attn[TOKENS * SLOTS];
    int64_t attn_shape[] = {1, TOKENS, 1, SLOTS};
    s.params.is_causal[0] = 1;
    s.params.backend = (int32_t)performers[_i].backend;
    natten_tensor query = view(s.query, token_shape, 4),
                  key = view(s.key, token_shape, 4);
    natten_tensor value = view(s.value, token_shape, 4);
    natten_tensor out = view(s.out, token_shape, 4);
    natten_tensor grad_out = view(s.grad_out, token_shape, 4);
    natten_tensor weights = view(attn, attn_shape, 4);
    natten_tensor grad_weights = view(grad_attn, attn_shape, 4);
    natten_tensor grad_value = view(s.grad_value, token_shape, 4);
    ck_assert_int_eq(
        natten_qk(&s.params, &query, &key, NULL, NULL, &weights, NULL, 0, NULL),
        NATTEN_OK);
    for (int i = 0; i < TOKENS; i++)
        for (int t = 0; t < SLOTS; t++) {
            bool seen =
                t <= i; /* query 0 sees one key, query 1 two, the others three */
            ck_assert(attn[i * SLOTS + t] == (seen ? 0 : -HUGE_VAL));
            attn[i * SLOTS + t] = seen ? 1 : NAN;
        }
    ck_assert_int_eq(natten_av(&s.params, &weights, &value, NULL, &out, NULL, 0, NULL),
                     NATTEN_OK);
    ck_assert(s.out[0] == 1 && s.out[1] == 3 && s.out[2] == 6 && s.out[3] == 9);
    ck_assert_int_eq(natten_av_backward(&s.params, &weights, &value, NULL, &grad_out,
                                        &grad_weights, &grad_value, NULL, NULL, 0,
                                        NULL),
                     NATTEN_OK);
    for (int i = 0; i < TOKENS; i++)
        for (int t = 0; t < SLOTS; t++) {
            double first = i < SLOTS ? 1 : i - SLOTS + 2; /* value of slot 0 */
            ck_assert(grad_attn[i * SLOTS + t] == (t <= i ? first + t : 0));
        }
    ck_assert(s.grad_value[0] == 3 && s.grad_value[3] == 1);
}
END_TEST

START_TEST(a_batch_of_zero_touches_nothing)
{
    performer_enter(&performers[_i]);
    small s = plain();
    s.params.backend = (int32_t)performers[_i].backend;
    natten_tensor none = view(NULL, no_shape, 4);
    ck_assert_int_eq(natten_forward(&s.params, &none, &none, &none, NULL, NULL, NULL,
                                    &none, NULL, NULL, 0, NULL),
                     NATTEN_OK);
}
END_TEST

/* ---- stopping ---- */

static int32_t stop_at_once(void *asked)
{
    ++*(int *)asked;
    return 1;
}

START_TEST(the_reference_can_be_stopped)
{
    int asked = 0;
    small s = plain();
    s.params.backend = NATTEN_BACKEND_REFERENCE;
    natten_tensor query = view(s.query, token_shape, 4),
                  out = view(s.out, token_shape, 4);
    natten_set_cancel_callback(stop_at_once, &asked);
    natten_status status = natten_forward(&s.params, &query, &query, &query, NULL, NULL,
                                          NULL, &out, NULL, NULL, 0, NULL);
    natten_set_cancel_callback(NULL, NULL);
    ck_assert_int_eq(status, NATTEN_ERR_INTERRUPTED);
    ck_assert_int_ge(asked, 1);
}
END_TEST

int main(void)
{
    performer_count = performers_on_host(performers);
    TCase *rows = tcase_create("rows");
    const TTest *tests[] = {
        equal_logits_give_the_mean_of_the_window,
        a_row_of_minus_infinity_is_zero_and_has_no_gradient,
        a_very_negative_logit_is_not_minus_infinity,
        a_forbidden_key_has_no_weight,
        a_nan_or_an_infinite_logit_makes_its_rows_nan_and_no_others,
        an_infinite_value_reaches_those_who_see_it_and_no_others,
        a_part_that_holds_no_visible_key_gives_zero_and_minus_infinity,
        empty_slots_hold_minus_infinity_and_have_no_gradient,
        a_batch_of_zero_touches_nothing,
    };
    for (size_t n = 0; n < sizeof tests / sizeof tests[0]; n++)
        tcase_add_loop_test(rows, tests[n], 0, performer_count);
    TCase *stopping = tcase_create("stopping");
    tcase_add_test(stopping, the_reference_can_be_stopped);
    Suite *suite = suite_create("reference");
    suite_add_tcase(suite, rows);
    suite_add_tcase(suite, stopping);
    return tap_run(suite);
}
