/* SPDX-License-Identifier: MIT
 *
 * How the kernels for large windows (device/mma_tile.cuh) do a task: which they take,
 * and the boxes of tokens that cost least, found by counting.  Pure arithmetic, tested
 * without a GPU; tiles and boxes are the same for all GPUs. */
#ifndef NATTEN_CUDA_CUDA_MMA_H
#define NATTEN_CUDA_CUDA_MMA_H

#include "cuda/cuda_job.h"
#include "machine/gpu.h"

/* What a pass's kernel for rows of a width is like: mma_shapes.def. */
typedef struct natten_cuda_mma_shape {
    int32_t width, tensors, warps, sharing, blocks, columns, held;
} natten_cuda_mma_shape;

/* By size of the numbers: of 16 bits, 32, 64; then by pass and width.  Where there is
 * no kernel, all is 0. */
enum { NATTEN_CUDA_MMA_SIZES = 3 };
extern const natten_cuda_mma_shape natten_cuda_mma_shapes[NATTEN_CUDA_MMA_SIZES]
                                                         [NATTEN_CUDA_MMA_PASSES]
                                                         [NATTEN_CUDA_MMA_WIDTHS];

/* May products of the task's numbers be in tf32? */
bool natten_cuda_mma_allows_tf32(const natten_task *task);

/* A pass as it would be launched. */
typedef struct natten_cuda_mma_fit {
    natten_cuda_mma mma;
    int32_t width; /* number of it among the widths */
    bool is_wide;  /* more than 128: keys and values get their gradients apart */
    int32_t shared_bytes;
    int64_t blocks;
    double clocks; /* the whole pass, estimated for a GPU of 132 processors */
    double slots;  /* pairs of tokens computed, of one batch item and head */
} natten_cuda_mma_fit;

/* Do they take this pass on GPUs of this architecture, and by which boxes?  Those that
 * cost least, whatever the batch; only the clocks are those of the task's. */
bool natten_cuda_mma_plan(const natten_task *task, const natten_gpu *gpu,
                          natten_cuda_mma_pass pass, natten_cuda_mma_fit *fit);

/* Count the blocks of such a task's batch, which may be another; false if a grid can't
 * have so many. */
bool natten_cuda_mma_spread(const natten_task *task, natten_cuda_mma_pass pass,
                            natten_cuda_mma_fit *fit);

/* Does such a GPU take doubles here? Others multiply them at a 64th of the rate of
 * fp32, on tensor cores too: there hidden pairs cost more than all else. */
bool natten_cuda_mma_has_fast_doubles(int32_t arch);

#endif
