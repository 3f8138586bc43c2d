/* SPDX-License-Identifier: MIT
 *
 * Threads that begin together, to measure what the machine can do: the library's own
 * pool lets the caller take the work of a thread that wakes late. */
#ifndef NATTEN_BENCH_TEAM_H
#define NATTEN_BENCH_TEAM_H

typedef void team_body(void *context, int thread);

/* Seconds that `body` takes on threads 0 .. threads - 1, from the first one's beginning
 * to the last one's end. All begin when all are there; one that can't be had ends the
 * program. */
double team_run(int threads, team_body *body, void *context);

#endif
