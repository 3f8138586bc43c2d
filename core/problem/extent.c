/* SPDX-License-Identifier: MIT
 *
 * Both questions are one: is there a sum of x[n] step[n] with 0 <= x[n] <= most[n] that
 * equals a target?  For two extents A and B a shared byte is
 *
 *     A.begin + sum i[n] a[n] + p  =  B.begin + sum j[n] b[n] + q
 *
 * with p and q inside an element, and counting j and q down from their ends (so that
 * every step is positive) gives that form.  The search fixes the terms from the largest
 * step to the smallest.  What the smaller ones can reach bounds each x from both sides,
 * and their common divisor leaves one residue of it, so that the slices of one array
 * leave at most a few values per term, and two terms none to try at all.  Terms that
 * fill their range without a gap, contiguous dimensions for example, are not searched.
 *
 * Strides without any such order can make the search long (the question is
 * NP-complete).  After TRIES values, about a millisecond, the answer is the safe one:
 * yes, they meet.  Refusing a pair like that is wrong at worst; accepting it would let
 * threads write over each other.        */
#include "problem/extent.h"

enum { TERMS = 2 * NATTEN_TENSOR_DIMS + 2, TRIES = 100000 };

/* Terms in order of falling steps, equal steps made one. What is said of term n in
 * `reach`, `divisor` and `gapless` holds for all terms from n on together. */
typedef struct search {
    int terms, tries;
    int64_t most[TERMS], step[TERMS];
    int64_t reach[TERMS + 1];   /* the largest sum */
    int64_t divisor[TERMS + 1]; /* common divisor of the steps; of none: 0 */
    bool gapless[TERMS + 1];    /* every multiple of divisor up to reach is a sum */
} search;

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Terms that add nothing stay away. */
static void add_term(search *s, int64_t most, int64_t step)
{
    if (most == 0 || step == 0)
        return;
    int at = s->terms;
    while (at > 0 && s->step[at - 1] < step)
        at--;
    if (at > 0 && s->step[at - 1] == step) {
        if (__builtin_add_overflow(s->most[at - 1], most, &s->most[at - 1]))
            s->most[at - 1] = INT64_MAX; /* for sum_up() to refuse */
        return;
    }
    for (int n = s->terms++; n > at; n--) {
        s->most[n] = s->most[n - 1];
        s->step[n] = s->step[n - 1];
    }
    s->most[at] = most;
    s->step[at] = step;
}

/* false if the sums reach past 61 bits, which leaves room for all that follows. */
static bool sum_up(search *s)
{
    s->tries = TRIES;
    s->reach[s->terms] = s->divisor[s->terms] = 0;
    s->gapless[s->terms] = true;
    for (int n = s->terms - 1; n >= 0; n--) {
        int64_t inner = s->reach[n + 1], divisor = s->divisor[n + 1], span;
        if (__builtin_mul_overflow(s->most[n], s->step[n], &span) ||
            __builtin_add_overflow(inner, span, &s->reach[n]) ||
            s->reach[n] > INT64_MAX / 4)
            return false;
        s->divisor[n] = common_divisor(s->step[n], divisor);
        s->gapless[n] =
            n == s->terms - 1 || (s->gapless[n + 1] && s->step[n] % divisor == 0 &&
                                  s->step[n] - divisor <= inner);
    }
    return true;
}

/* a b modulo m by doubling: the product may not fit. 0 <= a, b < m. */
static int64_t times_modulo(int64_t a, int64_t b, int64_t m)
{
    uint64_t product = 0, power = (uint64_t)a, modulus = (uint64_t)m;
    for (; b > 0; b >>= 1) {
        if (b & 1)
            product = (product + power) % modulus;
        power = 2 * power % modulus;
    }
    return (int64_t)product;
}

/* The number in [0, m) that a times is 1 modulo m; a and m have no common divisor. */
static int64_t inverse_modulo(int64_t a, int64_t m)
{
    int64_t high = m, low = a % m, of_high = 0, of_low = 1;
    while (low != 0) { /* high = of_high a and low = of_low a, modulo m */
        int64_t quotient = high / low, rest = high % low;
        int64_t of_rest = of_high - quotient * of_low;
        high = low, of_high = of_low;
        low = rest, of_low = of_rest;
    }
    return of_high < 0 ? of_high + m : of_high % m;
}

