/* SPDX-License-Identifier: MIT
 *
 * Before anything is timed its results are judged, by the judge of the tests: a time of
 * a wrong result is no time. */
#ifndef NATTEN_BENCH_VERIFY_H
#define NATTEN_BENCH_VERIFY_H

#include "subject.h"

/* Largest error over its bound (docs/definition.md, section 12) of the results that
 * the last run left, at two corners and in the middle of the grid, in the first batch
 * item and the last: at most 1 is right. Gradients that the whole grid adds to (bias,
 * extra tokens) are left to the tests. */
double verify(const subject *s);

#endif
