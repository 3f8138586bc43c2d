/* SPDX-License-Identifier: MIT
 *
 * Pairs in closed form.  Classes differ only by where L, and the ends of the part, fall
 * in a round of residues: at most seven kinds.  Within a class both ends of a window
 * are
 *
 *     clamp(s floor(g / s) + c, low, high)
 *
 * for the query at position g: windows move by s with each block of s queries until
 * they meet a border, of the grid or of the keys that are there.  This is the rule of
 * axis.h once more, summed; tests hold the two against each other. */
#include "geometry/pairs.h"

/* An end of the windows of a class, as above. */
typedef struct ramp {
    int64_t step, offset, low, high;
} ramp;

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Sum of the ramp over positions 0 .. positions - 1. Nothing here exceeds the square of
 * 2^31. */
static int64_t sum_before(const ramp *r, int64_t positions)
{
    int64_t s = r->step, blocks = positions / s;
    int64_t rising = clamp(-natten_floor_div(r->offset - r->low, s), 0, blocks);
    int64_t flat = clamp(natten_floor_div(r->high - r->offset, s) + 1, rising, blocks);
    int64_t between = flat - rising; /* blocks off both borders */
    int64_t starts = s * ((rising + flat - 1) * between / 2) + r->offset * between;
    int64_t sum = s * (rising * r->low + starts + (blocks - flat) * r->high);
    return sum + positions % s * clamp(s * blocks + r->offset, r->low, r->high);
}

static int64_t sum_over(ramp r, natten_span part, natten_span keys)
{
    r.low = clamp(r.low, keys.begin, keys.end);
    r.high = clamp(r.high, keys.begin, keys.end);
    return sum_before(&r, part.end) - sum_before(&r, part.begin);
}

static int64_t class_pairs(const natten_class *c)
{
    int64_t s = c->stride, k = c->window, n = c->length;
    int64_t first = c->causal ? s - k : s / 2 - k / 2; /* of the window of block 0 */
    ramp begin = {s, first, 0, n - k};
    ramp end = {s, first + k, k, n};
    if (c->causal)
        end = (ramp){1, 1, 1, n};
    return sum_over(end, c->queries, c->keys) - sum_over(begin, c->queries, c->keys);
}

int64_t natten_pairs_on_axis(const natten_axis *axis)
{
    int64_t d = axis->dilation;
    int64_t ends[] = {axis->length, axis->query_begin, axis->key_begin,
                      (int64_t)axis->query_begin + axis->query_count,
                      (int64_t)axis->key_begin + axis->key_count};
    int64_t pairs = 0;
    for (int64_t r = 0, next; r < d; r = next) { /* residues r .. next - 1 are alike */
        next = d;
        for (int n = 0; n < 5; n++)
            if (ends[n] % d > r && ends[n] % d < next)
                next = ends[n] % d;
        natten_class c = natten_axis_class(axis, (int32_t)r);
        pairs += (next - r) * class_pairs(&c);
    }
    return pairs;
}
