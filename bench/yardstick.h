/* SPDX-License-Identifier: MIT
 *
 * What a result is held against: the clock, and OpenBLAS's matrix product on the same
 * machine in the same minute, the nearest thing to the machine's limit that is easily
 * had.  It is loaded at run time; without it the ratio is left out. */
#ifndef NATTEN_BENCH_YARDSTICK_H
#define NATTEN_BENCH_YARDSTICK_H

#include <stdbool.h>

/* Seconds of the monotonic clock. */
double yardstick_now(void);

/* Load OpenBLAS and give it `threads` threads; false if it is not on this machine. */
bool yardstick_open(int threads);
/* Best GFLOP/s of a few single-precision products of 1536 x 1536 matrices; 0 without
 * OpenBLAS. */
double yardstick_sgemm(void);

#endif
