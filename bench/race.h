/* SPDX-License-Identifier: MIT
 *
 * One problem, timed in several ways that take turns, so that what else the machine
 * does meets them all: each type on each number of threads, OpenBLAS beside them, and
 * plain loops.  Every result is judged before the first is timed. */
#ifndef NATTEN_BENCH_RACE_H
#define NATTEN_BENCH_RACE_H

#include "subject.h"

enum { MOST_SAMPLES = 1000, MOST_COUNTS = 8 };

typedef struct race_options {
    int threads[MOST_COUNTS], thread_counts; /* each number of threads to take */
    natten_dtype types[NATTEN_DTYPES];
    int type_count; /* 0: the problem's own type */
    int repeats;    /* rounds of turns, each with OpenBLAS and at least one sample */
    double seconds; /* that one way may take in all, though a sample a round is made */
    bool loops;     /* the plain loops too, in fp32 */
    natten_backend backend;
} race_options;

/* What was seen of one way. */
typedef struct timing {
    natten_problem_spec spec;
    int threads;
    int samples;
    double minimum, median;   /* seconds of a call */
    double flop;              /* useful ones of a call */
    double gemm, gemm_median; /* GFLOP/s of OpenBLAS beside it, best and median; 0 */
    double error;             /* over what is allowed; of the loops, where they ran, the
                                 larger of both */
    double loops;             /* seconds of the loops at least; 0: they did not run */
} timing;

enum { MOST_WAYS = MOST_COUNTS * NATTEN_DTYPES };

/* Time the problem: *ways timings, types one after the other, each with all numbers of
 * threads. After a failure natten_last_error() says why. */
natten_status race_run(const race_options *o, const natten_problem_spec *spec,
                       timing timings[MOST_WAYS], int *ways);

#endif
