/* SPDX-License-Identifier: MIT
 *
 * The windows of one axis (docs/definition.md, sections 2, 3, 4 and 13): which keys a
 * query sees and which queries see a key.  Exact integer arithmetic and the only copy
 * of the rule: a mask bug here is a bug everywhere, and is found here.
 *
 * Tokens i with the same i mod dilation form a residue class; token r + g d is position
 * g of class r.  Spans are half-open, in positions of one class.  A part of a grid
 * (section 13) has fewer queries and keys than the grid: spans are clamped to what is
 * there, which keeps them non-decreasing and may leave them empty (begin == end). */
#ifndef NATTEN_GEOMETRY_AXIS_H
#define NATTEN_GEOMETRY_AXIS_H

#include "base/inline.h"

#include <stdbool.h>
#include <stdint.h>

/* 1 <= stride <= window, window * dilation <= length; parts lie in [0, length). */
typedef struct natten_axis {
    int32_t length, window, stride, dilation; /* of the whole grid, in tokens */
    bool causal;
    int32_t query_begin,
        query_count; /* queries are tokens query_begin + 0 .. count - 1 */
    int32_t key_begin, key_count;
} natten_axis;

typedef struct natten_span {
    int32_t begin, end;
} natten_span;

/* A residue class: an undilated axis of `length` positions, of which `queries` and
 * `keys` are in the part. */
typedef struct natten_class {
    int32_t length, window, stride;
    bool causal;
    natten_span queries, keys;
    int32_t query_index; /* where position queries.begin lies along the query tensor's
                            axis */
    int32_t key_index; /* where position keys.begin lies along the key tensor's axis */
} natten_class;

NATTEN_INLINE int32_t natten_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

NATTEN_INLINE int32_t natten_max(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

NATTEN_INLINE int32_t natten_clamp(int32_t x, int32_t low, int32_t high)
{
    return natten_max(low, natten_min(x, high));
}

/* By 1, the commonest case, without a division: GPUs divide slowly. */
NATTEN_INLINE int64_t natten_floor_div(int64_t a, int64_t b)
{
    return b == 1 ? a : a >= 0 ? a / b : -((b - 1 - a) / b);
}

/* a / b, 0 <= a. */
NATTEN_INLINE int32_t natten_quotient(int32_t a, int32_t b)
{
    return b == 1 ? a : a / b;
}

/* Positions of class `residue` whose tokens lie in [begin, begin + count), and, in
 * *index, how far the first of them is from `begin`. */
NATTEN_INLINE natten_span natten_axis_positions(const natten_axis *axis,
                                                int32_t residue, int32_t begin,
                                                int32_t count, int32_t *index)
{
    if (axis->dilation == 1) { /* the commonest case, and no division */
        *index = 0;
        return (natten_span){begin, begin + count};
    }
    /* Sums of two lengths fit without a sign; GPUs divide 64 bits slowly. */
    uint32_t d = (uint32_t)axis->dilation, r = (uint32_t)residue;
    uint32_t from = (uint32_t)begin, to = from + (uint32_t)count;
    uint32_t first = from > r ? (from - r + (d - 1)) / d : 0;
    uint32_t end = to > r ? (to - r + (d - 1)) / d : 0;
    if (end < first)
        end = first;
    *index = (int32_t)((int64_t)r + (int64_t)first * d - begin);
    return (natten_span){(int32_t)first, (int32_t)end};
}

/* Class `residue`, 0 <= residue < dilation. */
NATTEN_INLINE natten_class natten_axis_class(const natten_axis *axis, int32_t residue)
{
    natten_class c = {
        .length = natten_quotient(axis->length - residue - 1, axis->dilation) + 1,
        .window = axis->window,
        .stride = axis->stride,
        .causal = axis->causal,
    };
    c.queries = natten_axis_positions(axis, residue, axis->query_begin,
                                      axis->query_count, &c.query_index);
    c.keys = natten_axis_positions(axis, residue, axis->key_begin, axis->key_count,
                                   &c.key_index);
    return c;
}

/* The window of the query at position g on the whole grid (section 3). Slot t of qk and
 * av is position begin + t. */
NATTEN_INLINE natten_span natten_class_window(const natten_class *c, int32_t g)
{
    int32_t ahead = c->causal ? c->stride - 1 : c->stride / 2;
    int64_t last = (int64_t)natten_quotient(g, c->stride) * c->stride + ahead;
    int32_t leader = last < c->length ? (int32_t)last : c->length - 1;
    if (c->causal)
        return (natten_span){natten_max(leader - c->window + 1, 0), g + 1};
    int32_t begin = natten_clamp(leader - c->window / 2, 0, c->length - c->window);
    return (natten_span){begin, begin + c->window};
}

/* The queries of the whole grid that see the key at position j (section 4). */
NATTEN_INLINE natten_span natten_class_inverse(const natten_class *c, int32_t j)
{
    int64_t k = c->window, s = c->stride, n = c->length;
    int64_t half = s / 2, left = k / 2, right = k - 1 - left;
    if (c->causal) {
        int64_t end = natten_floor_div(j + k, s) * s;
        return (natten_span){j, (int32_t)(j + k >= n ? n : end)};
    }
    int64_t first = j < k ? 0 : -natten_floor_div(-(j - right - half), s) * s;
    int64_t block = natten_floor_div(j + left - half, s);
    int64_t end = s * ((block > 0 ? block : 0) + 1);
    return (natten_span){(int32_t)first, (int32_t)(j >= n - k || end > n ? n : end)};
}

NATTEN_INLINE natten_span natten_span_clamp(natten_span s, natten_span to)
{
    return (natten_span){natten_clamp(s.begin, to.begin, to.end),
                         natten_clamp(s.end, to.begin, to.end)};
}

/* The keys in the part that the query at position g sees. */
NATTEN_INLINE natten_span natten_class_keys(const natten_class *c, int32_t g)
{
    return natten_span_clamp(natten_class_window(c, g), c->keys);
}

/* The queries in the part that see the key at position j. */
NATTEN_INLINE natten_span natten_class_queries(const natten_class *c, int32_t j)
{
    return natten_span_clamp(natten_class_inverse(c, j), c->queries);
}

#endif
