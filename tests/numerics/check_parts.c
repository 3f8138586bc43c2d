/* SPDX-License-Identifier: MIT
 *
 * Parts of a grid make the whole (docs/definition.md, section 13), over random problems
 * with every option, forward, backward and unfused, for every backend and variant:
 *
 *   queries split   each half with exactly the keys that it sees: what belongs to a
 *                   query is bit for bit that of the whole call, and is judged by the
 *                   same bounds; what belongs to keys adds up to it
 *   keys split      then merged: out and lse within bounds; backward of each half with
 *                   the merged out and lse: its share of the whole's gradients, within
 *                   bounds */
#include "support/judge_merge.h"
#include "support/performers.h"
#include "support/tap.h"
#include "support/words.h"

#include <stdlib.h>
#include <string.h>

enum { PROBLEMS = 40, PAIRS = 4000 };

static performer performers[MOST_PERFORMERS];
static int performer_count;

static void run(trial *t, const performer *p)
{
    natten_status status = trial_run(t, p->backend);
    ck_assert_msg(status == NATTEN_OK, "%s: %s: %s", p->name, natten_last_error(),
                  trial_text(t));
}

/* ---- cutting ---- */

/* Which of the trial's axes an array has, by what its tokens are. */
typedef enum along { QUERIES, KEYS, NEITHER } along;

static along along_of(natten_role role)
{
    switch (role) {
    case NATTEN_KEY:
    case NATTEN_VALUE:
    case NATTEN_GRAD_KEY:
    case NATTEN_GRAD_VALUE:
        return KEYS;
    case NATTEN_BIAS:
    case NATTEN_GRAD_BIAS:
    case NATTEN_ADDITIONAL_KEYS:
    case NATTEN_ADDITIONAL_VALUES:
    case NATTEN_GRAD_ADDITIONAL_KEYS:
    case NATTEN_GRAD_ADDITIONAL_VALUES:
        return NEITHER;
    default:
        return QUERIES;
    }
}

/* A piece of a trial: tokens [begin, begin + count) of its queries and keys along one
 * axis, counted from its own first. */
typedef struct piece {
    int axis;
    int64_t query_begin, query_count, key_begin, key_count;
} piece;

static int64_t begin_of(const piece *cut, natten_role role)
{
    return along_of(role) == QUERIES ? cut->query_begin
           : along_of(role) == KEYS  ? cut->key_begin
                                     : 0;
}

/* Index in the whole's array of element `index` of the piece's. */
static int64_t in_whole(const array *part, const array *whole, const piece *cut,
                        int64_t begin, int64_t index)
{
    int64_t from = 0, scale = 1;
    for (int n = part->tensor.ndim - 1; n >= 0; n--) {
        int64_t at = index % part->shape[n] + (n == 1 + cut->axis ? begin : 0);
        index /= part->shape[n];
        from += at * scale;
        scale *= whole->shape[n];
    }
    return from;
}

/* The piece as a trial of its own, with the whole's values. Without the extra tokens,
 * if they belong to another piece. */
static void take_piece(trial *to, const trial *from, const piece *cut, bool extras)
{
    *to = *from;
    memset(to->array, 0, sizeof to->array);
    natten_problem_spec *s = &to->spec;
    s->query_begin[cut->axis] += cut->query_begin;
    s->queries[cut->axis] = cut->query_count;
    s->key_begin[cut->axis] += cut->key_begin;
    s->keys[cut->axis] = cut->key_count;
    s->extras = extras ? s->extras : 0;
    to->params = natten_problem_spec_params(s, NATTEN_BACKEND_AUTO);
    trial_allocate(to, ARRAY_COMPACT, NULL);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const array *whole = &from->array[role];
        array *part = &to->array[role];
        for (int64_t i = 0; to->given[role] && i < array_count(part); i++)
            array_set(
                part, i,
                array_get(whole, in_whole(part, whole, cut, begin_of(cut, role), i)));
    }
}

