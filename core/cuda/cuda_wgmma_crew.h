/* SPDX-License-Identifier: MIT
 *
 * What a crew of the kernels of warpgroups has in shared memory (device/wgmma_tile.cuh
 * has the words): the kernels lay it out, and their planner asks for it. */
#ifndef NATTEN_CUDA_CUDA_WGMMA_CREW_H
#define NATTEN_CUDA_CUDA_WGMMA_CREW_H

#include "cuda/cuda_job.h"

/* Rows of a tile, numbers of a row and its bytes; partners of a step, stages of them
 * and products with masks, at most. */
enum {
    NATTEN_CUDA_WGMMA_ROWS = 64,
    NATTEN_CUDA_WGMMA_DIMS = 64,
    NATTEN_CUDA_WGMMA_ROW_BYTES = 128,
    NATTEN_CUDA_WGMMA_COLUMNS = 80,
    NATTEN_CUDA_WGMMA_STAGES = 3,
    NATTEN_CUDA_WGMMA_HOT_STEPS = 5
};

/* What its tile is, for who works on it; two in turn. */
typedef struct natten_cuda_wgmma_item {
    int32_t batch, head, at[3]; /* of the first row, along the tensor's axes */
    int32_t steps;
    /* A byte an axis: 0x7f and how many rows it has, so that those of a place that is
     * there, less it, have bit 7. */
    uint32_t limit;
    /* Of each row along an axis, one axis after the other: partners that it sees, from
     * the tile's first on. */
    natten_span seen[NATTEN_CUDA_WGMMA_ROWS + 2] __attribute__((aligned(8)));
} natten_cuda_wgmma_item;

/* What a step's box is: how far it is from the tile's first partner; does some row not
 * see all of it?  16 bytes at a time. */
typedef struct __attribute__((aligned(16))) natten_cuda_wgmma_step {
    int32_t far[3], masked;
} natten_cuda_wgmma_step;

/* What is known of a crew, in shared memory. */
typedef struct natten_cuda_wgmma_info {
    /* lse to base 2 and minus delta: of partners by stage, and of rows. */
    float stats[NATTEN_CUDA_WGMMA_STAGES][2 * NATTEN_CUDA_WGMMA_COLUMNS];
    float row_stats[2 * NATTEN_CUDA_WGMMA_ROWS];
    /* Barriers: both tensors of partners, and the rows, have arrived; are not needed
     * any more. */
    uint64_t full[2][NATTEN_CUDA_WGMMA_STAGES], left[2][NATTEN_CUDA_WGMMA_STAGES];
    uint64_t rows_full, rows_left, item_left[2];
    natten_cuda_wgmma_step step[NATTEN_CUDA_WGMMA_STAGES];
    natten_cuda_wgmma_item item[2];
    int32_t axis[3][10]; /* natten_class */
} natten_cuda_wgmma_info;

/* Where in a crew's shared memory what is known of it is: after `tensors` of rows,
 * `stages` boxes of `columns` partners, of both tensors together, and hot columns. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_wgmma_info_at(int32_t tensors, int32_t columns, int32_t stages)
{
    return (tensors * NATTEN_CUDA_WGMMA_ROWS + stages * columns) *
               NATTEN_CUDA_WGMMA_ROW_BYTES +
           NATTEN_CUDA_WGMMA_HOT_STEPS * columns * 32;
}

/* Bytes of it; crews begin at multiples of 1024. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_wgmma_bytes(int32_t tensors, int32_t columns, int32_t stages)
{
    int32_t bytes = natten_cuda_wgmma_info_at(tensors, columns, stages) +
                    (int32_t)sizeof(natten_cuda_wgmma_info);
    return (bytes + 1023) / 1024 * 1024;
}

#endif
