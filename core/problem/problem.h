/* SPDX-License-Identifier: MIT
 *
 * What a call asks, as it came through the door: an operation, its params, and a tensor
 * per role.  problem.c checks all of it, once, by two tables (what each role's tensor
 * must look like; which roles each operation reads and writes), and makes the canonical
 * task that the rest of the library works on.  Nothing later checks arguments again. */
#ifndef NATTEN_PROBLEM_PROBLEM_H
#define NATTEN_PROBLEM_PROBLEM_H

#include "problem/task.h"

#include <natten.h>

typedef struct natten_problem {
    natten_operation operation;
    const natten_params *params;
    const natten_tensor *tensor[NATTEN_ROLES]; /* NULL: not given */
} natten_problem;

/* Check the whole call and fill *task; on failure the sentence names the parameter. A
 * batch of 0 gives task->batch == 0 and no further promise. */
natten_status natten_problem_check(const natten_problem *problem, natten_task *task);

/* The same for a question about a call (workspace, plan): outputs and the inputs that
 * do not shape the work may be missing, and no memory is looked at.  All outputs count
 * as wanted: their views are not NULL, and what a backend asks for is then enough for
 * every call. */
natten_status natten_problem_sketch(const natten_problem *problem, natten_task *task);

/* The caller's scratch shares no byte with a tensor of this checked call. */
natten_status natten_problem_check_workspace(const natten_problem *problem,
                                             const void *workspace, size_t bytes);

#endif