/* The trial's axis `a` of the whole grid. */
static natten_axis axis_of(const trial *t, int a)
{
    return (natten_axis){
        .length = (int32_t)t->spec.grid_length[a],
        .window = (int32_t)t->spec.kernel_size[a],
        .stride = (int32_t)t->spec.stride[a],
        .dilation = (int32_t)t->spec.dilation[a],
        .causal = t->spec.is_causal[a] != 0,
    };
}

/* Queries [begin, begin + count) of the trial along axis `a` and the keys that they
 * see, of those there are; one key where they see none. */
static piece with_halo(const trial *t, int a, int64_t begin, int64_t count)
{
    natten_axis axis = axis_of(t, a);
    int64_t first = INT64_MAX, last = -1, key_begin = t->spec.key_begin[a];
    for (int64_t i = begin; i < begin + count; i++)
        for (int64_t j = 0; j < t->spec.keys[a]; j++)
            if (words_sees(&axis, t->spec.query_begin[a] + i, key_begin + j)) {
                first = j < first ? j : first;
                last = j > last ? j : last;
            }
    if (last < 0)
        return (piece){a, begin, count, 0, t->spec.keys[a] > 0};
    return (piece){a, begin, count, first, last - first + 1};
}

/* An axis with more than one token of `counts`, -1 if there is none. */
static int pick_axis(const trial *t, const int64_t counts[3], randoms *r)
{
    int able[3], n = 0;
    for (int a = 0; a < t->spec.rank; a++)
        if (counts[a] > 1)
            able[n++] = a;
    return n == 0 ? -1 : able[random_int(r, 0, n - 1)];
}

/* ---- queries split ---- */

/* What belongs to queries must be the same bits. */
static void compare_bits(trial *part, const trial *whole, const piece *cut,
                         const performer *p)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!part->given[role] || !trial_writes(part->spec.operation, role) ||
            along_of(role) != QUERIES)
            continue;
        const array *a = &part->array[role], *b = &whole->array[role];
        for (int64_t i = 0; i < array_count(a); i++) {
            int64_t j = in_whole(a, b, cut, begin_of(cut, role), i);
            bool same = array_same_bits(a, i, b, j);
            ck_assert_msg(same,
                          "%s: %s[%lld] is %.17g, in the whole call %.17g: part %s",
                          p->name, role_name(role), (long long)i, array_get(a, i),
                          array_get(b, j), trial_text(part));
        }
    }
}

/* Sums over pieces of what belongs to keys, bias and extra tokens, and of their bounds.
 */
typedef struct share {
    long double *sum;
    double *bound;
} share;

static void shares_make(share shares[NATTEN_ROLES], const trial *whole)
{
    memset(shares, 0, NATTEN_ROLES * sizeof *shares);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!whole->given[role] || !trial_writes(whole->spec.operation, role))
            continue;
        size_t count = (size_t)array_count(&whole->array[role]);
        shares[role].sum = calloc(count, sizeof(long double));
        shares[role].bound = calloc(count, sizeof(double));
        ck_assert(shares[role].sum != NULL && shares[role].bound != NULL);
    }
}

static void shares_add(share shares[NATTEN_ROLES], const trial *part,
                       const judgement *j, const trial *whole, const piece *cut)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const array *a = &part->array[role];
        for (int64_t i = 0; shares[role].sum != NULL && i < j->of[role].count; i++) {
            int64_t at = in_whole(a, &whole->array[role], cut, begin_of(cut, role), i);
            double value = array_get(a, i);
            bool overflowed = isinf(value) && isfinite(j->of[role].value[i]);
            shares[role].sum[at] += value;
            shares[role].bound[at] += overflowed ? HUGE_VAL : j->of[role].bound[i];
        }
    }
}

