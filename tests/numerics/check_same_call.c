/* SPDX-License-Identifier: MIT
 *
 * Same bits: for any number of threads, any layout and alignment of the tensors,
 * whatever the workspace and the results held before, and wherever in a batch an item
 * stands.  For every backend and variant, operation and type. */
#include "support/performers.h"
#include "support/tap.h"
#include "support/trial.h"

#include <string.h>

enum { PROBLEMS = 48, PAIRS = 20000 };

static performer performers[MOST_PERFORMERS];
static int performer_count;

static void run(trial *t, const performer *p)
{
    natten_status status = trial_run(t, p->backend);
    ck_assert_msg(status == NATTEN_OK, "%s: %s: %s", p->name, natten_last_error(),
                  trial_text(t));
}

/* Fail where a result of two trials differs. */
static void compare(trial *a, const trial *b, const performer *p, const char *what)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!a->given[role] || !trial_writes(a->spec.operation, role))
            continue;
        int64_t at = array_difference(&a->array[role], &b->array[role]);
        ck_assert_msg(at < 0, "%s, %s: %s[%lld] is %.17g and %.17g: %s", p->name, what,
                      role_name(role), (long long)at, array_get(&a->array[role], at),
                      array_get(&b->array[role], at), trial_text(a));
    }
}

/* A trial of type _i; operations take turns. Compact, so that copies may differ from
 * it. */
static void make(trial *t, int dtype, int n)
{
    trial_wish wish = TRIAL_ANY;
    wish.dtype = dtype;
    wish.operation = n % TRIAL_OPERATIONS;
    wish.layout = 0;
    wish.pairs = PAIRS;
    trial_make(t, &wish, (uint64_t)(20000000 + dtype * 100000 + n));
}

typedef void same_check(trial *t, const performer *p);

static void for_all(int dtype, same_check *check)
{
    for (int n = 0; n < test_effort(PROBLEMS); n++) {
        static trial t;
        make(&t, dtype, n);
        for (int p = 0; p < performer_count; p++) {
            performer_enter(&performers[p]);
            check(&t, &performers[p]);
        }
        trial_free(&t);
    }
    performers_leave();
}

/* ---- threads ---- */

static void check_threads(trial *t, const performer *p)
{
    static trial other;
    static const int32_t counts[] = {2, 3, 7};
    randoms r = {t->seed};
    trial_copy(&other, t, ARRAY_COMPACT, &r);
    natten_set_num_threads(1);
    run(t, p);
    for (int n = 0; n < 3; n++) {
        natten_set_num_threads(counts[n]);
        run(&other, p);
        compare(t, &other, p, "another number of threads");
    }
    natten_set_num_threads(0);
    trial_free(&other);
}

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    for_all(_i, check_threads);
}
END_TEST

/* ---- layout ---- */

static void check_layout(trial *t, const performer *p)
{
    static trial other;
    randoms r = {t->seed};
    run(t, p);
    for (int n = 0; n < 2; n++) {
        trial_copy(&other, t, n == 0 ? ARRAY_ANY : ARRAY_ROWS, &r);
        run(&other, p);
        compare(t, &other, p, "another layout");
        trial_free(&other);
    }
}

START_TEST(any_layout_and_alignment_gives_the_same_bits)
{
    for_all(_i, check_layout);
}
END_TEST

/* ---- what memory held before ---- */

static void check_workspace(trial *t, const performer *p)
{
    static trial other;
    randoms r = {t->seed};
    trial_copy(&other, t, ARRAY_COMPACT, &r);
    other.seed = t->seed + 1; /* a workspace of NaN instead of none, or the reverse */
    run(t, p);
    run(&other, p);
    compare(t, &other, p, "a workspace of the caller's");
    trial_free(&other);
}

START_TEST(a_workspace_full_of_nan_gives_the_same_bits)
{
    for_all(_i, check_workspace);
}
END_TEST

/* ---- batch ---- */

/* Item `item` of a trial as a trial of its own. */
static void take_item(trial *to, const trial *from, int64_t item)
{
    *to = *from;
    memset(to->array, 0, sizeof to->array);
    to->spec.batch = 1;
    trial_allocate(to, ARRAY_COMPACT, NULL);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!to->given[role])
            continue;
        int64_t count = array_count(&to->array[role]);
        int64_t whole = array_count(&from->array[role]);
        for (int64_t i = 0; i < count; i++)
            array_set(
                &to->array[role], i,
                array_get(&from->array[role], whole > count ? item * count + i : i));
    }
}

