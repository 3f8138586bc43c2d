/* SPDX-License-Identifier: MIT
 *
 * The canonical form of a checked call.  From here on there are no special cases:
 * always three axes (missing ones in front have length 1), strides always filled in,
 * defaults resolved, optional tensors a NULL pointer.  Kernels see a task and nothing
 * else.        */
#ifndef NATTEN_PROBLEM_TASK_H
#define NATTEN_PROBLEM_TASK_H

#include "base/dtype.h"
#include "geometry/axis.h"

#include <natten.h>

/* Every tensor that any operation takes, named as in natten.h. */
typedef enum natten_role {
    NATTEN_QUERY,
    NATTEN_KEY,
    NATTEN_VALUE,
    NATTEN_BIAS,
    NATTEN_ADDITIONAL_KEYS,
    NATTEN_ADDITIONAL_VALUES,
    NATTEN_ATTN,
    NATTEN_OUT,
    NATTEN_LSE,
    NATTEN_GRAD_ATTN,
    NATTEN_GRAD_OUT,
    NATTEN_GRAD_LSE,
    NATTEN_GRAD_QUERY,
    NATTEN_GRAD_KEY,
    NATTEN_GRAD_VALUE,
    NATTEN_GRAD_BIAS,
    NATTEN_GRAD_ADDITIONAL_KEYS,
    NATTEN_GRAD_ADDITIONAL_VALUES,
    NATTEN_ROLES /* how many there are */
} natten_role;

/* A tensor as kernels address it: element (b, z, y, x, h, d) is at
 * data + (b batch + z axis[0] + y axis[1] + x axis[2] + h head + d item) elements.
 *
 *     tokens   batch, axis[0..2], head, item = head dim (attn: slot)
 *     lse      batch, axis[0..2], head
 *     bias     head, axis[0..2] over the 2 window - 1 offsets
 *     extras   batch, axis[2] over the extra tokens, head, item
 *
 * Strides that a tensor does not have are 0. */
typedef struct natten_view {
    void *data; /* NULL: the tensor is not there */
    int64_t batch, axis[3], head, item;
} natten_view;

typedef struct natten_task {
    natten_operation operation;
    natten_dtype dtype;       /* of the tensors */
    natten_dtype accumulator; /* of bias, lse and sums */
    int rank;                 /* as asked, for texts only */
    int32_t backend;          /* a natten_backend, as asked */
    int32_t device_type;      /* a natten_device_type: where all tensors are */
    int32_t device_id;        /* which of them */
    uint64_t flags;           /* NATTEN_FLAG_... */
    bool sketch; /* of a call to come, which may want fewer of the results */
    bool
        by_rows; /* a slab of a call: bits of a row may not depend on those beside it */
    natten_axis axis[3]; /* depth, height, width */
    int64_t batch, heads, heads_kv, dim, dim_v, extras;
    double scale; /* resolved: 1 for qk unless given */
    natten_view view[NATTEN_ROLES];
} natten_task;

/* Slots of a row of attn: the product of the windows, and the extra tokens. */
int64_t natten_task_slots(const natten_task *task);
/* Visible (query, key) pairs of one batch item and head, extra tokens included; the
 * unit of work: forward 2 (D + Dv), backward 2 (3 D + 2 Dv) flop each. */
int64_t natten_task_pairs(const natten_task *task);

/* Address of element (b, z, y, x, h) of a view, given the bytes of an element. */
NATTEN_INLINE void *natten_view_at(const natten_view *v, int64_t bytes, int64_t b,
                                   const int32_t at[3], int64_t h)
{
    int64_t offset = b * v->batch + h * v->head;
    for (int a = 0; a < 3; a++)
        offset += at[a] * v->axis[a];
    return (char *)v->data + offset * bytes;
}

#endif
