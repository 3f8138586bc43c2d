/* SPDX-License-Identifier: MIT
 *
 * The CUDA backend: kernels for every architecture that the build was asked for, chosen
 * among by what the task and the GPU are.  It is part of every build; one that was made
 * without nvcc has no kernels and says so. */
#ifndef NATTEN_CUDA_CUDA_H
#define NATTEN_CUDA_CUDA_H

#include "backend/backend.h"

extern const natten_backend_entry natten_cuda_backend;

/* natten_merge() and its gradient for tensors on `gpu`. */
natten_status natten_cuda_merge(const natten_merge_task *task, const natten_gpu *gpu,
                                void *stream);

/* Does this build have kernels? */
bool natten_cuda_is_built(void);

/* NATTEN_OK if it has some for this GPU, else why not. */
natten_status natten_cuda_check(const natten_gpu *gpu);

/* Are they machine code for this architecture?  Else the driver compiles PTX of an
 * older one, in which no kernel waits for those before it. */
bool natten_cuda_has_code(int32_t arch);

#endif
