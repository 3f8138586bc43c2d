/* SPDX-License-Identifier: MIT
 *
 * A GPU for tests: arrays of the host sent there, a call made on them, results fetched.
 * Each array has an allocation of its own, as large as its memory on the host, so that
 * compute-sanitizer sees every step over an edge. */
#ifndef NATTEN_TESTS_SUPPORT_DEVICE_H
#define NATTEN_TESTS_SUPPORT_DEVICE_H

#include "cuda/cuda_image.h"
#include "machine/driver.h"
#include "support/trial.h"

/* The driver with the first GPU's primary context current on this thread; NULL if there
 * is no GPU that the library can compute on. */
const natten_driver *device_driver(void);

/* An array's memory on the GPU, and the tensor that describes it there. */
typedef struct device_array {
    uintptr_t address; /* 0: none */
    natten_tensor tensor;
} device_array;

/* Send all bytes of an array; bring them back. Device arrays are freed with
 * device_array_free(), of one of zeros too. Failures of the driver abort: a test that
 * can't copy has nothing to say. */
void device_array_send(device_array *d, const array *a);
void device_array_fetch(const device_array *d, array *a);
void device_array_free(device_array *d);

/* The results for which the first GPU would round the trial's weights P or dS to its
 * tensors' type, or fp32 to tf32, a bit for each role: those that the plan's passes
 * leave to tensor cores, which take weights so. */
uint32_t device_rounded(const trial *t);

/* Would the first GPU use kernels of this set for the trial's call?  Those of tf32 are
 * of the set for large windows, too. */
bool device_uses(const trial *t, natten_cuda_set set);

/* Would it add gradients of queries up in any order? */
bool device_adds(const trial *t);

/* Would it have blocks go from tile to tile? */
bool device_has_kinds(const trial *t);

/* From here on plan for GPUs of so many processors, so that blocks have much to do. */
void device_plan_for(int32_t processors);

/* From here on plan for GPUs of this architecture, though the first GPU computes: its
 * kernels can do what others' can, with less shared memory too.  0: for its own. */
void device_plan_as(int32_t arch);

/* trial_run() on the GPU: the results and all other bytes come back into the arrays of
 * the trial.  Its results have been poisoned. */
natten_status device_trial_run(trial *t);

/* Stop with the driver's word for it if `result` is a failure. */
void device_must(int result, const char *what);

#endif
