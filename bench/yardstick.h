/* SPDX-License-Identifier: MIT
 *
 * What a result is held against: the clock, and OpenBLAS's matrix product on the same
 * machine in the same minute, the nearest thing to the machine's limit that is easily
 * had.  It is loaded at run time; without it the ratio is left out. */
#ifndef NATTEN_BENCH_YARDSTICK_H
#define NATTEN_BENCH_YARDSTICK_H

#include <stdbool.h>

/* Seconds: with one thread of this process's processor time, so that other load on the
 * machine counts less; with several of the monotonic clock. */
double yardstick_now(void);

/* Load OpenBLAS and give it `threads` threads; false if it is not on this machine. */
bool yardstick_open(int threads);
/* GFLOP/s of a single-precision product of 1536 x 1536 matrices; 0 without OpenBLAS. */
double yardstick_sgemm(void);

#endif
