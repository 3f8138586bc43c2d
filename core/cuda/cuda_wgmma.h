/* SPDX-License-Identifier: MIT
 *
 * How the kernels of warpgroups (device/wgmma_tile.cuh), which are for compute
 * capability 9.0 alone, do a task: which they take, and the boxes of tokens that cost
 * least, found by counting.  Pure arithmetic, tested without a GPU. */
#ifndef NATTEN_CUDA_CUDA_WGMMA_H
#define NATTEN_CUDA_CUDA_WGMMA_H

#include "cuda/cuda_wgmma_crew.h"
#include "machine/gpu.h"

/* What a pass's kernel is like: wgmma_shapes.def. */
typedef struct natten_cuda_wgmma_shape {
    int32_t row_tensors, columns, crews, stages[2];
} natten_cuda_wgmma_shape;

extern const natten_cuda_wgmma_shape natten_cuda_wgmma_shapes[NATTEN_CUDA_WGMMA_PASSES];

/* A pass as it would be launched. */
typedef struct natten_cuda_wgmma_fit {
    natten_cuda_wgmma wgmma;
    int32_t short_kind[3]; /* of natten_cuda_halo */
    int32_t shared_bytes;
    int64_t blocks;
    double clocks; /* the whole pass, estimated for a GPU of 132 processors */
    double slots;  /* pairs of tokens computed, of one batch item and head */
    double full;   /* steps without masks, likewise */
} natten_cuda_wgmma_fit;

/* Do they take this pass on GPUs of this architecture, and by which boxes?  Those that
 * cost least, whatever the batch; only the clocks are those of the task's. */
bool natten_cuda_wgmma_plan(const natten_task *task, const natten_gpu *gpu,
                            natten_cuda_wgmma_pass pass, natten_cuda_wgmma_fit *fit);

/* Count the items of such a task's batch, which may be another, and the blocks that
 * share them out; false if there are too many.  The number of blocks follows from the
 * GPU, and no bit from it. */
bool natten_cuda_wgmma_spread(const natten_task *task, const natten_gpu *gpu,
                              natten_cuda_wgmma_pass pass, natten_cuda_wgmma_fit *fit);

#endif
