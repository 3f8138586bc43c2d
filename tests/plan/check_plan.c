/* SPDX-License-Identifier: MIT
 *
 * Planning: core/plan/plan.c and core/registry/registry.c. */
#include "plan/plan.h"

#include "problem/problem_text.h"
#include "registry/registry.h"
#include "support/tap.h"

#include <string.h>

/* A task without tensors, for planning. */
static natten_task task_of(const char *text)
{
    natten_problem_spec s;
    ck_assert_int_eq(natten_problem_text_parse(text, &s), NATTEN_OK);
    natten_task task = {
        .operation = s.operation,
        .dtype = s.dtype,
        .accumulator = natten_dtype_accumulator(s.dtype),
        .rank = s.rank,
        .batch = s.batch,
        .heads = s.heads,
        .heads_kv = s.heads_kv,
        .dim = s.dim,
        .dim_v = s.dim_v,
        .extras = s.extras,
        .scale = s.scale,
    };
    for (int a = 0; a < 3; a++) {
        int own = a - (3 - s.rank);
        natten_axis one = {1, 1, 1, 1, false, 0, 1, 0, 1};
        task.axis[a] = one;
        if (own < 0)
            continue;
        task.axis[a].length = (int32_t)s.grid_length[own];
        task.axis[a].window = (int32_t)s.kernel_size[own];
        task.axis[a].stride = (int32_t)s.stride[own];
        task.axis[a].dilation = (int32_t)s.dilation[own];
        task.axis[a].causal = s.is_causal[own];
        task.axis[a].query_begin = (int32_t)s.query_begin[own];
        task.axis[a].query_count = (int32_t)s.queries[own];
        task.axis[a].key_begin = (int32_t)s.key_begin[own];
        task.axis[a].key_count = (int32_t)s.keys[own];
    }
    return task;
}

#define TEXT "fwd fp32 b2 h4:2 d8 7x11 w3x5 scale0.5"

static const natten_machine invented = {
    .has_variant = {[NATTEN_VARIANT_SCALAR] = true},
    .variant = NATTEN_VARIANT_SCALAR,
    .threads = 3,
};

START_TEST(backends_have_names_and_numbers_of_their_own)
{
    int count = 0;
    for (; natten_registry[count]; count++)
        for (int other = 0; other < count; other++) {
            ck_assert_str_ne(natten_registry[count]->name,
                             natten_registry[other]->name);
            ck_assert_int_ne(natten_registry[count]->id, natten_registry[other]->id);
        }
    ck_assert_int_gt(count, 0);
    ck_assert_str_eq(natten_registry[count - 1]->name,
                     "reference"); /* the last resort */
}
END_TEST

START_TEST(auto_takes_the_first_of_the_registry_that_accepts)
{
    natten_task task = task_of(TEXT);
    natten_plan plan;
    ck_assert_int_eq(natten_plan_make(&task, &invented, &plan), NATTEN_OK);
    natten_choice choice;
    for (int i = 0; natten_registry[i] != plan.backend; i++)
        ck_assert_int_ne(natten_registry[i]->choose(&task, &invented, &choice),
                         NATTEN_OK);
}
END_TEST

START_TEST(a_backend_that_is_asked_for_is_the_one)
{
    natten_task task = task_of(TEXT);
    for (int i = 0; natten_registry[i]; i++) {
        natten_plan plan;
        task.backend = (int32_t)natten_registry[i]->id;
        if (natten_registry[i]->gpu) { /* whose tasks are tests/cuda's */
            ck_assert_int_eq(natten_plan_make(&task, &invented, &plan),
                             NATTEN_ERR_DEVICE);
            continue;
        }
        ck_assert_int_eq(natten_plan_make(&task, &invented, &plan), NATTEN_OK);
        ck_assert_ptr_eq(plan.backend, natten_registry[i]);
    }
}
END_TEST

START_TEST(tensors_on_a_gpu_are_for_a_gpu)
{
    natten_task task = task_of(TEXT);
    natten_plan plan;
    task.device_type = NATTEN_CUDA;
    task.backend = NATTEN_BACKEND_CPU;
    ck_assert_int_eq(natten_plan_make(&task, &invented, &plan), NATTEN_ERR_DEVICE);
    task.backend = NATTEN_BACKEND_AUTO;
    ck_assert_int_ne(natten_plan_make(&task, &invented, &plan), NATTEN_OK);
    ck_assert_ptr_null(strstr(natten_last_error(), "reference"));
}
END_TEST

