/* SPDX-License-Identifier: MIT
 *
 * Planning: task x machine -> plan.  Pure; the plan prints itself. */
#ifndef NATTEN_PLAN_PLAN_H
#define NATTEN_PLAN_PLAN_H

#include "backend/backend.h"

/* The first backend of the registry that is asked for (or any, for auto) and accepts.
 */
natten_status natten_plan_make(const natten_task *task, const natten_machine *machine,
                               natten_plan *plan);

/* Problem text, backend, variant, tiles, items, workspace, waste; NUL-terminated. */
void natten_plan_print(const natten_plan *plan, char *text, size_t bytes);

#endif
