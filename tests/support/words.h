/* SPDX-License-Identifier: MIT
 *
 * The window of a query on one axis, written down from the words of docs/definition.md,
 * sections 2 and 3, in 64 bits and without a look at geometry/axis.h: what the window
 * rule and the backends' masks are tested against. */
#ifndef NATTEN_TESTS_SUPPORT_WORDS_H
#define NATTEN_TESTS_SUPPORT_WORDS_H

#include "geometry/axis.h" /* natten_axis, the numbers alone */

/* The keys that token `i` sees on the whole grid, as the first and one past the last
 * position of its class; in *g its own position. */
static inline void words_window(const natten_axis *axis, int64_t i, int64_t *g,
                                int64_t *begin, int64_t *end)
{
    int64_t d = axis->dilation, k = axis->window, s = axis->stride;
    int64_t r = i % d;
    /* ceil((L - r) / d) tokens are in the class. */
    int64_t n = (axis->length - r) / d + ((axis->length - r) % d != 0);
    *g = (i - r) / d;
    int64_t block_begin = *g - *g % s;
    if (axis->causal) {
        int64_t leader = block_begin + s - 1;
        if (leader > n - 1)
            leader = n - 1;
        *begin = leader - (k - 1) > 0 ? leader - (k - 1) : 0;
        *end = *g + 1;
        return;
    }
    int64_t leader = block_begin + s / 2;
    if (leader > n - 1)
        leader = n - 1;
    int64_t left = k / 2, right = k - 1 - left;
    int64_t first = leader - left, last = leader + right;
    /* At a border the window shifts inward. */
    if (first < 0) {
        last -= first;
        first = 0;
    }
    if (last > n - 1) {
        first -= last - (n - 1);
        last = n - 1;
    }
    *begin = first;
    *end = last + 1;
}

/* Does token i see token j, on the whole grid? */
static inline bool words_sees(const natten_axis *axis, int64_t i, int64_t j)
{
    int64_t g, begin, end;
    words_window(axis, i, &g, &begin, &end);
    int64_t position = j / axis->dilation;
    return i % axis->dilation == j % axis->dilation && position >= begin &&
           position < end;
}

#endif
