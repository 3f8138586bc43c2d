/* SPDX-License-Identifier: MIT
 *
 * The corners of the CPU backend that random problems of a few thousand pairs seldom
 * reach, judged like all others: softmax in several chunks, cut along each axis; strips
 * that don't hold all that a group sees; many extra tokens, in several slices; long
 * head dims; grouped heads. They pass through all of core/cpu/cpu.c,
 * core/cpu/cpu_job.c, core/cpu/cpu_pass.c, core/cpu/cpu_pass.h, core/cpu/cpu_walk.h,
 * core/cpu/cpu_ahead.h, core/cpu/cpu_give.h, core/cpu/cpu_group.h,
 * core/cpu/cpu_kernel.h, core/cpu/cpu_near.h, core/cpu/cpu_line.h,
 * core/cpu/cpu_logits.h, core/cpu/cpu_bias.h, core/cpu/cpu_forward.h,
 * core/cpu/cpu_backward.h, core/cpu/cpu_scatter.h, core/cpu/cpu_extra.h,
 * core/cpu/cpu_wish.h and core/cpu/cpu_unfused.h. */
#include "plan/plan.h"
#include "problem/problem.h"
#include "problem/problem_text.h"
#include "support/judge.h"
#include "support/performers.h"
#include "support/tap.h"

#include <stdlib.h>
#include <string.h>

