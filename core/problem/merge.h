/* SPDX-License-Identifier: MIT
 *
 * The canonical form of natten_merge() and its gradient, and their checks: the only
 * operation that has no windows, and so no task. */
#ifndef NATTEN_PROBLEM_MERGE_H
#define NATTEN_PROBLEM_MERGE_H

#include "problem/task.h"

typedef struct natten_merge_task {
    bool backward;
    int64_t count; /* partials */
    natten_dtype dtype, accumulator;
    int32_t device_type, device_id; /* where all tensors are */
    int32_t extent[3];              /* sizes of the three axes */
    int64_t batch, heads, dim_v;
    const natten_tensor *outputs, *lses, *grad_outputs, *grad_lses; /* `count` each */
    natten_view out, lse, grad_out, grad_lse;
} natten_merge_task;

/* A call of natten_merge() or natten_merge_backward() as it came through the door. */
typedef struct natten_merge_problem {
    bool backward;
    int64_t count;
    const natten_tensor *outputs, *lses, *out, *lse;
    const natten_tensor *grad_out, *grad_lse, *grad_outputs,
        *grad_lses; /* backward only */
} natten_merge_problem;

natten_status natten_merge_check(const natten_merge_problem *problem,
                                 natten_merge_task *task);

/* The view of a tensor [batch, axes..., heads (, dim)] that has passed the check. */
natten_view natten_merge_view(const natten_tensor *tensor, bool has_item);

#endif