/* The pieces' gradients add up to what the judge says of the whole. */
static void shares_check(share shares[NATTEN_ROLES], const judgement *whole,
                         const performer *p, trial *t)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const verdict *v = &whole->of[role];
        for (int64_t i = 0; shares[role].sum != NULL && i < v->count; i++) {
            double error = (double)fabsl(shares[role].sum[i] - v->value[i]);
            bool fits = !isfinite(v->value[i]) ? !isfinite(shares[role].sum[i])
                                               : error <= shares[role].bound[i] ||
                                                     isinf(shares[role].bound[i]);
            ck_assert_msg(fits, "%s: parts of %s[%lld] sum to %.17Lg, not %.17Lg: %s",
                          p->name, role_name(role), (long long)i, shares[role].sum[i],
                          v->value[i], trial_text(t));
        }
        free(shares[role].sum);
        free(shares[role].bound);
    }
}

static void check_within(trial *t, const judgement *j, const performer *p)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        int64_t worst;
        if (j->of[role].count == 0)
            continue;
        double ratio = judge_ratio(&j->of[role], &t->array[role], &worst);
        ck_assert_msg(ratio <= 1, "%s: %s[%lld] is %.17g, not %.17Lg: part %s", p->name,
                      role_name(role), (long long)worst,
                      array_get(&t->array[role], worst), j->of[role].value[worst],
                      trial_text(t));
    }
}

/* A query that has all its keys is allowed the errors that it is allowed in the whole,
 * and no more: the judge's bounds are the same bits. */
static void compare_bounds(trial *part, const judgement *of_part, const trial *whole,
                           const judgement *of_whole, const piece *cut)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const verdict *v = &of_part->of[role], *w = &of_whole->of[role];
        for (int64_t i = 0; along_of(role) == QUERIES && i < v->count; i++) {
            int64_t at = in_whole(&part->array[role], &whole->array[role], cut,
                                  begin_of(cut, role), i);
            ck_assert_msg(v->bound[i] == w->bound[at],
                          "%s[%lld] is allowed %.17g in a part, %.17g in the whole: %s",
                          role_name(role), (long long)i, v->bound[i], w->bound[at],
                          trial_text(part));
        }
    }
}

static void split_queries(trial *whole, judgement *j, const performer *p, int a,
                          int64_t middle)
{
    judge_turn_to(whole, p->backend, j);
    static trial part;
    share shares[NATTEN_ROLES];
    run(whole, p);
    shares_make(shares, whole);
    const piece halves[2] = {
        with_halo(whole, a, 0, middle),
        with_halo(whole, a, middle, whole->spec.queries[a] - middle),
    };
    for (int h = 0; h < 2; h++) {
        judgement of_part;
        take_piece(&part, whole, &halves[h], true);
        run(&part, p);
        judge_for(&part, p->backend, &of_part);
        /* Tiles on tensor cores are laid over the part, so they sum in another order;
         * and a part may be too small for them. */
        if (whole->rounded == 0 && part.rounded == 0)
            compare_bits(&part, whole, &halves[h], p);
        if (whole->rounded == part.rounded)
            compare_bounds(&part, &of_part, whole, j, &halves[h]);
        check_within(&part, &of_part, p);
        shares_add(shares, &part, &of_part, whole, &halves[h]);
        judge_free(&of_part);
        trial_free(&part);
    }
    shares_check(shares, j, p, whole);
}

START_TEST(queries_split_with_their_halo_are_the_whole_bit_for_bit)
{
    int done = 0;
    for (int n = 0; done < test_effort(PROBLEMS); n++) {
        trial_wish wish = TRIAL_ANY;
        wish.dtype = _i;
        wish.layout = 0;
        wish.pairs = PAIRS;
        wish.operation = n % TRIAL_OPERATIONS;
        static trial t;
        trial_make(&t, &wish, (uint64_t)(40000000 + 100000 * _i + n));
        randoms r = {(uint64_t)n};
        int a = pick_axis(&t, t.spec.queries, &r);
        if (a >= 0) {
            judgement j;
            int64_t middle = random_int(&r, 1, t.spec.queries[a] - 1);
            judge_evaluate(&t, &j);
            for (int p = 0; p < performer_count; p++) {
                performer_enter(&performers[p]);
                split_queries(&t, &j, &performers[p], a, middle);
            }
            judge_free(&j);
            done++;
        }
        trial_free(&t);
    }
    performers_leave();
}
END_TEST

