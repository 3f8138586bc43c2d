/* SPDX-License-Identifier: MIT
 *
 * What the host hands to a kernel, by value, in its parameters: the task as it is, and
 * how it is cut into pieces.  C and CUDA read the same structs, so nothing is
 * marshalled twice; a kernel's parameters have 4096 bytes on every architecture. */
#ifndef NATTEN_CUDA_CUDA_JOB_H
#define NATTEN_CUDA_CUDA_JOB_H

#include "problem/task.h"

/* Consecutive elements of a row that a lane holds: 16 bytes of a 16-bit type. */
enum { NATTEN_CUDA_STRIP = 8 };
/* Threads of a block: 8 warps. */
enum { NATTEN_CUDA_WARP = 32, NATTEN_CUDA_WARPS = 8, NATTEN_CUDA_THREADS = 256 };
/* Elements of a row that a warp holds in registers; longer rows are done in slices of
 * that width, each by a warp of its own that computes the weights anew. */
enum { NATTEN_CUDA_SLICE = NATTEN_CUDA_WARP * NATTEN_CUDA_STRIP };

/* A piece is, for one batch item, head and slice, a box of tokens; a block takes pieces
 * blockIdx, blockIdx + gridDim, ... and each of its warps tokens of the box in turn. */
typedef struct natten_cuda_job {
    natten_task task;
    int64_t pieces;
    int32_t tile[3];       /* tokens of a box on each axis, counted class by class */
    int32_t lanes;         /* that share a row: 4, 8, 16 or 32 of a warp */
    int32_t slices;        /* of a row */
    uint32_t vector;       /* bit per role: rows can be read 16 bytes at a time */
    int64_t window_slots;  /* product of the windows */
    int64_t entries;       /* of bias, of one head */
    int32_t strip_entries; /* of them that a block sums at once, in shared memory */
    int32_t chunks;        /* runs of queries with a partial sum each */
    void *delta;           /* accumulator [batch, axes..., heads]: <grad_out, out> less
                              grad_lse */
    void *partial;         /* accumulator [chunks, heads, entries], or
                              [chunks, batch, extras, heads_kv, dim + dim_v] */
} natten_cuda_job;

/* Most partials of a merge in one launch. */
enum { NATTEN_CUDA_MERGE = 14 };

typedef struct natten_cuda_merge_job {
    int32_t extent[3];
    int32_t count; /* partials here */
    int64_t batch, heads, dim_v;
    natten_view out, lse, grad_out, grad_lse;
    natten_view outputs[NATTEN_CUDA_MERGE], lses[NATTEN_CUDA_MERGE];
    natten_view grad_outputs[NATTEN_CUDA_MERGE], grad_lses[NATTEN_CUDA_MERGE];
} natten_cuda_merge_job;

#ifndef __cplusplus
_Static_assert(sizeof(natten_cuda_job) <= 4096, "parameters of a kernel");
_Static_assert(sizeof(natten_cuda_merge_job) <= 4096, "parameters of a kernel");
#endif

#endif
