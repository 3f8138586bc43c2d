/* SPDX-License-Identifier: MIT
 *
 * natten_merge() and its gradient: within the bounds of docs/definition.md, sections 9
 * and 12, for every type, any layout, empty partials and values that are not finite;
 * the slopes of forward; the same bits for any number of threads and any layout.  By
 * each variant of core/cpu/cpu_merge.h, which core/cpu/cpu_merge.c calls. */
#include "support/judge_merge.h"
#include "support/performers.h"
#include "support/tap.h"

#include <math.h>
#include <string.h>

/* The kernels keep weights of 16 partials and sum 256 elements at a time: some problems
 * have more. */
enum { PROBLEMS = 120, FEW_PARTIALS = 6, MOST_PARTIALS = 20, LONGEST_ROW = 300 };

static performer performers[MOST_PERFORMERS];
static int variants;

/* Test number `i` is of a type and a variant: take the variant, return the type. */
static natten_dtype enter(int i)
{
    performer_enter(&performers[i / NATTEN_DTYPES]);
    return (natten_dtype)(i % NATTEN_DTYPES);
}

typedef struct merge_trial {
    int count;
    bool with_grad_lse;
    array outputs[MOST_PARTIALS], lses[MOST_PARTIALS];
    array grad_outputs[MOST_PARTIALS], grad_lses[MOST_PARTIALS];
    array out, lse, grad_out, grad_lse;
} merge_trial;

/* The distribution of values: plain, far apart, with NaN and infinities, partials that
 * agree and whose products are beyond fp32. */
enum { PLAIN, FAR_APART, NONFINITE, HUGE_PRODUCTS, DISTRIBUTIONS };

static void fill(array *a, double size, int bad_once_in, randoms *r)
{
    static const double bad[] = {NAN, HUGE_VAL, -HUGE_VAL};
    for (int64_t i = 0; i < array_count(a); i++)
        array_set(a, i, random_normal(r) * size);
    for (int64_t i = 0; bad_once_in > 0 && i < array_count(a); i++)
        if (random_once_in(r, bad_once_in))
            array_set(a, i, bad[random_int(r, 0, 2)]);
}

/* Some partials saw nothing; of some queries, all did. */
static void empty_some(merge_trial *t, randoms *r)
{
    for (int64_t row = 0; row < array_count(&t->lses[0]); row++) {
        bool all = random_once_in(r, 9);
        for (int n = 0; n < t->count; n++)
            if (all || random_once_in(r, 5))
                array_set(&t->lses[n], row, -HUGE_VAL);
    }
}

static void make(merge_trial *t, natten_dtype dtype, int distribution, bool any,
                 randoms *r)
{
    memset(t, 0, sizeof *t);
    int most = random_once_in(r, 12) ? MOST_PARTIALS : FEW_PARTIALS;
    t->count = (int)random_int(r, 1, most);
    t->with_grad_lse = random_once_in(r, 2);
    int rank = (int)random_int(r, 1, 3), ndim = 0;
    int64_t shape[ARRAY_RANK];
    shape[ndim++] = random_int(r, 1, 3);
    for (int a = 0; a < rank; a++)
        shape[ndim++] = random_int(r, 1, 5);
    shape[ndim++] = random_int(r, 1, 3);
    shape[ndim++] =
        random_once_in(r, 4) ? random_int(r, 60, LONGEST_ROW) : random_int(r, 1, 9);
    natten_dtype accumulator = natten_dtype_accumulator(dtype);
    array_layout layout = any ? ARRAY_ANY : ARRAY_COMPACT;
    array_layout input = any ? ARRAY_BROADCAST : ARRAY_COMPACT;
    int bad = distribution == NONFINITE ? 40 : 0;
    double size = distribution == FAR_APART ? 300 : 2, scale = 1;
    if (distribution == HUGE_PRODUCTS && dtype != NATTEN_FP16)
        scale = 1e20;
    for (int n = 0; n < t->count; n++) {
        array_make(&t->outputs[n], dtype, ndim, shape, input, r);
        array_make(&t->lses[n], accumulator, ndim - 1, shape, layout, r);
        array_make(&t->grad_outputs[n], dtype, ndim, shape, layout, r);
        array_make(&t->grad_lses[n], accumulator, ndim - 1, shape, layout, r);
        fill(&t->outputs[n], scale, bad, r);
        if (distribution == HUGE_PRODUCTS)
            array_assign(&t->outputs[n], &t->outputs[0]);
        fill(&t->lses[n], size, bad, r);
    }
    array_make(&t->out, dtype, ndim, shape, layout, r);
    array_make(&t->lse, accumulator, ndim - 1, shape, layout, r);
    array_make(&t->grad_out, dtype, ndim, shape, input, r);
    array_make(&t->grad_lse, accumulator, ndim - 1, shape, input, r);
    fill(&t->grad_out, scale, bad, r);
    fill(&t->grad_lse, 1, bad, r);
    empty_some(t, r);
}

