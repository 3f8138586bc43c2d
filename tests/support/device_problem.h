/* SPDX-License-Identifier: MIT
 *
 * Problems that live on the GPU alone, too large for the judge or for the host: every
 * tensor is compact and holds one block of random values over and over, so that any
 * element can be told from its index.  A few tokens of the results are then judged as
 * the part of the grid that they are. */
#ifndef NATTEN_TESTS_SUPPORT_DEVICE_PROBLEM_H
#define NATTEN_TESTS_SUPPORT_DEVICE_PROBLEM_H

#include "support/device.h"

typedef struct device_problem {
    trial t; /* its arrays have tensors on the GPU and no memory on the host */
    uintptr_t address[NATTEN_ROLES];
} device_problem;

/* Make the problem of a text; false if the GPU has no room. For backward out and lse
 * are computed on the GPU too. */
bool device_problem_make(device_problem *p, const char *text);
void device_problem_free(device_problem *p);

/* Judge what the problem's call left on the GPU, of one batch item: dQ (forward: out
 * and lse) of the query at `at`, or dK and dV of the key at `at` (counted like the
 * lengths). The largest error over its bound. */
double device_problem_judge_query(const device_problem *p, int64_t batch,
                                  const int64_t at[3]);
double device_problem_judge_key(const device_problem *p, int64_t batch,
                                const int64_t at[3]);

#endif
