/* SPDX-License-Identifier: MIT
 *
 * What the planners that try all shapes of tiles and boxes count with: the tiles of an
 * axis, the boxes of partners that one meets there, and the clocks of a whole pass.
 * Pure arithmetic, tested without a GPU. */
#ifndef NATTEN_CUDA_CUDA_COUNT_H
#define NATTEN_CUDA_CUDA_COUNT_H

#include "problem/task.h"

#include <stdbool.h>

/* A tile of rows of a class on one axis, and how many it stands for. */
typedef struct natten_cuda_count_tile {
    natten_class of;
    natten_span rows;
    double weight;
} natten_cuda_count_tile;

/* Tiles of a class that are looked at: the first and the last few, and between them,
 * where an axis repeats itself, some at even distances.  Classes have two numbers of
 * rows at most. */
enum {
    NATTEN_CUDA_COUNT_LOOKS = 32,
    NATTEN_CUDA_COUNT_ENDS = 8,
    NATTEN_CUDA_COUNT_TILES = 2 * NATTEN_CUDA_COUNT_LOOKS
};

/* Cut an axis, whose rows are queries or keys, into tiles of `extent` of them; returns
 * how many are to be looked at. */
int natten_cuda_count_tiles(const natten_axis *axis, bool of_keys, int32_t extent,
                            natten_cuda_count_tile tiles[NATTEN_CUDA_COUNT_TILES]);

/* Partners of a row at position g of a class: the keys that it sees, or, where rows are
 * keys, the queries that see it. */
NATTEN_INLINE natten_span natten_cuda_count_partners(const natten_class *c,
                                                     bool of_keys, int32_t g)
{
    return of_keys ? natten_class_queries(c, g) : natten_class_keys(c, g);
}

/* Boxes of `side` from `begin` on that meet a span; that lie in it. */
NATTEN_INLINE int32_t natten_cuda_count_meeting(natten_span s, int32_t begin,
                                                int32_t side)
{
    if (s.end <= s.begin)
        return 0;
    return (s.end - 1 - begin) / side - (s.begin - begin) / side + 1;
}
NATTEN_INLINE int32_t natten_cuda_count_inside(natten_span s, int32_t begin,
                                               int32_t side)
{
    int32_t count = (s.end - begin) / side - (s.begin - begin + side - 1) / side;
    return natten_max(count, 0);
}

/* Are 2^power rows more than twice what there is? */
NATTEN_INLINE bool natten_cuda_count_is_wasteful(int power, int32_t rows)
{
    return power > 0 && 1 << (power - 1) >= rows;
}

/* Tiles of all classes, of which the longest on an axis has `tiles`; false if they are
 * more than INT32_MAX. */
bool natten_cuda_count_positions(const natten_task *task, const int32_t tiles[3],
                                 int32_t *positions);

/* Number the lengths of classes for maps, of queries and of keys alike: what is added
 * to a map's number where the class on an axis is short, zeros before.  False where
 * that takes too many maps, or a class may have no token, which no map can tell. */
bool natten_cuda_count_kinds(const natten_task *task, int32_t short_kind[3]);

/* Clocks of a pass on a GPU of NATTEN_CUDA_NOMINAL_PROCESSORS that hold `held` blocks
 * each: of so many units, whose `positions` take `clocks` of a multiprocessor.  Blocks
 * run side by side, and the last may be few. */
double natten_cuda_count_clocks(double clocks, int32_t positions, double units,
                                int32_t held);

#endif