/* An array of the same values in another layout. */
static void copy_array(array *to, const array *from, randoms *r)
{
    array_make(to, from->dtype, from->tensor.ndim, from->shape, ARRAY_ANY, r);
    array_assign(to, from);
}

static void copy(merge_trial *to, const merge_trial *from, randoms *r)
{
    *to = *from;
    for (int n = 0; n < from->count; n++) {
        copy_array(&to->outputs[n], &from->outputs[n], r);
        copy_array(&to->lses[n], &from->lses[n], r);
        copy_array(&to->grad_outputs[n], &from->grad_outputs[n], r);
        copy_array(&to->grad_lses[n], &from->grad_lses[n], r);
    }
    copy_array(&to->out, &from->out, r);
    copy_array(&to->lse, &from->lse, r);
    copy_array(&to->grad_out, &from->grad_out, r);
    copy_array(&to->grad_lse, &from->grad_lse, r);
}

static void discard(merge_trial *t)
{
    for (int n = 0; n < t->count; n++) {
        array_free(&t->outputs[n]);
        array_free(&t->lses[n]);
        array_free(&t->grad_outputs[n]);
        array_free(&t->grad_lses[n]);
    }
    array_free(&t->out);
    array_free(&t->lse);
    array_free(&t->grad_out);
    array_free(&t->grad_lse);
}

/* The tensors of several arrays, one after the other as the interface wants them. */
static natten_tensor *tensors(const array *a, int count, natten_tensor *to)
{
    for (int n = 0; n < count; n++)
        to[n] = a[n].tensor;
    return to;
}

static void run_forward(merge_trial *t)
{
    natten_tensor outputs[MOST_PARTIALS], lses[MOST_PARTIALS];
    array_poison(&t->out);
    array_poison(&t->lse);
    natten_status status = natten_merge(
        t->count, tensors(t->outputs, t->count, outputs),
        tensors(t->lses, t->count, lses), &t->out.tensor, &t->lse.tensor, NULL);
    ck_assert_msg(status == NATTEN_OK, "%s", natten_last_error());
}

static void run_backward(merge_trial *t)
{
    natten_tensor outputs[MOST_PARTIALS], lses[MOST_PARTIALS];
    natten_tensor grad_outputs[MOST_PARTIALS], grad_lses[MOST_PARTIALS];
    for (int n = 0; n < t->count; n++) {
        array_poison(&t->grad_outputs[n]);
        array_poison(&t->grad_lses[n]);
        array_watch(&t->outputs[n]);
        array_watch(&t->lses[n]);
    }
    natten_status status = natten_merge_backward(
        t->count, tensors(t->outputs, t->count, outputs),
        tensors(t->lses, t->count, lses), &t->out.tensor, &t->lse.tensor,
        &t->grad_out.tensor, t->with_grad_lse ? &t->grad_lse.tensor : NULL,
        tensors(t->grad_outputs, t->count, grad_outputs),
        tensors(t->grad_lses, t->count, grad_lses), NULL);
    ck_assert_msg(status == NATTEN_OK, "%s", natten_last_error());
    for (int n = 0; n < t->count; n++) {
        ck_assert(array_gaps_are_untouched(&t->grad_outputs[n]));
        ck_assert(array_gaps_are_untouched(&t->grad_lses[n]));
        ck_assert(array_is_unchanged(&t->outputs[n]));
        ck_assert(array_is_unchanged(&t->lses[n]));
    }
}

