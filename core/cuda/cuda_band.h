/* SPDX-License-Identifier: MIT
 *
 * Which tasks the kernels take that go down bands of a grid (device/band_tile.cuh has
 * the words), which are for compute capability 9.0 alone, and how their work is shared
 * out.  Pure arithmetic, tested without a GPU. */
#ifndef NATTEN_CUDA_CUDA_BAND_H
#define NATTEN_CUDA_CUDA_BAND_H

#include "cuda/cuda_band_block.h"
#include "machine/gpu.h"

/* What a pass's kernel is like: band_shapes.def. */
typedef struct natten_cuda_band_shape {
    int32_t row_tensors, groups, crews;
} natten_cuda_band_shape;

extern const natten_cuda_band_shape natten_cuda_band_shapes[NATTEN_CUDA_BAND_PASSES];

/* A pass as it would be launched. */
typedef struct natten_cuda_band_fit {
    natten_cuda_band band;
    int32_t short_kind[3]; /* of natten_cuda_halo */
    int32_t shared_bytes;
    int64_t blocks;
    double clocks; /* estimated for a GPU of 132 processors */
    double slots;  /* pairs of tokens computed, of one batch item and head */
} natten_cuda_band_fit;

/* Do they take this pass of a task on GPUs of this architecture?  That follows from the
 * shape of an item, unless rows of results lie so far apart that 32 bits don't hold
 * where a step's are; only the clocks are those of the task's batch. */
bool natten_cuda_band_plan(const natten_task *task, const natten_gpu *gpu,
                           natten_cuda_band_pass pass, natten_cuda_band_fit *fit);

/* Share such a task out, whose batch may be another; false if there are too many items.
 * Where they are cut and how many blocks there are follows from the batch and the GPU,
 * and no bit from it. */
bool natten_cuda_band_spread(const natten_task *task, const natten_gpu *gpu,
                             natten_cuda_band_pass pass, natten_cuda_band_fit *fit);

#endif