/* ---- keys split ---- */

/* How far the merge of partials that are off by their own bounds may be from the merge
 * of exact ones: the weighted sum of the errors of out, and what errors of lse shift
 * from one partial to another. Element i of out, in row `row`. */
static double inherited(const verdict outs[2], const verdict lses[2],
                        const verdict *whole, const verdict *whole_lse, int64_t row,
                        int64_t i)
{
    double direct = 0, shifted = 0, largest = 0;
    for (int h = 0; h < 2; h++) {
        long double lse = lses[h].value[row];
        if (lse == -HUGE_VALL)
            continue;
        double weight = (double)expl(lse - whole_lse->value[row]);
        double away = (double)fabsl(outs[h].value[i] - whole->value[i]);
        direct += weight * outs[h].bound[i];
        shifted += weight * away;
        largest = fmax(largest, lses[h].bound[row]);
    }
    return direct * exp(2 * largest) + expm1(2 * largest) * shifted;
}

/* Merge the halves' out and lse into the whole's, and hold them against the judge. */
static void merge_halves(trial *whole, const judgement *j, trial half[2],
                         const judgement of_half[2], const performer *p)
{
    const array outs[2] = {half[0].array[NATTEN_OUT], half[1].array[NATTEN_OUT]};
    const array lses[2] = {half[0].array[NATTEN_LSE], half[1].array[NATTEN_LSE]};
    const natten_tensor out_tensors[2] = {outs[0].tensor, outs[1].tensor};
    const natten_tensor lse_tensors[2] = {lses[0].tensor, lses[1].tensor};
    const verdict out_of[2] = {of_half[0].of[NATTEN_OUT], of_half[1].of[NATTEN_OUT]};
    const verdict lse_of[2] = {of_half[0].of[NATTEN_LSE], of_half[1].of[NATTEN_LSE]};
    array *out = &whole->array[NATTEN_OUT], *lse = &whole->array[NATTEN_LSE];
    natten_status status =
        natten_merge(2, out_tensors, lse_tensors, &out->tensor, &lse->tensor, NULL);
    ck_assert_msg(status == NATTEN_OK, "%s", natten_last_error());

    verdict merged, merged_lse;
    const merge_inputs in = {.count = 2, .outputs = outs, .lses = lses};
    judge_merge(&in, &merged, &merged_lse);
    const verdict *want = &j->of[NATTEN_OUT], *want_lse = &j->of[NATTEN_LSE];
    int64_t width = want->count / want_lse->count;
    for (int64_t row = 0; row < want_lse->count; row++) {
        if (want_lse->value[row] == -HUGE_VALL) {
            ck_assert(array_get(lse, row) == -HUGE_VAL);
        } else {
            double error = (double)fabsl(array_get(lse, row) - want_lse->value[row]);
            double bound = merged_lse.bound[row] +
                           fmax(lse_of[0].bound[row], lse_of[1].bound[row]);
            ck_assert_msg(error <= bound,
                          "%s: merged lse[%lld] is %.17g, not %.17Lg: %s", p->name,
                          (long long)row, array_get(lse, row), want_lse->value[row],
                          trial_text(whole));
        }
        for (int64_t i = row * width; i < (row + 1) * width; i++) {
            double error = (double)fabsl(array_get(out, i) - want->value[i]);
            double bound =
                merged.bound[i] + inherited(out_of, lse_of, want, want_lse, row, i);
            ck_assert_msg(error <= bound,
                          "%s: merged out[%lld] is %.17g, not %.17Lg: %s", p->name,
                          (long long)i, array_get(out, i), want->value[i],
                          trial_text(whole));
        }
    }
    judge_verdict_free(&merged);
    judge_verdict_free(&merged_lse);
}

/* The same trial as a question about another operation; inputs and results are its own.
 */
