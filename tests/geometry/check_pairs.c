/* SPDX-License-Identifier: MIT
 *
 * Counting pairs: core/geometry/pairs.c, held against the window rule query by query.
 */
#include "geometry/pairs.h"

#include "support/random.h"
#include "support/tap.h"

#include <time.h>

static int64_t count(const natten_axis *axis)
{
    int64_t pairs = 0;
    for (int32_t r = 0; r < axis->dilation; r++) {
        natten_class c = natten_axis_class(axis, r);
        for (int32_t g = c.queries.begin; g < c.queries.end; g++) {
            natten_span keys = natten_class_keys(&c, g);
            pairs += keys.end - keys.begin;
        }
    }
    return pairs;
}

START_TEST(pairs_of_every_short_whole_axis_are_those_of_its_windows)
{
    for (int32_t n = 1; n <= 16; n++)
        for (int32_t k = 1; k <= n; k++)
            for (int32_t d = 1; k * d <= n; d++)
                for (int32_t s = 1; s <= k; s++)
                    for (int causal = 0; causal < 2; causal++) {
                        natten_axis a = {n, k, s, d, causal, 0, n, 0, n};
                        ck_assert_int_eq(natten_pairs_on_axis(&a), count(&a));
                    }
}
END_TEST

START_TEST(pairs_of_parts_are_those_of_their_windows)
{
    randoms r = {1};
    for (int i = 0; i < 50000; i++) {
        natten_axis a = {.length = (int32_t)random_int(&r, 1, 60)};
        a.window = (int32_t)random_int(&r, 1, a.length);
        a.dilation = (int32_t)random_int(&r, 1, a.length / a.window);
        a.stride = (int32_t)random_int(&r, 1, a.window);
        a.causal = random_once_in(&r, 2);
        a.query_begin = (int32_t)random_int(&r, 0, a.length - 1);
        a.query_count = (int32_t)random_int(&r, 0, a.length - a.query_begin);
        a.key_begin = (int32_t)random_int(&r, 0, a.length - 1);
        a.key_count = (int32_t)random_int(&r, 0, a.length - a.key_begin);
        ck_assert_msg(natten_pairs_on_axis(&a) == count(&a), "draw %d", i);
    }
}
END_TEST

/* n k for bidirectional windows; causal ones lack the triangle of the first k - 1. */
START_TEST(pairs_of_the_longest_axis_are_found_at_once)
{
    const int64_t n = INT32_MAX;
    static const int32_t windows[] = {1, 2, 1000, INT32_MAX / 2, INT32_MAX};
    clock_t begin = clock();
    for (int i = 0; i < 5; i++) {
        int64_t k = windows[i];
        natten_axis a = {INT32_MAX, windows[i], 1, 1,        false,
                         0,         INT32_MAX,  0, INT32_MAX};
        ck_assert_int_eq(natten_pairs_on_axis(&a), n * k);
        a.dilation = INT32_MAX / windows[i];
        ck_assert_int_eq(natten_pairs_on_axis(&a), n * k);
        a.stride = windows[i];
        ck_assert_int_eq(natten_pairs_on_axis(&a), n * k);
        a.dilation = a.stride = 1;
        a.causal = true;
        ck_assert_int_eq(natten_pairs_on_axis(&a), n * k - k * (k - 1) / 2);
    }
    ck_assert((double)(clock() - begin) < 0.1 * CLOCKS_PER_SEC);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pairs");
    TCase *tests = tcase_create("pairs");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, pairs_of_every_short_whole_axis_are_those_of_its_windows);
    tcase_add_test(tests, pairs_of_parts_are_those_of_their_windows);
    tcase_add_test(tests, pairs_of_the_longest_axis_are_found_at_once);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
