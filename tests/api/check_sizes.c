/* SPDX-License-Identifier: MIT
 *
 * Sizes that callers ask for: core/api/sizes.c. */
#include <natten.h>

#include "support/tap.h"

static natten_params params_of(int rank, int64_t z, int64_t y, int64_t x)
{
    natten_params p;
    ck_assert_int_eq(natten_params_init(&p, sizeof p, rank), NATTEN_OK);
    p.kernel_size[0] = z, p.kernel_size[1] = y, p.kernel_size[2] = x;
    return p;
}

START_TEST(slots_are_the_product_of_the_window_and_the_additional_tokens)
{
    int64_t shape[] = {2, 4, 3, 5}, slots = -7;
    natten_tensor extras = {.ndim = 4, .shape = shape};
    natten_params p = params_of(1, 9, 0, 0); /* sizes past the rank are ignored */
    ck_assert_int_eq(natten_attn_slots(&p, NULL, &slots), NATTEN_OK);
    ck_assert_int_eq(slots, 9);
    p = params_of(3, 3, 5, 7);
    ck_assert_int_eq(natten_attn_slots(&p, &extras, &slots), NATTEN_OK);
    ck_assert_int_eq(slots, 3 * 5 * 7 + 4);
}
END_TEST

static void refused(natten_params p, const natten_tensor *extras, natten_status status,
                    const char *sentence)
{
    int64_t slots = -7;
    ck_assert_int_eq(natten_attn_slots(&p, extras, &slots), status);
    ck_assert_str_eq(natten_last_error(), sentence);
    ck_assert_int_eq(slots, -7);
}

START_TEST(slots_that_no_call_has_are_refused_by_name)
{
    int64_t shape[] = {2, -1, 3, 5};
    natten_tensor negative = {.ndim = 4, .shape = shape}, flat = {.ndim = 3};
    refused(params_of(2, 3, 0, 0), NULL, NATTEN_ERR_ARGUMENT,
            "natten_attn_slots: kernel_size[width]=0 not in [1, 2147483647]");
    refused(params_of(3, INT32_MAX, INT32_MAX, INT32_MAX), NULL, NATTEN_ERR_OVERFLOW,
            "natten_attn_slots: the product of kernel_size, plus extras, does not fit "
            "in 63 bits");
    refused(params_of(1, 3, 0, 0), &flat, NATTEN_ERR_SHAPE,
            "natten_attn_slots: additional.ndim=3 not in [4, 4]");
    refused(params_of(1, 3, 0, 0), &negative, NATTEN_ERR_SHAPE,
            "natten_attn_slots: additional[extras]=-1 not in [0, 9223372036854775807]");
    natten_params p = params_of(1, 3, 0, 0);
    ck_assert_int_eq(natten_attn_slots(&p, NULL, NULL), NATTEN_ERR_ARGUMENT);
    int64_t slots;
    ck_assert_int_eq(natten_attn_slots(NULL, NULL, &slots), NATTEN_ERR_ARGUMENT);
}
END_TEST

START_TEST(attention_is_as_long_as_the_longer_and_never_empty)
{
    ck_assert_int_eq(natten_attention_length(3, 5), 5);
    ck_assert_int_eq(natten_attention_length(5, 3), 5);
    ck_assert_int_eq(natten_attention_length(0, 0), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sizes");
    TCase *tests = tcase_create("sizes");
    tcase_add_test(tests,
                   slots_are_the_product_of_the_window_and_the_additional_tokens);
    tcase_add_test(tests, slots_that_no_call_has_are_refused_by_name);
    tcase_add_test(tests, attention_is_as_long_as_the_longer_and_never_empty);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
