/* SPDX-License-Identifier: MIT
 *
 * The CPU backend: one algorithm in the words of simd/, compiled once per instruction
 * set, chosen at run time. */
#ifndef NATTEN_CPU_CPU_H
#define NATTEN_CPU_CPU_H

#include "backend/backend.h"

extern const natten_backend_entry natten_cpu_backend;

/* natten_merge() and its gradient, by the machine's variant and threads; the same for
 * every backend on the CPU. */
natten_status natten_cpu_merge(const natten_merge_task *task,
                               const natten_machine *machine);

#endif
