/* SPDX-License-Identifier: MIT
 *
 * The operations of the reference, one function each: fused.c and unfused.c.  `sum` is
 * scratch, as many doubles as the larger of head_dim and head_dim_v. */
#ifndef NATTEN_REFERENCE_OPERATIONS_H
#define NATTEN_REFERENCE_OPERATIONS_H

#include "problem/task.h"

typedef natten_status natten_reference_operation(const natten_task *task, double *sum);

natten_reference_operation natten_reference_forward;
natten_reference_operation natten_reference_backward;
natten_reference_operation natten_reference_qk;
natten_reference_operation natten_reference_qk_backward;
natten_reference_operation natten_reference_av;
natten_reference_operation natten_reference_av_backward;

#endif