static const char *const corners[] = {
    /* Windows of more scores than are held at a time: along x, by rows, by planes. */
    "fwd fp32 b1 h2 d3:5 700 w601",
    "fwd fp64 b1 h1 d5:2 700 w601 s300 causal1 m2",
    "bwd fp32 b1 h1 d4 700 w513 bias dlse",
    "fwd fp32 b1 h1 d3 7x290 w3x270",
    "fwd fp32 b1 h1 d3 3x23x29 w3x19x17 bias",
    "bwd fp32 b1 h1 d4 41x37 w31x29 m3",
    "bwd fp64 b1 h1 d3 5x11x13 w4x9x11 s1x8x1 bias",
    "fwd fp32 b1 h1 d2 11x13x11 w11x11x3 causal010",
    "fwd fp32 b1 h1 d2 80x9 w70x1",
    /* Strides that see a key from far more queries than a query sees keys. */
    "bwd fp32 b1 h2:1 d9 60x43 w20x21 s19x20 bias",
    "bwd fp32 b1 h2 d70 17x19x23 w5x5x5 s4x4x4",
    /* Lanes at a border, whose windows stand still, in runs of several shapes. */
    "fwd fp64 b3 h3:1 d8:15 38 w8 s7",
    "bwd fp32 b2 h2 d17 22 w6 s6 m2 bias",
    "bwd fp32 b1 h2 d8 9x14 w7x7",
    "fwd fp32 b1 h2 d8 20x9 w3x7 causal01",
    "bwd fp64 b1 h1 d5:8 11x13x7 w5x4x5 e1x1x1",
    /* Long windows on a line, of which neighbours take the values together. */
    "fwd fp32 b1 h2 d5:70 317 w64 m3",
    "fwd bf16 b1 h1 d64 500 w90",
    "fwd fp64 b2 h1 d33:160 401 w100 e2 bias",
    "bwd fp32 b1 h2:1 d40:24 1003 w83 dlse",
    "bwd fp16 b1 h1 d8:150 700 w130 causal1",
    "bwd fp32 b1 h1 d9 900 w300",
    /* Large windows of two and three axes, of which they do too: in the interior, where
     * windows stand still at a border or for a stride, and where rows end in the
     * middle. */
    "fwd fp32 b1 h1 d24 30x41 w9x9",
    "fwd fp32 b1 h2:1 d64:80 19x37 w13x13 m7 bias",
    "fwd fp32 b1 h1 d130 9x11x16 w3x5x6 causal100",
    "bwd fp32 b1 h1 d48:20 23x47 w11x8 s1x3 dlse",
    "bwd fp64 b1 h1 d20:33 17x90 w3x66 s1x5",
    "bwd bf16 b1 h1 d64 15x50 w9x10 e1x2 m3",
    "bwd fp16 b1 h1 d16 29x37 w23x19 bias",
    /* Gradients of keys from several tiles along each axis, and heads of a group. */
    "bwd fp32 b1 h1 d8 40x70 w3x3 dlse",
    "bwd fp32 b2 h4:2 d5:17 150 w3 s2 m2",
    "bwd fp64 b1 h2 d3 60x50 w4x5 s3x1 causal01",
    "bwd fp32 b1 h2:1 d9:33 9x31x29 w2x3x2 e1x2x1",
    "bwd bf16 b2 h4:2 d5:17 150 w3 s2 m2",
    "bwd fp16 b1 h2 d40:24 60x50 w4x5 s3x1 causal01",
    "bwd bf16 b1 h2:1 d9:33 9x31x29 w2x3x2 e1x2x1",
    "bwd bf16 b2 h2 d40:24 37x26 w5x7 e2x1 dlse",
    "bwd fp16 b1 h1 d32 20x56 w7x7 s1x2",
    "bwd fp16 b1 h1 d3 5 w2 e900000000 g2147483647 q900000004 k899999999 n9",
    /* A bias: runs of more patterns than have sums, windows without room for any;
     * slices of many tiles and classes; several runs of units, of heads and of batch
     * items. */
    "bwd fp32 b2 h4:2 d8:16 24x40 w5x7 bias dlse",
    "bwd fp32 b1 h2 d16 90x160 w3x4 s1x3 bias",
    "bwd fp64 b1 h2 d3 60x150 w4x5 s3x4 causal01 bias",
    "bwd bf16 b3 h2 d32 20x56 w7x7 bias",
    "bwd fp32 b1 h2:1 d9:33 9x31x29 w2x3x2 e1x2x1 m3 bias",
    "bwd fp16 b1 h1 d8 70x45 w61x40 bias",
    "bwd fp32 b1 h1 d4 300x9 w5x9 e7x1 bias",
    "bwd fp32 b10 h32 d2 1x1 w63x63 bias g63x63 q31x31 n63x63",
    "bwd bf16 b1 h300 d1 1x1 w63x63 bias g63x63 q3x60 n63x63",
    "bwd fp32 b1 h3 d1 1 w300000 bias g300000 n300000",
    "bwd fp32 b140000 h2 d1 2 w2 bias",
    "bwd fp32 b2 h270000:135000 d1 2 w2 bias",
    /* More slices of items than have room, so seven products: many slices, and one. */
    "bwd fp32 b1 h2 d3 20500 w100 e20450 bias g2045000 q900000 k880000 n61500",
    "bwd fp64 b1 h1 d2 1 w1100000 bias g1100000 n1100000",
    /* Queries beside the part's keys. */
    "bwd fp32 b1 h1 d3 8 w3 bias g64 q32 k0 n8",
    "bwd fp64 b1 h2 d3 8 w3 bias g64 q0 k30 n9",
    "bwd fp32 b1 h1 d3 8 w3 bias g100000000 q90000000 k0 n8",
    "bwd fp32 b1 h1 d3 8x9 w3x3 bias g60x60 q20x20 k22x0 n30x30",
    /* Too large for caches: results go past them, and what comes next is asked for. */
    "fwd fp32 b1 h2 d16 213x200 w3x3",
    "bwd fp32 b1 h1 d16 160x160 w3x3",
    "bwd fp32 b2 h2:1 d16:32 90x110 w4x3 s2x1 dlse",
    "bwd fp64 b1 h1 d8 20x33x38 w3x2x3 causal010",
    "bwd fp32 b1 h1 d16:20 160x161 w3x3 e3x1",
    "bwd fp16 b1 h3 d32 110x100 w3x3",
    /* Grouped heads whose strips don't fit together. */
    "bwd fp32 b1 h16:2 d64 19x31 w7x9 dlse",
    "bwd bf16 b2 h8:1 d40:24 300 w101 m5",
    /* Extra tokens: several packs, several slices, alone with small windows. */
    "fwd fp32 b1 h2 d5 40 w3 m700",
    "bwd fp32 b2 h4:2 d5:3 37 w3 m300",
    "bwd fp64 b1 h1 d400:300 11 w3 m70",
    "bwd fp16 b2 h2 d8 23x29 w3x3 m1 bias",
    /* Long and odd head dims. */
    "bwd fp32 b1 h1 d1000:3 9x7 w3x5",
    "bwd fp32 b1 h1 d2:1501 31 w5 m1",
    "fwd bf16 b1 h1 d3000 5 w5",
    "bwd fp32 b1 h1 d1 1 w1",
    /* Parts of a few tokens in a huge dilated grid: most residue classes have none. */
    "fwd fp32 b1 h1 d3 4 w1 e2147483647 g2147483647 q5 k3 n9",
    "bwd fp32 b1 h1 d3 5 w2 e900000000 bias g2147483647 q900000004 k899999999 n9",
    "bwd fp32 b1 h1 d3 3x4 w2x1 e1000000000x1 g2147483647x9 q1x2 k1000000001x0 n2x9",
    /* Long windows in the unfused pair. */
    "qkbwd fp32 b1 h2:1 d5 300 w257 s100 m9 bias",
    "avbwd fp32 b1 h2 d5 29x31 w17x23 m2",
};
enum { CORNERS = sizeof corners / sizeof *corners };

