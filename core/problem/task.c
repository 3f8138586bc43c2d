/* SPDX-License-Identifier: MIT
 *
 * Sums over a task.  Windows are products of axes, so the visible pairs are a product
 * too: one pass over the queries of each axis, however large the grid.  Numbers that do
 * not fit saturate: they are for plans and reports, and the tensors of such a call
 * would not fit either.        */
#include "problem/task.h"

static int64_t saturating_product(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static int64_t saturating_sum(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t natten_task_slots(const natten_task *task)
{
    int64_t slots = 1;
    for (int a = 0; a < 3; a++)
        slots = saturating_product(slots, task->axis[a].window);
    return saturating_sum(slots, task->extras);
}

/* Visible pairs along one axis: at most 2^31 x 2^31. Only classes that have queries are
 * looked at: a few tokens of a grid can have a dilation of 2^31 - 1. */
static int64_t axis_pairs(const natten_axis *axis)
{
    int64_t pairs = 0;
    for (int32_t n = 0; n < natten_min(axis->dilation, axis->query_count); n++) {
        int64_t token = (int64_t)axis->query_begin + n;
        natten_class c = natten_axis_class(axis, (int32_t)(token % axis->dilation));
        for (int32_t g = c.queries.begin; g < c.queries.end; g++) {
            natten_span keys = natten_class_keys(&c, g);
            pairs += keys.end - keys.begin;
        }
    }
    return pairs;
}

int64_t natten_task_pairs(const natten_task *task)
{
    int64_t pairs = 1, queries = 1;
    for (int a = 0; a < 3; a++) {
        pairs = saturating_product(pairs, axis_pairs(&task->axis[a]));
        queries = saturating_product(queries, task->axis[a].query_count);
    }
    return saturating_sum(pairs, saturating_product(queries, task->extras));
}