START_TEST(a_backend_that_is_not_there_is_unsupported)
{
    natten_task task = task_of(TEXT);
    natten_plan plan;
    task.backend = 77;
    ck_assert_int_eq(natten_plan_make(&task, &invented, &plan), NATTEN_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(natten_last_error(), "backend=77"));
}
END_TEST

START_TEST(the_same_task_and_machine_give_the_same_plan)
{
    natten_task task = task_of(TEXT);
    natten_plan a, b;
    memset(&a, 0, sizeof a);
    memset(&b, 0xff, sizeof b);
    ck_assert_int_eq(natten_plan_make(&task, &invented, &a), NATTEN_OK);
    ck_assert_int_eq(natten_plan_make(&task, &invented, &b), NATTEN_OK);
    char first[2048], second[2048];
    natten_plan_print(&a, first, sizeof first);
    natten_plan_print(&b, second, sizeof second);
    ck_assert_str_eq(first, second);
}
END_TEST

START_TEST(tiles_and_variant_do_not_depend_on_the_number_of_threads)
{
    natten_task task = task_of(TEXT);
    natten_machine machine = invented;
    natten_plan one, many;
    machine.threads = 1;
    ck_assert_int_eq(natten_plan_make(&task, &machine, &one), NATTEN_OK);
    machine.threads = 64;
    ck_assert_int_eq(natten_plan_make(&task, &machine, &many), NATTEN_OK);
    ck_assert_int_eq(one.choice.variant, many.choice.variant);
    ck_assert_mem_eq(one.choice.tile, many.choice.tile, sizeof one.choice.tile);
}
END_TEST

START_TEST(threads_are_as_many_as_have_enough_to_do)
{
    static const struct {
        const char *text;
        int64_t thread_work;
        int threads;
    } cases[] = {
        {"fwd fp32 b1 h8 d64 1 w1", 100000, 1},
        {"fwd fp32 b1 h8 d64 1 w1", 0, 8}, /* by the items */
        {"fwd fp32 b1 h80 d5 9x5 w3x4", 100000, 7},
        {"bwd fp32 b1 h80 d5 9x5 w3x4", 100000, 18},
        {"fwd fp32 b64 h8 d64 64x64 w13x13", 100000, 64},
    };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        natten_task task = task_of(cases[n].text);
        natten_machine machine = invented;
        natten_plan plan;
        machine.threads = 64;
        machine.thread_work = cases[n].thread_work;
        ck_assert_int_eq(natten_plan_make(&task, &machine, &plan), NATTEN_OK);
        ck_assert_msg(plan.choice.threads == cases[n].threads, "%d: %s",
                      (int)plan.choice.threads, cases[n].text);
    }
}
END_TEST

START_TEST(a_plan_prints_its_problem_first_and_is_cut_where_the_room_ends)
{
    natten_task task = task_of(TEXT);
    natten_plan plan;
    char whole[2048], cut[2048];
    ck_assert_int_eq(natten_plan_make(&task, &invented, &plan), NATTEN_OK);
    natten_plan_print(&plan, whole, sizeof whole);
    ck_assert_ptr_eq(strstr(whole, "problem    " TEXT "\nbackend    "), whole);
    for (size_t bytes = 1; bytes <= strlen(whole) + 1; bytes++) {
        memset(cut, 'x', sizeof cut);
        natten_plan_print(&plan, cut, bytes);
        ck_assert_uint_eq(strlen(cut), bytes - 1);
        ck_assert_mem_eq(cut, whole, bytes - 1);
        ck_assert_int_eq(cut[bytes], 'x');
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tests = tcase_create("plan");
    tcase_add_test(tests, backends_have_names_and_numbers_of_their_own);
    tcase_add_test(tests, auto_takes_the_first_of_the_registry_that_accepts);
    tcase_add_test(tests, a_backend_that_is_asked_for_is_the_one);
    tcase_add_test(tests, tensors_on_a_gpu_are_for_a_gpu);
    tcase_add_test(tests, a_backend_that_is_not_there_is_unsupported);
    tcase_add_test(tests, the_same_task_and_machine_give_the_same_plan);
    tcase_add_test(tests, tiles_and_variant_do_not_depend_on_the_number_of_threads);
    tcase_add_test(tests, threads_are_as_many_as_have_enough_to_do);
    tcase_add_test(tests,
                   a_plan_prints_its_problem_first_and_is_cut_where_the_room_ends);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