static performer performers[MOST_PERFORMERS];
static int performer_count;

static void make(trial *t, const char *text)
{
    memset(t, 0, sizeof *t);
    natten_status status = natten_problem_text_parse(text, &t->spec);
    ck_assert_msg(status == NATTEN_OK, "%s: %s", text, natten_last_error());
    t->params = natten_problem_spec_params(&t->spec, NATTEN_BACKEND_CPU);
    t->profile = PROFILE_NORMAL;
    randoms r = {1};
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        t->given[role] = natten_problem_spec_has(&t->spec, role);
    trial_allocate(t, ARRAY_COMPACT, &r);
    trial_fill(t, &r);
    if (t->spec.operation == NATTEN_BACKWARD)
        judge_give_forward(t);
}

static void check_bounds(const trial *t, const judgement *j, const char *name,
                         const char *text)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (j->of[role].count == 0)
            continue;
        int64_t worst;
        double ratio = judge_ratio(&j->of[role], &t->array[role], &worst);
        ck_assert_msg(ratio <= 1, "%s: %s[%lld] is %.3g times its bound: %s", name,
                      role_name(role), (long long)worst, ratio, text);
    }
}

/* The CPU backend, in all variants, on a trial that is made; frees it. */
static void judge_all(trial *t, const char *text)
{
    judgement j;
    judge_evaluate(t, &j);
    for (int p = 0; p < performer_count; p++) {
        if (performers[p].backend != NATTEN_BACKEND_CPU)
            continue;
        performer_enter(&performers[p]);
        natten_status status = trial_run(t, NATTEN_BACKEND_CPU);
        ck_assert_msg(status == NATTEN_OK, "%s: %s", text, natten_last_error());
        check_bounds(t, &j, performers[p].name, text);
    }
    performers_leave();
    judge_free(&j);
    trial_free(t);
}

START_TEST(corners_are_within_bounds)
{
    static trial t;
    make(&t, corners[_i]);
    judge_all(&t, corners[_i]);
}
END_TEST

/* Each product is below half a unit in the last place of the bias, and all of them
 * together are far above what may be lost. */
START_TEST(a_large_bias_swallows_no_products)
{
    static const char text[] = "fwd fp32 b1 h1 d128 40 w5 bias scale1";
    static trial t;
    make(&t, text);
    const array *a = t.array;
    for (int64_t i = 0; i < array_count(&a[NATTEN_BIAS]); i++)
        array_set(&t.array[NATTEN_BIAS], i, 1000);
    for (int64_t i = 0; i < array_count(&a[NATTEN_QUERY]); i++) {
        array_set(&t.array[NATTEN_QUERY], i, 1);
        array_set(&t.array[NATTEN_KEY], i, i / 128 % 2 * 2e-5);
        array_set(&t.array[NATTEN_VALUE], i, i / 128 % 2);
    }
    judge_all(&t, text);
}
END_TEST

