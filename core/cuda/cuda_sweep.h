/* SPDX-License-Identifier: MIT
 *
 * Which tasks the kernel takes that has all gradients of a small window in one pass
 * (sweep_backward.cuh), and how their work is shared out.  Pure arithmetic, tested
 * without a GPU. */
#ifndef NATTEN_CUDA_CUDA_SWEEP_H
#define NATTEN_CUDA_CUDA_SWEEP_H

#include "cuda/cuda_job.h"
#include "machine/gpu.h"

/* The pass as it would be launched. */
typedef struct natten_cuda_sweep_fit {
    natten_cuda_sweep sweep;
    int64_t blocks;
    int64_t sums; /* of each entry of a bias, that are added up in the end */
    double slots; /* pairs of tokens computed, of one batch item and head */
    int32_t shared_bytes;
} natten_cuda_sweep_fit;

/* Does it take the gradients of a task?  That follows from the shape of an item and the
 * kind of GPU, unless the batch is beyond what it can count, or rows of a tensor lie
 * megabytes apart, so that 32 bits don't hold where they are.  How many blocks there
 * are follows from the batch and the GPU, and no bit from it. */
bool natten_cuda_sweep_plan(const natten_task *task, const natten_gpu *gpu,
                            natten_cuda_sweep_fit *fit);

#endif
