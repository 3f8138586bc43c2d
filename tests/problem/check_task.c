/* SPDX-License-Identifier: MIT
 *
 * Counting over a task: core/problem/task.c and core/problem/task.h. */
#include "problem/problem.h"

#include "problem/problem_text.h"
#include "support/random.h"
#include "support/tap.h"

#include <string.h>
#include <time.h>

/* The axis of a random legal problem, a part of a grid as often as not. */
static natten_axis draw_axis(randoms *r)
{
    natten_axis a = {.length = (int32_t)random_int(r, 1, 12)};
    a.window = (int32_t)random_int(r, 1, a.length);
    a.dilation = (int32_t)random_int(r, 1, a.length / a.window);
    a.stride = (int32_t)random_int(r, 1, a.window);
    a.causal = random_once_in(r, 2);
    a.query_begin = (int32_t)random_int(r, 0, a.length - 1);
    a.query_count = (int32_t)random_int(r, 0, a.length - a.query_begin);
    a.key_begin = (int32_t)random_int(r, 0, a.length - 1);
    a.key_count = (int32_t)random_int(r, 0, a.length - a.key_begin);
    return a;
}

/* definition.md, sections 2, 3 and 13, token by token: does query i see key j? */
static bool sees(const natten_axis *a, int i, int j)
{
    int d = a->dilation, r = i % d, g = i / d, k = a->window, s = a->stride;
    if (j % d != r)
        return false;
    int n = (a->length - r + d - 1) / d, begin, end;
    if (a->causal) {
        int leader = g / s * s + s - 1 < n - 1 ? g / s * s + s - 1 : n - 1;
        begin = leader - k + 1 > 0 ? leader - k + 1 : 0;
        end = g + 1;
    } else {
        int leader = g / s * s + s / 2 < n - 1 ? g / s * s + s / 2 : n - 1;
        begin = leader - k / 2;
        begin = begin < 0 ? 0 : begin > n - k ? n - k : begin;
        end = begin + k;
    }
    return j / d >= begin && j / d < end;
}

static int64_t count_pairs(const natten_axis *a)
{
    int64_t pairs = 0;
    for (int i = a->query_begin; i < a->query_begin + a->query_count; i++)
        for (int j = a->key_begin; j < a->key_begin + a->key_count; j++)
            pairs += sees(a, i, j);
    return pairs;
}

START_TEST(pairs_are_those_of_the_definition)
{
    randoms r = {1};
    for (int i = 0; i < 2000; i++) {
        natten_task task = {.extras = random_int(&r, 0, 3)};
        int64_t pairs = 1, queries = 1;
        for (int a = 0; a < 3; a++) {
            task.axis[a] = draw_axis(&r);
            pairs *= count_pairs(&task.axis[a]);
            queries *= task.axis[a].query_count;
        }
        if (natten_task_pairs(&task) != pairs + queries * task.extras)
            ck_abort_msg("draw %d", i);
    }
}
END_TEST

/* Both sides of the border between two rounds of classes; it would take many seconds to
 * look at each class. */
START_TEST(pairs_of_a_few_tokens_are_found_at_once_whatever_the_dilation)
{
    natten_task task = {.extras = 1};
    task.axis[0] = task.axis[1] = (natten_axis){1, 1, 1, 1, false, 0, 1, 0, 1};
    int32_t half = INT32_MAX / 2;
    task.axis[2] =
        (natten_axis){INT32_MAX, 2, 1, half, false, half - 2, 4, half - 3, 5};
    clock_t begin = clock();
    ck_assert_int_eq(natten_task_pairs(&task), 4 + 4);
    task.axis[2].key_begin = 0;
    task.axis[2].key_count = INT32_MAX;
    ck_assert_int_eq(natten_task_pairs(&task), 2 * 4 + 4);
    ck_assert((double)(clock() - begin) < 0.5 * CLOCKS_PER_SEC);
}
END_TEST