static int32_t stop_at_once(void *user)
{
    *(int *)user += 1;
    return 1;
}

/* One query, three chunks of keys, one item: stopped after the first chunk, so that
 * nothing is written. */
START_TEST(a_long_window_is_left_in_the_middle)
{
    static trial t;
    int asked = 0;
    make(&t, "fwd fp32 b1 h1 d3 1 w700 g700 n700");
    natten_set_num_threads(1);
    natten_set_cancel_callback(stop_at_once, &asked);
    natten_status status = trial_run(&t, NATTEN_BACKEND_CPU);
    natten_set_cancel_callback(NULL, NULL);
    natten_set_num_threads(0);
    ck_assert_int_eq(status, NATTEN_ERR_INTERRUPTED);
    ck_assert_int_ge(asked, 1);
    double left = array_get(&t.array[NATTEN_OUT], 0);
    array_poison(&t.array[NATTEN_OUT]); /* as trial_run() did before the call */
    double poison = array_get(&t.array[NATTEN_OUT], 0);
    ck_assert_int_eq(memcmp(&left, &poison, sizeof left), 0);
    trial_free(&t);
}
END_TEST

/* The task of a trial as the backends see it, and its plan on some machine. */
static void plan_on(trial *t, const natten_machine *machine, natten_task *task,
                    natten_plan *plan)
{
    natten_problem problem = {.operation = t->spec.operation, .params = &t->params};
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        problem.tensor[role] = trial_tensor(t, role);
    ck_assert_int_eq(natten_problem_check(&problem, task), NATTEN_OK);
    ck_assert_int_eq(natten_plan_make(task, machine, plan), NATTEN_OK);
}

static void run_plan(const natten_plan *plan)
{
    size_t bytes = (plan->choice.workspace_bytes + 63) / 64 * 64;
    void *workspace = aligned_alloc(64, bytes);
    ck_assert_ptr_nonnull(workspace);
    memset(workspace, 0xff, bytes);
    ck_assert_int_eq(plan->backend->run(plan, workspace, NULL), NATTEN_OK);
    free(workspace);
}

static void poison_results(trial *t)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (t->given[role] && trial_writes(t->spec.operation, role))
            array_poison(&t->array[role]);
}

static void check_same_results(const trial *t, const trial *expected)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const array *a = &t->array[role], *b = &expected->array[role];
        if (!t->given[role] || !trial_writes(t->spec.operation, role))
            continue;
        for (int64_t i = 0; i < array_count(b); i++)
            ck_assert_mem_eq(array_at(a, i), array_at(b, i),
                             natten_dtype_bytes(b->dtype));
    }
}

/* What choose leaves for run points neither to the task nor to the plan that it was
 * made with. */
START_TEST(a_plan_may_be_moved)
{
    static trial t, before;
    static natten_plan made, moved;
    make(&t, "bwd fp32 b2 h4:2 d5 150 w9 m3 bias");
    ck_assert_int_eq(trial_run(&t, NATTEN_BACKEND_CPU), NATTEN_OK);
    randoms r = {1};
    trial_copy(&before, &t, ARRAY_COMPACT, &r);
    poison_results(&t);
    natten_task task;
    natten_machine machine = natten_machine_get();
    plan_on(&t, &machine, &task, &made);
    moved = made;
    memset(&made, 0xff, sizeof made);
    memset(&task, 0xff, sizeof task);
    run_plan(&moved);
    check_same_results(&t, &before);
    trial_free(&before);
    trial_free(&t);
}
END_TEST

