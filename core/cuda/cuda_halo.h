/* SPDX-License-Identifier: MIT
 *
 * How the halo kernels (device/halo_tile.cuh) do a task: which they take, and the boxes
 * of tokens that cost least, found by counting.  Pure arithmetic, tested without a GPU.
 */
#ifndef NATTEN_CUDA_CUDA_HALO_H
#define NATTEN_CUDA_CUDA_HALO_H

#include "cuda/cuda_job.h"
#include "machine/gpu.h"

#include <stddef.h>

typedef enum natten_cuda_halo_pass {
    NATTEN_CUDA_HALO_FORWARD,
    NATTEN_CUDA_HALO_GRAD_QUERY,
    NATTEN_CUDA_HALO_GRAD_TOKENS,
    NATTEN_CUDA_HALO_GRAD_BIAS /* and of queries: both in one pass */
} natten_cuda_halo_pass;

/* A pass as it would be launched. */
typedef struct natten_cuda_halo_fit {
    natten_cuda_halo halo;
    int32_t dims; /* width of rows in shared memory: 32, 64 or 128 */
    int32_t shared_bytes;
    natten_cuda_halo plain; /* the same bits where the copy engine can't be used */
    int32_t plain_bytes;
    double tile_clocks; /* of a multiprocessor: a tile and all units of a block */
    double clocks;      /* the whole pass, estimated for a GPU of 132 processors */
    double slots;       /* pairs of tokens computed, of one batch item and head */
} natten_cuda_halo_fit;

/* The task as the halo kernels see it: an axis that is alone counts rows, not columns,
 * so that it can be cut into slices. */
natten_task natten_cuda_halo_task(const natten_task *task);

/* Do the halo kernels take this pass of natten_cuda_halo_task()'s result on this GPU?
 * What decides about bits does not depend on the GPU, only the number of replicas;
 * those of a gradient of bias do, so there they don't. */
bool natten_cuda_halo_plan(const natten_task *task, const natten_gpu *gpu,
                           natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit);

#endif