static merge_inputs inputs_of(const merge_trial *t)
{
    return (merge_inputs){
        .count = t->count,
        .outputs = t->outputs,
        .lses = t->lses,
        .out = &t->out,
        .lse = &t->lse,
        .grad_out = &t->grad_out,
        .grad_lse = t->with_grad_lse ? &t->grad_lse : NULL,
    };
}

static void check(const verdict *v, const array *a, const char *what, int n)
{
    int64_t worst;
    double ratio = judge_ratio(v, a, &worst);
    ck_assert_msg(ratio <= 1,
                  "problem %d: %s[%lld] is %.17g, not %.17Lg: %.3g times its bound", n,
                  what, (long long)worst, array_get(a, worst), v->value[worst], ratio);
}

START_TEST(merge_is_within_its_bounds)
{
    natten_dtype dtype = enter(_i);
    for (int p = 0; p < test_effort(PROBLEMS); p++) {
        randoms r = {(uint64_t)(p + 1000 * (int)dtype)};
        static merge_trial t;
        make(&t, dtype, p / 2 % DISTRIBUTIONS, p % 2 == 1, &r);
        merge_inputs in = inputs_of(&t);
        verdict out, lse, grad_outputs[MOST_PARTIALS], grad_lses[MOST_PARTIALS];
        run_forward(&t);
        ck_assert(array_gaps_are_untouched(&t.out));
        ck_assert(array_gaps_are_untouched(&t.lse));
        judge_merge(&in, &out, &lse);
        check(&out, &t.out, "out", p);
        check(&lse, &t.lse, "lse", p);
        judge_verdict_free(&out);
        judge_verdict_free(&lse);
        run_backward(&t);
        judge_merge_backward(&in, grad_outputs, grad_lses);
        for (int n = 0; n < t.count; n++) {
            check(&grad_outputs[n], &t.grad_outputs[n], "grad_outputs", p);
            check(&grad_lses[n], &t.grad_lses[n], "grad_lses", p);
            judge_verdict_free(&grad_outputs[n]);
            judge_verdict_free(&grad_lses[n]);
        }
        discard(&t);
    }
}
END_TEST

/* ---- slopes ---- */

static double loss(merge_trial *t)
{
    run_forward(t);
    double sum = 0;
    for (int64_t i = 0; i < array_count(&t->out); i++)
        sum += array_get(&t->out, i) * array_get(&t->grad_out, i);
    for (int64_t i = 0; t->with_grad_lse && i < array_count(&t->lse); i++)
        if (isfinite(array_get(&t->lse, i)))
            sum += array_get(&t->lse, i) * array_get(&t->grad_lse, i);
    return sum;
}

static void check_slope(merge_trial *t, array *a, const array *grad, int64_t i)
{
    const double step = 1e-5, at = array_get(a, i);
    array_set(a, i, at + step);
    double above = loss(t);
    array_set(a, i, at - step);
    double below = loss(t);
    array_set(a, i, at);
    double numeric = (above - below) / (2 * step), analytic = array_get(grad, i);
    ck_assert_msg(fabs(numeric - analytic) <= 1e-6 + 1e-6 * fabs(numeric),
                  "%.12g, differences say %.12g", analytic, numeric);
}

START_TEST(gradients_of_merge_are_its_slopes)
{
    performer_enter(&performers[_i]);
    for (int p = 0; p < test_effort(PROBLEMS); p++) {
        randoms r = {(uint64_t)(p + 50000)};
        static merge_trial t;
        make(&t, NATTEN_FP64, PLAIN, false, &r);
        run_forward(&t);
        run_backward(&t);
        int n = (int)random_int(&r, 0, t.count - 1);
        int64_t last = array_count(&t.outputs[n]) - 1;
        check_slope(&t, &t.outputs[n], &t.grad_outputs[n], random_int(&r, 0, last));
        last = array_count(&t.lses[n]) - 1;
        int64_t i = random_int(&r, 0, last);
        if (isfinite(array_get(&t.lses[n], i)))
            check_slope(&t, &t.lses[n], &t.grad_lses[n], i);
        discard(&t);
    }
}
END_TEST

