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

/* Kernels and tiles are chosen for a GPU of so many processors, so that bits do not
 * depend on how many it has. */
enum { NATTEN_CUDA_NOMINAL_PROCESSORS = 132 };

/* Tokens of an axis, or extra ones, that tensor core kernels take: a tile past the end
 * still has places of 32 bits. */
enum { NATTEN_CUDA_MOST_TOKENS = 1 << 30 };

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
    int32_t blocks;           /* that a multiprocessor holds at once */
    int32_t rows, classes[3]; /* tokens of a class on axis 1; classes of the axes */
    int32_t entries;          /* of bias that are summed; 0: none are */
    double tile_clocks;       /* of a multiprocessor: a tile and all units of a block */
    double most_clocks; /* the same of the slowest tile; tile_clocks is the mean */
    double open_clocks; /* until a block begins */
    double clocks;      /* the whole pass, estimated for a GPU of 132 processors */
    double slots;       /* pairs of tokens computed, of one batch item and head */
    natten_cuda_halo_share share; /* if halo.by_kinds */
    /* Partners of a subtile on an axis, of tiles of a sort. */
    double kind_partners[3][NATTEN_CUDA_SORTS];
} natten_cuda_halo_fit;

/* The task as the halo kernels see it: an axis that is alone counts rows, not columns,
 * so that it can be cut into slices. */
natten_task natten_cuda_halo_task(const natten_task *task);

/* Do the halo kernels take this pass of natten_cuda_halo_task()'s result on GPUs of
 * this architecture, and by which boxes?  Those that cost least for the task's batch on
 * a GPU of 132 processors.  They decide about bits; blocks are not shared out yet. */
bool natten_cuda_halo_plan(const natten_task *task, const natten_gpu *gpu,
                           natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit);

/* Share the batch of such a task, which may be another, out among blocks; false if it
 * is too large.  The number of replicas follows from the GPU, and no bit from it; that
 * of the sums of a gradient of bias follows from the batch alone. */
bool natten_cuda_halo_spread(const natten_task *task, const natten_gpu *gpu,
                             natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit);

/* How many blocks a pass has, once they are shared out. */
int64_t natten_cuda_halo_blocks(const natten_cuda_halo_fit *fit,
                                const natten_cuda_halo *h);

/* Have at most `sums` partial sums of a bias entry, of one head; at least one for each
 * position. */
void natten_cuda_halo_limit(natten_cuda_halo_fit *fit, int64_t sums);

#endif
