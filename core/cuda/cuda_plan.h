/* SPDX-License-Identifier: MIT
 *
 * How the kernels do a task: tiles, grids, chunks and scratch.  Pure
 * arithmetic on the task and a GPU's description, so that it is tested for GPUs that
 * the computer does not have. */
#ifndef NATTEN_CUDA_CUDA_PLAN_H
#define NATTEN_CUDA_CUDA_PLAN_H

#include "backend/backend.h"
#include "cuda/cuda_launch.h"

/* A kernel to launch. */
typedef struct natten_cuda_pass {
    natten_cuda_kernel kernel;
    int64_t blocks;
    int32_t shared_bytes;
    natten_cuda_job job;
    /* In place of job.halo and shared_bytes if the copy engine can't be used. */
    natten_cuda_halo plain;
    int32_t plain_bytes;
    int64_t plain_blocks;
    bool spared;        /* nothing to do if the copy engine is used in the next one */
    size_t clear_bytes; /* of job.sums, which have to be zeros before; 0: none */
} natten_cuda_pass;

/* Most passes of an operation. */
enum { NATTEN_CUDA_PASSES = 8 };

natten_status natten_cuda_plan(const natten_task *task, const natten_gpu *gpu,
                               natten_choice *choice);

/* The passes of a plan in their order, for a workspace of choice.workspace_bytes. */
int natten_cuda_plan_passes(const natten_plan *plan, void *workspace,
                            natten_cuda_pass passes[NATTEN_CUDA_PASSES]);

#endif