/* ---- bits ---- */

/* The results of both operations in compact arrays. */
typedef struct results {
    array out, lse, grad_output, grad_lse; /* gradients of the first partial */
} results;

static void keep(results *kept, merge_trial *t)
{
    const array *from[] = {&t->out, &t->lse, &t->grad_outputs[0], &t->grad_lses[0]};
    array *to[] = {&kept->out, &kept->lse, &kept->grad_output, &kept->grad_lse};
    run_forward(t);
    run_backward(t);
    for (int i = 0; i < 4; i++) {
        array_make(to[i], from[i]->dtype, from[i]->tensor.ndim, from[i]->shape,
                   ARRAY_COMPACT, NULL);
        array_assign(to[i], from[i]);
    }
}

static void compare(const results *kept, merge_trial *t)
{
    run_forward(t);
    run_backward(t);
    ck_assert_int_eq(array_difference(&kept->out, &t->out), -1);
    ck_assert_int_eq(array_difference(&kept->lse, &t->lse), -1);
    ck_assert_int_eq(array_difference(&kept->grad_output, &t->grad_outputs[0]), -1);
    ck_assert_int_eq(array_difference(&kept->grad_lse, &t->grad_lses[0]), -1);
}

static void forget(results *kept)
{
    array_free(&kept->out);
    array_free(&kept->lse);
    array_free(&kept->grad_output);
    array_free(&kept->grad_lse);
}

START_TEST(threads_do_not_change_merge)
{
    randoms r = {77};
    static merge_trial t;
    results kept;
    make(&t, enter(_i), PLAIN, false, &r);
    natten_set_num_threads(1);
    keep(&kept, &t);
    static const int32_t counts[] = {2, 3, 7};
    for (int n = 0; n < 3; n++) {
        natten_set_num_threads(counts[n]);
        compare(&kept, &t);
    }
    natten_set_num_threads(0);
    forget(&kept);
    discard(&t);
}
END_TEST

/* Elements side by side are read by the vector, others one by one. */
START_TEST(layout_does_not_change_merge)
{
    natten_dtype dtype = enter(_i);
    for (uint64_t seed = 0; seed < 40; seed++) {
        randoms r = {seed}, layouts = {seed};
        static merge_trial t, other;
        results kept;
        make(&t, dtype, PLAIN, false, &r);
        keep(&kept, &t);
        copy(&other, &t, &layouts);
        compare(&kept, &other);
        forget(&kept);
        discard(&other);
        discard(&t);
    }
}
END_TEST

START_TEST(one_partial_is_left_as_it_is)
{
    natten_dtype dtype = enter(_i);
    randoms r = {5};
    static merge_trial t;
    do {
        discard(&t);
        make(&t, dtype, PLAIN, false, &r);
    } while (t.count != 1);
    run_forward(&t);
    int64_t width = array_count(&t.out) / array_count(&t.lse);
    for (int64_t i = 0; i < array_count(&t.out); i++) {
        bool empty = array_get(&t.lses[0], i / width) == -HUGE_VAL;
        ck_assert(array_get(&t.out, i) == (empty ? 0 : array_get(&t.outputs[0], i)));
    }
    ck_assert_int_eq(array_difference(&t.lse, &t.lses[0]), -1);
    discard(&t);
}
END_TEST

int main(void)
{
    /* The first is the reference, which merging has none of. */
    variants = performers_on_host(performers) - 1;
    memmove(performers, performers + 1, (size_t)variants * sizeof *performers);
    int tests = NATTEN_DTYPES * variants;
    TCase *merging = tcase_create("merging");
    tcase_add_loop_test(merging, merge_is_within_its_bounds, 0, tests);
    tcase_add_loop_test(merging, gradients_of_merge_are_its_slopes, 0, variants);
    tcase_add_loop_test(merging, threads_do_not_change_merge, 0, tests);
    tcase_add_loop_test(merging, layout_does_not_change_merge, 0, tests);
    tcase_add_loop_test(merging, one_partial_is_left_as_it_is, 0, tests);
    Suite *suite = suite_create("merge");
    suite_add_tcase(suite, merging);
    return tap_run(suite);
}