static void ask(trial *to, const trial *from, natten_operation operation)
{
    *to = *from;
    memset(to->array, 0, sizeof to->array);
    to->spec.operation = operation;
    to->spec.has_grad_lse = operation == NATTEN_BACKWARD && from->spec.has_grad_lse;
    trial_allocate(to, ARRAY_COMPACT, NULL);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (to->given[role] && from->given[role])
            array_assign(&to->array[role], &from->array[role]);
}

/* `t` is a backward trial whose out and lse will be the merged ones. */
static void split_keys(trial *t, const performer *p, int a, int64_t middle)
{
    static trial forward, half[2], part;
    judgement whole, of_half[2], backward;
    share shares[NATTEN_ROLES];
    const piece cuts[2] = {
        {a, 0, t->spec.queries[a], 0, middle},
        {a, 0, t->spec.queries[a], middle, t->spec.keys[a] - middle},
    };
    ask(&forward, t, NATTEN_FORWARD);
    judge_for(&forward, p->backend, &whole);
    for (int h = 0; h < 2; h++) {
        take_piece(&half[h], &forward, &cuts[h], h == 0);
        run(&half[h], p);
        judge_for(&half[h], p->backend, &of_half[h]);
        check_within(&half[h], &of_half[h], p);
    }
    merge_halves(&forward, &whole, half, of_half, p);
    array_assign(&t->array[NATTEN_OUT], &forward.array[NATTEN_OUT]);
    array_assign(&t->array[NATTEN_LSE], &forward.array[NATTEN_LSE]);
    for (int h = 0; h < 2; h++) {
        judge_free(&of_half[h]);
        trial_free(&half[h]);
    }
    judge_free(&whole);
    trial_free(&forward);

    judge_for(t, p->backend, &backward);
    shares_make(shares, t);
    for (int h = 0; h < 2; h++) {
        judgement of_part;
        take_piece(&part, t, &cuts[h], h == 0);
        run(&part, p);
        judge_for(&part, p->backend, &of_part);
        check_within(&part, &of_part, p);
        shares_add(shares, &part, &of_part, t, &cuts[h]);
        judge_free(&of_part);
        trial_free(&part);
    }
    shares_check(shares, &backward, p, t);
    judge_free(&backward);
}

START_TEST(keys_split_and_merged_are_the_whole_within_bounds)
{
    int done = 0;
    for (int n = 0; done < test_effort(PROBLEMS); n++) {
        trial_wish wish = TRIAL_ANY;
        wish.dtype = _i;
        wish.layout = 0;
        wish.operation = NATTEN_BACKWARD;
        wish.profile = n % PROFILES;
        wish.pairs = PAIRS;
        /* Where an lse is NaN there is no error to inherit. */
        if (wish.profile == PROFILE_NONFINITE)
            continue;
        static trial t;
        trial_make(&t, &wish, (uint64_t)(50000000 + 100000 * _i + n));
        randoms r = {(uint64_t)n};
        int a = pick_axis(&t, t.spec.keys, &r);
        /* Without queries there is nothing to merge. */
        if (a >= 0 && array_count(&t.array[NATTEN_LSE]) > 0) {
            int64_t middle = random_int(&r, 1, t.spec.keys[a] - 1);
            for (int p = 0; p < performer_count; p++) {
                performer_enter(&performers[p]);
                split_keys(&t, &performers[p], a, middle);
            }
            done++;
        }
        trial_free(&t);
    }
    performers_leave();
}
END_TEST

int main(void)
{
    performer_count = performers_list(performers);
    TCase *parts = tcase_create("parts");
    tcase_add_loop_test(parts, queries_split_with_their_halo_are_the_whole_bit_for_bit,
                        0, NATTEN_DTYPES);
    tcase_add_loop_test(parts, keys_split_and_merged_are_the_whole_within_bounds, 0,
                        NATTEN_DTYPES);
    Suite *suite = suite_create("parts");
    suite_add_tcase(suite, parts);
    return tap_run(suite);
}
