/* SPDX-License-Identifier: MIT
 *
 * How many (query, key) pairs an axis has, without visiting its tokens: plans say it,
 * and must not take longer than the calls that they plan. */
#ifndef NATTEN_GEOMETRY_PAIRS_H
#define NATTEN_GEOMETRY_PAIRS_H

#include "geometry/axis.h"

/* Visible pairs along one axis: at most 2^31 x 2^31. */
int64_t natten_pairs_on_axis(const natten_axis *axis);

#endif