START_TEST(slots_are_the_windows_product_and_the_extras)
{
    natten_task task = {.extras = 2};
    for (int a = 0; a < 3; a++)
        task.axis[a].window = 3 + a;
    ck_assert_int_eq(natten_task_slots(&task), 3 * 4 * 5 + 2);
}
END_TEST

START_TEST(counts_that_do_not_fit_saturate)
{
    natten_task task = {.extras = INT64_MAX};
    for (int a = 0; a < 3; a++)
        task.axis[a].window = INT32_MAX;
    ck_assert_int_eq(natten_task_slots(&task), INT64_MAX);
    for (int a = 0; a < 3; a++)
        task.axis[a] = (natten_axis){1, 1, 1, 1, false, 0, 1, 0, 1};
    ck_assert_int_eq(natten_task_pairs(&task), INT64_MAX);
}
END_TEST

START_TEST(a_task_has_three_axes_and_every_default)
{
    int64_t shape[] = {2, 7, 3, 4}, wide[] = {2, 7, 3, 5};
    natten_tensor query = {.device_type = NATTEN_CPU,
                           .ndim = 4,
                           .dtype_code = NATTEN_BFLOAT,
                           .dtype_bits = 16,
                           .dtype_lanes = 1,
                           .shape = shape};
    natten_tensor value = query;
    value.shape = wide;
    natten_params params;
    natten_params_init(&params, sizeof params, 1);
    params.kernel_size[0] = 3;
    natten_problem problem = {
        NATTEN_BACKWARD,
        &params,
        {[NATTEN_QUERY] = &query, [NATTEN_KEY] = &query, [NATTEN_VALUE] = &value}};
    natten_task t;
    ck_assert_int_eq(natten_problem_sketch(&problem, &t), NATTEN_OK);
    for (int a = 0; a < 2; a++)
        ck_assert(t.axis[a].length == 1 && t.axis[a].window == 1 &&
                  t.axis[a].key_count == 1);
    ck_assert(t.axis[2].length == 7 && t.axis[2].window == 3 && t.axis[2].stride == 1 &&
              t.axis[2].query_count == 7 && t.axis[2].dilation == 1);
    ck_assert(t.batch == 2 && t.heads == 3 && t.heads_kv == 3 && t.dim == 4);
    ck_assert(t.dim_v == 5 && t.extras == 0 && t.scale == 0.5 && t.rank == 1);
    ck_assert(t.dtype == NATTEN_BF16 && t.accumulator == NATTEN_FP32);
    ck_assert(t.view[NATTEN_VALUE].batch == 105 && t.view[NATTEN_VALUE].axis[2] == 15 &&
              t.view[NATTEN_VALUE].head == 5 && t.view[NATTEN_VALUE].item == 1);
    /* A sketch counts every result as wanted, and takes no input for granted. */
    ck_assert(t.view[NATTEN_GRAD_BIAS].data && t.view[NATTEN_GRAD_KEY].data);
    ck_assert(!t.view[NATTEN_BIAS].data && !t.view[NATTEN_GRAD_LSE].data);
    ck_assert(!t.view[NATTEN_GRAD_ADDITIONAL_KEYS].data);
}
END_TEST

START_TEST(an_address_is_the_sum_of_its_strides)
{
    char memory[1];
    natten_view v = {memory, 1000, {500, 100, 20}, 4, 1};
    const int32_t at[3] = {1, 2, 3};
    char *address = natten_view_at(&v, 2, 4, at, 5);
    ck_assert_int_eq((intptr_t)address - (intptr_t)memory,
                     2 * (4000 + 500 + 200 + 60 + 20));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("task");
    TCase *tests = tcase_create("task");
    tcase_add_test(tests, pairs_are_those_of_the_definition);
    tcase_add_test(tests,
                   pairs_of_a_few_tokens_are_found_at_once_whatever_the_dilation);
    tcase_add_test(tests, slots_are_the_windows_product_and_the_extras);
    tcase_add_test(tests, counts_that_do_not_fit_saturate);
    tcase_add_test(tests, a_task_has_three_axes_and_every_default);
    tcase_add_test(tests, an_address_is_the_sum_of_its_strides);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
