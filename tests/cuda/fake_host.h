/* SPDX-License-Identifier: MIT
 *
 * Arrays of the host on the fake driver's GPU, whose kernels are the reference. */
#ifndef NATTEN_TESTS_CUDA_FAKE_HOST_H
#define NATTEN_TESTS_CUDA_FAKE_HOST_H

#include "support/trial.h"

/* The trial's call on arrays of the host, in slabs of about `bytes`. */
natten_status fake_host_call_in_slabs(trial *t, int64_t bytes);

/* Scenarios. */
bool fake_host_arrays(void);
bool fake_host_little_memory(void);
bool fake_host_stopped(void);

#endif
