/* SPDX-License-Identifier: MIT
 *
 * A CPU for each thread, so that times of several threads do not depend on where the
 * system moves them. */
#ifndef NATTEN_BENCH_PIN_H
#define NATTEN_BENCH_PIN_H

/* Find the CPUs that the process may use: once, before any thread has a place. */
void pin_open(void);
/* The calling thread, as the n-th of some that work together, from 0. */
void pin_self(int n);
/* The calling thread gets the first CPU and all others of the process, whoever made
 * them, the second and those that follow, in the order in which they were made. Threads
 * that have been placed stay where they are. */
void pin_all(void);

#endif
