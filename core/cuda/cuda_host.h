/* SPDX-License-Identifier: MIT
 *
 * Arrays of the host on a GPU: uploaded, computed on and downloaded slab by slab, so
 * that the three overlap and the GPU's memory bounds no batch. */
#ifndef NATTEN_CUDA_CUDA_HOST_H
#define NATTEN_CUDA_CUDA_HOST_H

#include "machine/gpu.h"
#include "problem/task.h"

/* Do a checked forward or backward whose tensors are host memory on `gpu`, and wait for
 * the results; `threads` of the host copy. Slabs of about `slab_bytes`, 0 for the usual
 * size. The bits do not depend on the slabs: rows are
 * computed one by one, not in tiles. */
natten_status natten_cuda_host_run(const natten_task *task, const natten_gpu *gpu,
                                   int threads, int64_t slab_bytes);

#endif
