/* SPDX-License-Identifier: MIT
 *
 * What a plan says of a pass's waste. */
#ifndef NATTEN_CPU_WORK_H
#define NATTEN_CPU_WORK_H

#include "cpu/cpu_pass.h"

/* Lanes times slots that the pass computes over pairs wanted, at least 1. */
double natten_cpu_work_share(const natten_cpu_pass *pass,
                             const natten_cpu_kernels *kernels);

#endif
