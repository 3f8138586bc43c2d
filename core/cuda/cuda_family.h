/* SPDX-License-Identifier: MIT
 *
 * Which family of kernels does a pass: those for small windows (cuda_halo.h), those for
 * large ones (cuda_mma.h), those of warpgroups (cuda_wgmma.h), those that go down bands
 * of a grid (cuda_band.h), or level a, which does
 * all.  Pure arithmetic, tested without a GPU. */
#ifndef NATTEN_CUDA_CUDA_FAMILY_H
#define NATTEN_CUDA_CUDA_FAMILY_H

#include "cuda/cuda_band.h"
#include "cuda/cuda_halo.h"
#include "cuda/cuda_image.h"
#include "cuda/cuda_mma.h"
#include "cuda/cuda_wgmma.h"

/* A pass as it would be launched, of the family that takes it. */
typedef struct natten_cuda_fit {
    natten_cuda_set set; /* ..._HALO, _MMA, _WGMMA, _BAND; ..._SIMT: none takes it */
    natten_cuda_halo_fit halo;
    natten_cuda_mma_fit mma;
    natten_cuda_wgmma_fit wgmma;
    natten_cuda_band_fit band;
} natten_cuda_fit;

/* The family that would do a pass of a batch of some million rows soonest, by the
 * families' own counts, and how it does that of this task's batch.  Family and tiles,
 * which decide about bits, depend neither on the batch nor on the number of processors;
 * a batch beyond what a family's grid holds goes to level a.
 * A search takes longer than some kernels, a call plans a pass twice, and a program
 * makes the same calls: so a thread remembers its last answers. */
natten_cuda_fit natten_cuda_family_choose(const natten_task *task,
                                          const natten_gpu *gpu,
                                          natten_cuda_halo_pass pass);

/* A backward whose gradients of queries are sums that all blocks add to
 * (device/mma_added.cuh): of tokens, with all of the grid, and then for queries what
 * extra tokens add and the rounding. */
typedef struct natten_cuda_added {
    natten_cuda_mma_fit all, rest;
} natten_cuda_added;

/* Is it faster than the passes of natten_cuda_family_choose() that it stands for, by
 * the same counts?  Whether the caller allows it is not asked. */
bool natten_cuda_family_adds(const natten_task *task, const natten_gpu *gpu,
                             natten_cuda_added *fit);

#endif