/* Forward's tiles follow the processors that a process may use; its results do not. */
static const char *const of_processors[] = {
    "fwd fp32 b1 h4 d32 56x56 w7x7",
    "fwd fp64 b1 h2 d24 60x37 w9x5 m2",
    "fwd bf16 b2 h4:2 d40 3x30x20 w3x5x5 bias",
    "fwd fp16 b1 h1 d33 700 w30 e3 causal1",
};
enum { OF_PROCESSORS = sizeof of_processors / sizeof *of_processors };

START_TEST(processors_change_tiles_and_no_bits)
{
    static trial t, first;
    static natten_plan usual, plan;
    natten_task task;
    randoms r = {1};
    make(&t, of_processors[_i]);
    natten_machine machine = natten_machine_get();
    machine.processors = 0;
    plan_on(&t, &machine, &task, &usual);
    run_plan(&usual);
    trial_copy(&first, &t, ARRAY_COMPACT, &r);
    for (machine.processors = 1; machine.processors <= 3; machine.processors++) {
        machine.threads = machine.processors;
        poison_results(&t);
        plan_on(&t, &machine, &task, &plan);
        run_plan(&plan);
        if (_i == 0 && machine.processors <= 2)
            ck_assert_mem_ne(plan.choice.tile, usual.choice.tile,
                             sizeof plan.choice.tile);
        check_same_results(&t, &first);
    }
    trial_free(&first);
    trial_free(&t);
}
END_TEST

/* On a machine with the smallest last cache each fused call comes from memory, and asks
 * for its tokens ahead of time (core/cpu/cpu_ahead.h). */
static const char *const asked_ahead[] = {
    "fwd fp32 b2 h4:2 d33 40x37 w7x5 m2",
    "fwd fp64 b1 h2 d5 5x11x13 w3x5x5 s1x2x1",
    "bwd fp32 b2 h2:1 d9:33 9x31x29 w2x3x2 e1x2x1",
    "bwd fp32 b2 h4:2 d7 40x37 w3x4 bias",
    "bwd bf16 b2 h4:2 d5:17 150 w3 s2 m2",
    "bwd fp16 b1 h2 d40:24 60x50 w4x5 s3x1 causal01",
    "fwd fp32 b2 h2 d16 40x37 w7x5",
    "bwd fp32 b2 h2 d32 40x37 w7x5",
    "fwd fp32 b2 h2 d64 40x37 w9x8",
};
enum { ASKED_AHEAD = sizeof asked_ahead / sizeof *asked_ahead };

START_TEST(tokens_asked_for_ahead_are_within_bounds)
{
    static trial t;
    static natten_plan plan;
    natten_task task;
    make(&t, asked_ahead[_i]);
    judgement j;
    judge_evaluate(&t, &j);
    for (int p = 0; p < performer_count; p++) {
        if (performers[p].backend != NATTEN_BACKEND_CPU)
            continue;
        performer_enter(&performers[p]);
        for (int threads = 1; threads <= 3; threads += 2) {
            natten_machine machine = natten_machine_get();
            machine.l3_bytes = 2;
            machine.threads = threads;
            poison_results(&t);
            plan_on(&t, &machine, &task, &plan);
            run_plan(&plan);
            check_bounds(&t, &j, performers[p].name, asked_ahead[_i]);
        }
    }
    performers_leave();
    judge_free(&j);
    trial_free(&t);
}
END_TEST

int main(void)
{
    performer_count = performers_list(performers);
    TCase *tests = tcase_create("corners");
    tcase_set_timeout(tests, 0);
    tcase_add_loop_test(tests, corners_are_within_bounds, 0, CORNERS);
    tcase_add_test(tests, a_large_bias_swallows_no_products);
    tcase_add_test(tests, a_long_window_is_left_in_the_middle);
    tcase_add_test(tests, a_plan_may_be_moved);
    tcase_add_loop_test(tests, processors_change_tiles_and_no_bits, 0, OF_PROCESSORS);
    tcase_add_loop_test(tests, tokens_asked_for_ahead_are_within_bounds, 0,
                        ASKED_AHEAD);
    Suite *suite = suite_create("cpu corners");
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
