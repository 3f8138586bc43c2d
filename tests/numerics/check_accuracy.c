/* SPDX-License-Identifier: MIT
 *
 * Every backend and variant against the judge (docs/definition.md, section 12): each
 * element of each result within its own bound, NaN and infinities exactly where they
 * belong, for all operations, types and value profiles, over random trials with every
 * option.  Results start as NaN, inputs and the bytes between elements are watched. And
 * for the 16-bit types: not just within bounds, but better than a plain computation by
 * the median over a suite.
 *
 * NATTEN_TEST_EFFORT multiplies the number of problems.  A failure prints the problem
 * and the number of its trial. */
#include "support/judge.h"
#include "support/performers.h"
#include "support/plain.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

/* Problems of a type in the suite of the judge: 9 profiles x 6 operations x 8. */
enum { PROBLEMS = 432 };
/* Of which every one in LARGE has several tiles on each axis. */
enum { LARGE = 12, LARGE_PAIRS = 60000 };
/* Problems in the suite of the medians. */
enum { SUITE = 320 };

static performer performers[MOST_PERFORMERS];
static int performer_count;

/* Fail unless the performer does the trial within the judgement. */
static void perform(trial *t, judgement *j, const performer *p)
{
    judge_turn_to(t, p->backend, j);
    performer_enter(p);
    natten_status status = trial_run(t, p->backend);
    ck_assert_msg(status == NATTEN_OK, "%s: %s: %s", p->name, natten_last_error(),
                  trial_text(t));
    const char *damaged = trial_damage(t);
    ck_assert_msg(damaged == NULL, "%s writes where it may not, at %s: %s", p->name,
                  damaged, trial_text(t));
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const verdict *v = &j->of[role];
        if (v->count == 0)
            continue;
        int64_t worst;
        double ratio = judge_ratio(v, &t->array[role], &worst);
        ck_assert_msg(
            ratio <= 1, "%s: %s[%lld] is %.17g, not %.17Lg, %.3g times its bound: %s",
            p->name, role_name(role), (long long)worst,
            array_get(&t->array[role], worst), v->value[worst], ratio, trial_text(t));
    }
}

START_TEST(every_element_is_within_its_bound)
{
    int problems = test_effort(PROBLEMS);
    for (int n = 0; n < problems; n++) {
        trial_wish wish = TRIAL_ANY;
        wish.dtype = _i;
        wish.profile = n % PROFILES;
        wish.operation = n / PROFILES % TRIAL_OPERATIONS;
        if (n % LARGE == LARGE - 1)
            wish.pairs = LARGE_PAIRS;
        static trial t;
        judgement j;
        trial_make(&t, &wish, (uint64_t)(_i * 1000000 + n));
        judge_evaluate(&t, &j);
        for (int p = 0; p < performer_count; p++)
            perform(&t, &j, &performers[p]);
        judge_free(&j);
        trial_free(&t);
    }
    performers_leave();
}
END_TEST

/* ---- medians ---- */

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

typedef struct ratios {
    natten_role role;
    int count[MOST_PERFORMERS];
    double *of[MOST_PERFORMERS];
} ratios;

/* Put rms error / rms error of the plain computation into the performers' lists. Where
 * the plain computation is exact (a window of one key) there is nothing to compare. */
static void compare_with_plain(trial *t, ratios *list, int lists)
{
    judgement j;
    judge_evaluate(t, &j);
    double plain[4];
    plain_run(t);
    for (int r = 0; r < lists; r++)
        plain[r] = judge_rms(&j.of[list[r].role], &t->array[list[r].role]);
    for (int p = 0; p < performer_count; p++) {
        performer_enter(&performers[p]);
        natten_status status = trial_run(t, performers[p].backend);
        ck_assert_msg(status == NATTEN_OK, "%s: %s", natten_last_error(),
                      trial_text(t));
        for (int r = 0; r < lists; r++)
            if (plain[r] > 0)
                list[r].of[p][list[r].count[p]++] =
                    judge_rms(&j.of[list[r].role], &t->array[list[r].role]) / plain[r];
    }
    judge_free(&j);
}

static int fewest(const ratios *list, int lists)
{
    int least = list[0].count[0];
    for (int r = 1; r < lists; r++)
        least = list[r].count[0] < least ? list[r].count[0] : least;
    return least;
}

static void check_medians(int dtype, natten_operation operation, ratios *list,
                          int lists)
{
    int problems = test_effort(SUITE) < SUITE ? SUITE : test_effort(SUITE);
    for (int r = 0; r < lists; r++)
        for (int p = 0; p < performer_count; p++) {
            list[r].of[p] = malloc((size_t)problems * 3 * sizeof(double));
            ck_assert_ptr_nonnull(list[r].of[p]);
        }
    /* As many trials as leave `problems` that the plain computation does not get exact.
     */
    for (int n = 0; n < 3 * problems && fewest(list, lists) < problems; n++) {
        trial_wish wish = TRIAL_ANY;
        wish.dtype = dtype;
        wish.operation = (int)operation;
        wish.profile = PROFILE_NORMAL;
        static trial t;
        trial_make(&t, &wish, (uint64_t)(7000000 + n));
        compare_with_plain(&t, list, lists);
        trial_free(&t);
    }
    performers_leave();
    for (int r = 0; r < lists; r++)
        for (int p = 0; p < performer_count; p++) {
            int count = list[r].count[p];
            ck_assert_int_ge(count, 300);
            qsort(list[r].of[p], (size_t)count, sizeof(double), by_value);
            double median = list[r].of[p][count / 2];
            printf(
                "# %s %s %s: median of rms error over a plain computation's %.3f (%d "
                "problems)\n",
                natten_dtype_name((natten_dtype)dtype), performers[p].name,
                role_name(list[r].role), median, count);
            free(list[r].of[p]);
            ck_assert_msg(median <= 0.88, "%s %s: median %.3f", performers[p].name,
                          role_name(list[r].role), median);
        }
}

START_TEST(sixteen_bits_beat_a_plain_computation_forward)
{
    ratios list[1] = {{.role = NATTEN_OUT}};
    check_medians(_i, NATTEN_FORWARD, list, 1);
}
END_TEST

START_TEST(sixteen_bits_beat_a_plain_computation_backward)
{
    ratios list[3] = {{.role = NATTEN_GRAD_QUERY},
                      {.role = NATTEN_GRAD_KEY},
                      {.role = NATTEN_GRAD_VALUE}};
    check_medians(_i, NATTEN_BACKWARD, list, 3);
}
END_TEST

int main(void)
{
    performer_count = performers_list(performers);
    TCase *bounds = tcase_create("bounds");
    tcase_add_loop_test(bounds, every_element_is_within_its_bound, 0, NATTEN_DTYPES);
    TCase *medians = tcase_create("medians");
    tcase_add_loop_test(medians, sixteen_bits_beat_a_plain_computation_forward,
                        NATTEN_BF16, NATTEN_FP16 + 1);
    tcase_add_loop_test(medians, sixteen_bits_beat_a_plain_computation_backward,
                        NATTEN_BF16, NATTEN_FP16 + 1);
    Suite *suite = suite_create("accuracy");
    suite_add_tcase(suite, bounds);
    suite_add_tcase(suite, medians);
    return tap_run(suite);
}