/* Is `target` a sum of the terms from n on? */
static bool hits(search *s, int n, int64_t target)
{
    if (target < 0 || target > s->reach[n])
        return false;
    if (n == s->terms)
        return true;
    if (target % s->divisor[n] != 0)
        return false;
    if (s->gapless[n])
        return true;
    int64_t step = s->step[n], inner = s->reach[n + 1];
    int64_t low = target > inner ? (target - inner - 1) / step + 1 : 0;
    int64_t high = target / step < s->most[n] ? target / step : s->most[n];
    int64_t period = s->divisor[n + 1] / s->divisor[n], first = 0;
    if (period > 1) /* what is left must be a multiple of divisor[n + 1] */
        first = times_modulo(target / s->divisor[n] % period,
                             inverse_modulo(step / s->divisor[n], period), period);
    low += (first - low % period + period) % period;
    for (int64_t x = low; x <= high; x += period)
        if (s->tries-- <= 0 || hits(s, n + 1, target - x * step))
            return true;
    return false;
}

/* The largest unit that all of an extent is a multiple of, given one to begin with. */
static int64_t unit_of(const natten_extent *extent, int64_t unit)
{
    unit = common_divisor(unit, extent->bytes);
    for (int n = 0; n < extent->dims; n++)
        unit = common_divisor(unit, extent->stride[n]);
    return unit;
}

static void add_extent(search *s, const natten_extent *extent, int64_t unit)
{
    add_term(s, extent->bytes / unit - 1, 1);
    for (int n = 0; n < extent->dims; n++)
        add_term(s, extent->size[n] - 1, extent->stride[n] / unit);
}

bool natten_extent_overlap(const natten_extent *a, const natten_extent *b)
{
    if (a->begin == a->end || b->begin == b->end || a->end <= b->begin ||
        b->end <= a->begin)
        return false;
    int64_t from_a = (int64_t)(b->begin - a->begin);
    int64_t unit = unit_of(a, unit_of(b, from_a < 0 ? -from_a : from_a));
    search s = {0};
    add_extent(&s, a, unit);
    add_extent(&s, b, unit);
    if (!sum_up(&s))
        return true; /* no memory is that large */
    /* What lies between A's first byte and B's last. */
    int64_t target = (int64_t)(b->end - a->begin) / unit - 1;
    return hits(&s, 0, target);
}

/* In order of rising strides, is each step as long as all that the smaller ones span?
 * Almost every layout is like that, and then no search is needed. */
static bool nested(const natten_extent *extent)
{
    search s;
    s.terms = 0;
    for (int n = 0; n < extent->dims; n++)
        add_term(&s, extent->size[n] - 1, extent->stride[n]);
    if (s.terms != extent->dims)
        return false; /* a step of 0, or the same one twice */
    int64_t span = extent->bytes;
    for (int n = s.terms - 1; n >= 0; n--) {
        if (s.step[n] < span)
            return false;
        span += s.most[n] * s.step[n]; /* at most end - begin */
    }
    return true;
}

/* Two elements at one place differ by d[n], not all 0, with a sum of d[n] stride[n] of
 * 0. Let n be the first dimension that differs, d[n] > 0; the later ones are counted
 * from -(size - 1) up. */
bool natten_extent_folds(const natten_extent *extent)
{
    if (nested(extent))
        return false;
    for (int n = 0; n < extent->dims; n++) {
        int64_t stride = extent->stride[n] / extent->bytes, target = -stride;
        if (stride == 0)
            return true;
        search s = {0};
        add_term(&s, extent->size[n] - 2, stride);
        for (int m = n + 1; m < extent->dims; m++) {
            int64_t step = extent->stride[m] / extent->bytes,
                    most = extent->size[m] - 1;
            add_term(&s, most, step);
            add_term(&s, most, step);
            target += most * step;
        }
        if (!sum_up(&s) || hits(&s, 0, target))
            return true;
    }
    return false;
}
