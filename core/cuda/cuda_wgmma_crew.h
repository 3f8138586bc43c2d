/* SPDX-License-Identifier: MIT
 *
 * What a block of the kernels of warpgroups has in shared memory
 * (device/wgmma_tile.cuh has the words): the kernels lay it out, and their planner asks
 * for it. */
#ifndef NATTEN_CUDA_CUDA_WGMMA_CREW_H
#define NATTEN_CUDA_CUDA_WGMMA_CREW_H

#include "cuda/cuda_job.h"

#include <stddef.h>

/* Rows of a tile, and of its sides together, at most (64, 1 and 1); numbers of a row
 * and its bytes; partners of a step, whole sixteens of them, stages and products with
 * masks, at most; words of masks that these take, 32 columns each. */
enum {
    NATTEN_CUDA_WGMMA_ROWS = 64,
    NATTEN_CUDA_WGMMA_PLACES = 66,
    NATTEN_CUDA_WGMMA_DIMS = 64,
    NATTEN_CUDA_WGMMA_ROW_BYTES = 128,
    NATTEN_CUDA_WGMMA_COLUMNS = 88,
    NATTEN_CUDA_WGMMA_STATS = 96,
    NATTEN_CUDA_WGMMA_STAGES = 3,
    NATTEN_CUDA_WGMMA_HOT_STEPS = 6,
    NATTEN_CUDA_WGMMA_HOT_WORDS = 3
};

/* What its tile is, for who works on it; two in turn. */
typedef struct natten_cuda_wgmma_item {
    int32_t batch, head, at[3]; /* of the first row, along the tensor's axes */
    int32_t steps;
    /* A byte an axis: 0x7f and how many rows it has, so that those of a place that is
     * there, less it, have bit 7. */
    uint32_t limit;
    char *result[2]; /* the first row's places in the tensors that the pass writes */
} natten_cuda_wgmma_item;

/* What a step's box is: does some row not see all of it?  If so, the columns of masks
 * that each place of the tile along an axis, one axis after the other, does not see, a
 * bit each. */
typedef struct natten_cuda_wgmma_step {
    int32_t masked;
    uint32_t hidden[NATTEN_CUDA_WGMMA_HOT_WORDS][NATTEN_CUDA_WGMMA_PLACES];
} natten_cuda_wgmma_step;

/* What a bringer has found out about an item, for itself. */
typedef struct natten_cuda_wgmma_found {
    /* Of each place of the tile along an axis, partners that it sees, from the class's
     * first on. */
    natten_span seen[NATTEN_CUDA_WGMMA_PLACES] __attribute__((aligned(16)));
    int32_t axis[3][10]; /* natten_class */
} natten_cuda_wgmma_found;

/* What is known of a crew, in shared memory. */
typedef struct natten_cuda_wgmma_info {
    /* Barriers: both tensors of partners, and the rows, have arrived; are not needed
     * any more. */
    uint64_t full[2][NATTEN_CUDA_WGMMA_STAGES], left[2][NATTEN_CUDA_WGMMA_STAGES];
    uint64_t rows_full[2], rows_left, item_left[2];
    natten_cuda_wgmma_step step[NATTEN_CUDA_WGMMA_STAGES];
    natten_cuda_wgmma_item item[2];
    natten_cuda_wgmma_found found; /* of who tells */
    uint32_t digit[8][6];          /* WgmmaTile's Digit, of lanes that have one */
    /* Where rows are in a step's table, two of them, 8 apart, in a word
     * (WgmmaTile::open()). */
    uint32_t places[NATTEN_CUDA_WGMMA_ROWS / 2];
    /* Of each warp, how many items it is done with; of each row, its place in the tile,
     * 8 bits an axis. */
    uint32_t items_done[4], row_place[NATTEN_CUDA_WGMMA_ROWS];
    /* Of each row, bytes from the tile's first in the first tensor of results. */
    int64_t row[NATTEN_CUDA_WGMMA_ROWS];
    /* Forward ends here.  lse to base 2 and minus delta of rows. */
    float row_stats[2][2 * NATTEN_CUDA_WGMMA_ROWS] __attribute__((aligned(16)));
    /* Of queries that lie together, rows or a box: their places in it, and how far
     * their lse and delta are from the first one's, in bytes. */
    int64_t query_offset[NATTEN_CUDA_WGMMA_COLUMNS];
    uint32_t query_place[NATTEN_CUDA_WGMMA_COLUMNS];
    /* The pass of queries has this much.  As `row`, in the second tensor; as `found`,
     * of who moves; lse to base 2 and minus delta of partners, by stage, in the order
     * of WgmmaTile's stats_place(). */
    int64_t second_row[NATTEN_CUDA_WGMMA_ROWS];
    natten_cuda_wgmma_found mover_found;
    float stats[NATTEN_CUDA_WGMMA_STAGES][2][NATTEN_CUDA_WGMMA_STATS]
        __attribute__((aligned(16)));
} natten_cuda_wgmma_info;

/* Where in a crew's shared memory what is known of it is: after `tensors` of rows and
 * `stages` boxes of `columns` partners, of both tensors together. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_wgmma_info_at(int32_t tensors, int32_t columns, int32_t stages)
{
    return (tensors * NATTEN_CUDA_WGMMA_ROWS + stages * columns) *
           NATTEN_CUDA_WGMMA_ROW_BYTES;
}
/* Bytes of a crew; crews begin at multiples of 1024. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_wgmma_crew_bytes(natten_cuda_wgmma_pass pass, int32_t tensors,
                                 int32_t columns, int32_t stages)
{
    size_t info = pass == NATTEN_CUDA_WGMMA_FORWARD
                      ? offsetof(natten_cuda_wgmma_info, row_stats)
                  : pass == NATTEN_CUDA_WGMMA_GRAD_QUERY
                      ? offsetof(natten_cuda_wgmma_info, second_row)
                      : sizeof(natten_cuda_wgmma_info);
    int32_t bytes = natten_cuda_wgmma_info_at(tensors, columns, stages) + (int32_t)info;
    return (bytes + 1023) / 1024 * 1024;
}
/* Bytes of a block: crews, and after them hot columns, which are the same for all. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_wgmma_block_bytes(int32_t crews, int32_t crew_bytes, int32_t columns)
{
    return crews * crew_bytes + NATTEN_CUDA_WGMMA_HOT_STEPS * columns * 32;
}

#ifndef __cplusplus
_Static_assert(16 * NATTEN_CUDA_WGMMA_HOT_STEPS <= 32 * NATTEN_CUDA_WGMMA_HOT_WORDS,
               "columns of masks");
_Static_assert(offsetof(natten_cuda_wgmma_info, row_stats) % 16 == 0 &&
                   offsetof(natten_cuda_wgmma_info, stats) % 16 == 0,
               "read 16 bytes at a time");
_Static_assert(offsetof(natten_cuda_wgmma_info, row) <
                       offsetof(natten_cuda_wgmma_info, row_stats) &&
                   offsetof(natten_cuda_wgmma_info, query_place) <
                       offsetof(natten_cuda_wgmma_info, second_row),
               "where passes end");
#endif

#endif
