/* SPDX-License-Identifier: MIT
 *
 * What the machine can do at most, measured where and when the problems are timed: a
 * share of a number out of a data sheet says nothing on a shared or throttled machine.
 */
#ifndef NATTEN_BENCH_CEILING_H
#define NATTEN_BENCH_CEILING_H

#include "machine/machine.h"

/* Of all threads together; 0: not known. */
typedef struct ceiling {
    int threads;
    double fma[NATTEN_VARIANTS][2]; /* GFLOP/s of multiply-adds in fp32, in fp64 */
    double l2, dram;                /* GB/s read from the second cache, from memory */
} ceiling;

/* Takes about a second. */
ceiling ceiling_measure(int threads);

#endif
