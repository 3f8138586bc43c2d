/* SPDX-License-Identifier: MIT
 *
 * Sums over a task.  Windows are products of axes, so the visible pairs are a product
 * too, of numbers that geometry/pairs.c gives.  Those that do not fit saturate: they
 * are for plans and reports, and the tensors of such a call would not fit either. */
#include "problem/task.h"

#include "geometry/pairs.h"

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

int64_t natten_task_pairs(const natten_task *task)
{
    int64_t pairs = 1, queries = 1;
    for (int a = 0; a < 3; a++) {
        pairs = saturating_product(pairs, natten_pairs_on_axis(&task->axis[a]));
        queries = saturating_product(queries, task->axis[a].query_count);
    }
    return saturating_sum(pairs, saturating_product(queries, task->extras));
}
