/* SPDX-License-Identifier: MIT
 *
 * What a result is held against: the clock, and OpenBLAS's matrix product on the same
 * machine in the same minute, the nearest thing to the machine's limit that is easily
 * had.  It is loaded at run time; without it the ratio is left out. */
#ifndef NATTEN_BENCH_YARDSTICK_H
#define NATTEN_BENCH_YARDSTICK_H

#include <stdbool.h>

/* Rows and columns of the matrices. */
enum { YARDSTICK_SIZE = 1536 };

/* Seconds of the monotonic clock; or of the calling thread's processor time, where
 * yardstick_alone() said that it does all the work. */
double yardstick_now(void);
/* There is one thread and no other: other load on the machine then counts less. */
void yardstick_alone(void);

/* Load OpenBLAS; false if it is not on this machine. */
bool yardstick_open(void);
/* What OpenBLAS says of itself; NULL without it. */
const char *yardstick_name(void);
/* GFLOP/s of one product in fp32, or fp64 where `wide`; 0 without OpenBLAS. */
double yardstick_gemm(bool wide, int threads);

#endif