static void check_batch(trial *t, const performer *p)
{
    static trial alone;
    run(t, p);
    for (int64_t item = 0; item < t->spec.batch; item++) {
        take_item(&alone, t, item);
        run(&alone, p);
        for (natten_role role = 0; role < NATTEN_ROLES; role++) {
            /* The gradient of the bias is a sum over the batch. */
            if (!t->given[role] || !trial_writes(t->spec.operation, role) ||
                role == NATTEN_GRAD_BIAS)
                continue;
            const array *a = &alone.array[role], *b = &t->array[role];
            int64_t count = array_count(a);
            bool same = true;
            for (int64_t i = 0; i < count; i++)
                same = same && array_same_bits(a, i, b, item * count + i);
            ck_assert_msg(same, "%s: item %lld alone has another %s: %s", p->name,
                          (long long)item, role_name(role), trial_text(t));
        }
        trial_free(&alone);
    }
}

START_TEST(an_item_alone_gives_the_bits_it_has_in_a_batch)
{
    for_all(_i, check_batch);
}
END_TEST

/* Sums over so many queries that they are made in slices, and keys whose gradients come
 * from several tiles. */
static const char *const sliced[] = {
    "bwd fp32 b3 h4:2 d8 70x60 w3x3",
    "bwd fp64 b2 h1 d5:9 300x7 w5x3 s3x1 causal10",
    "bwd fp32 b2 h2 d33 1500 w101",
    "bwd fp32 b16 h2 d8 64x8 w3x3 m1",
    "bwd fp32 b5 h2 d64 128x8 w3x3 m1",
    "bwd bf16 b3 h4:2 d64:24 60x60 w7x7 m40",
    "bwd fp64 b5 h1 d32 100x9 w3x3 m2",
    "bwd fp32 b2 h6:2 d64 9x28x28 w5x7x7",
    "bwd fp16 b2 h2 d64 16x28x17 w5x7x7",
    "bwd fp32 b2 h2 d16:40 8x50x31 w3x9x5 s2x4x3 e2x1x3",
    "bwd bf16 b2 h8:1 d16 600 w251",
    "bwd fp32 b2 h1 d48 31x30x9 w9x7x7 causal010",
};

START_TEST(large_grids_have_the_same_bits_however_they_are_called)
{
    static trial t;
    memset(&t, 0, sizeof t);
    ck_assert_int_eq(natten_problem_text_parse(sliced[_i], &t.spec), NATTEN_OK);
    t.params = natten_problem_spec_params(&t.spec, NATTEN_BACKEND_CPU);
    randoms r = {1};
    trial_allocate(&t, ARRAY_COMPACT, &r);
    trial_fill(&t, &r);
    for (int p = 0; p < performer_count; p++) {
        if (performers[p].backend != NATTEN_BACKEND_CPU)
            continue; /* the reference has no slices */
        performer_enter(&performers[p]);
        check_threads(&t, &performers[p]);
        check_layout(&t, &performers[p]);
        check_batch(&t, &performers[p]);
    }
    performers_leave();
    trial_free(&t);
}
END_TEST

int main(void)
{
    performer_count = performers_list(performers);
    TCase *same = tcase_create("same call");
    tcase_add_loop_test(same, any_number_of_threads_gives_the_same_bits, 0,
                        NATTEN_DTYPES);
    tcase_add_loop_test(same, any_layout_and_alignment_gives_the_same_bits, 0,
                        NATTEN_DTYPES);
    tcase_add_loop_test(same, a_workspace_full_of_nan_gives_the_same_bits, 0,
                        NATTEN_DTYPES);
    tcase_add_loop_test(same, an_item_alone_gives_the_bits_it_has_in_a_batch, 0,
                        NATTEN_DTYPES);
    tcase_add_loop_test(same, large_grids_have_the_same_bits_however_they_are_called, 0,
                        sizeof sliced / sizeof *sliced);
    Suite *suite = suite_create("same call");
    suite_add_tcase(suite, same);
    return tap_run(suite);
}
