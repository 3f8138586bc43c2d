/* SPDX-License-Identifier: MIT
 *
 * From the params of one axis to a natten_axis, checked. */
#ifndef NATTEN_PROBLEM_AXES_H
#define NATTEN_PROBLEM_AXES_H

#include "geometry/axis.h"

#include <natten.h>

/* Axis `a` of the params, for a query of `queries` tokens and a key of `keys` along it,
 * both in [0, 2^31 - 1]. */
natten_status natten_axes_check(const natten_params *params, int a, int64_t queries,
                                int64_t keys, natten_axis *axis);

#endif
