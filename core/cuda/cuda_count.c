/* SPDX-License-Identifier: MIT
 *
 * Counting along an axis, see cuda_count.h. */
#include "cuda/cuda_count.h"

#include "cuda/cuda_halo.h"

enum { LOOKS = NATTEN_CUDA_COUNT_LOOKS, ENDS = NATTEN_CUDA_COUNT_ENDS };

static int32_t divide_up(int32_t a, int32_t b)
{
    return a / b + (a % b != 0);
}

/* Those of a class, which stands for `classes`; returns how many. */
static int look_at(const natten_class *c, natten_span rows, int32_t extent,
                   double classes, natten_cuda_count_tile *to)
{
    int32_t tiles = divide_up(rows.end - rows.begin, extent);
    int32_t looks = natten_min(tiles, LOOKS), between = looks - 2 * ENDS;
    int64_t skipped = tiles - looks;
    for (int32_t i = 0; i < looks; i++) {
        bool is_between = tiles > looks && i >= ENDS && i < looks - ENDS;
        int32_t number =
            i < ENDS ? i
            : i >= looks - ENDS
                ? tiles - looks + i
                : i + (int32_t)(skipped * (i - ENDS + 1) / (between + 1)); /* evenly */
        int32_t first = rows.begin + number * extent;
        to[i] = (natten_cuda_count_tile){
            .of = *c,
            .rows = {first, natten_min(first + extent, rows.end)},
            .weight =
                classes * (is_between ? (double)(tiles - 2 * ENDS) / between : 1)};
    }
    return looks;
}

/* Classes of the length of that of the axis's first row, and of that of the last of as
 * many rows as there are classes. */
int natten_cuda_count_tiles(const natten_axis *axis, bool of_keys, int32_t extent,
                            natten_cuda_count_tile tiles[NATTEN_CUDA_COUNT_TILES])
{
    int32_t d = axis->dilation;
    int32_t begin = of_keys ? axis->key_begin : axis->query_begin;
    int32_t count = of_keys ? axis->key_count : axis->query_count;
    int32_t longer = count % d == 0 ? d : count % d;
    int looks = 0;
    for (int last = 0; last < (longer < d ? 2 : 1); last++) {
        natten_class c = natten_axis_class(axis, (begin + (last ? d - 1 : 0)) % d);
        looks += look_at(&c, of_keys ? c.keys : c.queries, extent,
                         last ? d - longer : longer, tiles + looks);
    }
    return looks;
}

bool natten_cuda_count_positions(const natten_task *task, const int32_t tiles[3],
                                 int32_t *positions)
{
    int64_t all = 1;
    for (int a = 0; a < 3; a++)
        if (__builtin_mul_overflow(all, (int64_t)tiles[a] * task->axis[a].dilation,
                                   &all))
            return false;
    if (all > INT32_MAX)
        return false;
    *positions = (int32_t)all;
    return true;
}

bool natten_cuda_count_kinds(const natten_task *task, int32_t short_kind[3])
{
    int32_t kinds = 1;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        if (natten_min(axis->query_count, axis->key_count) < axis->dilation)
            return false;
        if (axis->query_count % axis->dilation == 0 &&
            axis->key_count % axis->dilation == 0)
            continue;
        short_kind[a] = kinds;
        kinds *= 2;
    }
    return kinds <= NATTEN_CUDA_KINDS;
}

double natten_cuda_count_clocks(double clocks, int32_t positions, double units,
                                int32_t held)
{
    double room = NATTEN_CUDA_NOMINAL_PROCESSORS * (double)held;
    double each = clocks / (double)positions * held;
    double blocks = units * (double)positions;
    return each * (blocks < room ? 1 : blocks / room);
}
