/* SPDX-License-Identifier: MIT
 *
 * Slabs: a task of the host cut into tasks that a GPU takes one after the other.
 *
 * A slab is some items of the batch, or some heads of one item: nothing that is
 * computed of one slab enters another, so slabs are plain tasks, and their results have
 * the bits of the whole.  grad_bias is a sum over the batch: with it a slab is some
 * heads of all items.  On the device a slab's tensors are compact. */
#ifndef NATTEN_CUDA_CUDA_SLAB_H
#define NATTEN_CUDA_CUDA_SLAB_H

#include "problem/task.h"

typedef struct natten_slab {
    int64_t batch_begin, batch_count;
    int64_t head_begin, head_count; /* of key and value */
} natten_slab;

/* A task in slabs of batch_step items and head_step heads; the last may be less. */
typedef struct natten_slabs {
    const natten_task *task;
    int64_t batch_step, head_step, count;
} natten_slabs;

/* Batch, three axes, heads, items. */
enum { NATTEN_SLAB_DIMENSIONS = 6 };

/* A role's tensor of a slab: the elements in the device's order, and where they are in
 * the caller's memory. */
typedef struct natten_share {
    char *host;       /* of the first element; NULL: the tensor is not there */
    int64_t count;    /* of elements */
    size_t each;      /* bytes of one */
    natten_view view; /* of the device's elements, without an address */
    /* The caller's memory: runs of elements side by side, and what is left of the
     * dimensions when runs are taken out, outermost first, strides in bytes. */
    int64_t run;
    int dimensions;
    int64_t extent[NATTEN_SLAB_DIMENSIONS], stride[NATTEN_SLAB_DIMENSIONS];
} natten_share;

/* Cut so that a slab's tensors have about `bytes`. */
natten_slabs natten_slabs_cut(const natten_task *task, int64_t bytes);
natten_slab natten_slabs_get(const natten_slabs *slabs, int64_t index);

natten_share natten_slab_share(const natten_task *task, const natten_slab *slab,
                               natten_role role);
/* Bytes of all of a slab's tensors on the device, each aligned. */
int64_t natten_slab_bytes(const natten_task *task, const natten_slab *slab);
/* The slab as a task on GPU `device_id`, its tensors from `address` on. */
natten_task natten_slab_task(const natten_task *task, const natten_slab *slab,
                             int32_t device_id, uintptr_t address);

/* Copy elements begin .. end - 1 of a share between the caller's memory and `chunk`,
 * which holds just these. */
natten_status natten_share_pack(const natten_share *share, char *chunk, int64_t begin,
                                int64_t end, int threads);
natten_status natten_share_unpack(const natten_share *share, char *chunk, int64_t begin,
                                  int64_t end, int threads);

#endif
