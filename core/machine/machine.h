/* SPDX-License-Identifier: MIT
 *
 * What this computer can do, as plain data, so that a test can invent one and planning
 * stays a pure function of task and machine. */
#ifndef NATTEN_MACHINE_MACHINE_H
#define NATTEN_MACHINE_MACHINE_H

#include "machine/gpu.h"

#include <stdbool.h>
#include <stdint.h>

/* Instruction-set variants of the CPU backend, worst first; a variant exists in a build
 * only where the compiler could make it. */
typedef enum natten_variant {
    NATTEN_VARIANT_SCALAR,   /* plain C: everywhere */
    NATTEN_VARIANT_BASELINE, /* "sse2" on x86-64, "neon" on aarch64 */
    NATTEN_VARIANT_AVX2,     /* AVX2, FMA, F16C */
    NATTEN_VARIANT_AVX512,   /* AVX-512 F, BW, DQ, VL and FMA */
    NATTEN_VARIANTS
} natten_variant;

typedef struct natten_machine {
    bool has_variant[NATTEN_VARIANTS]; /* this processor runs it */
    natten_variant variant;            /* the one to use: forced, or the best */
    int32_t threads;                   /* of a call, the caller included */
    int32_t processors;                /* that the process may use; 0: unknown */
    int64_t thread_work; /* multiply-adds per lane that a thread is woken for */
    int64_t l1_bytes, l2_bytes, l3_bytes; /* data caches a core sees; 0: unknown */
    natten_gpu
        gpu; /* the device of a task's tensors; nothing where they are not on one */
} natten_machine;

/* This computer, now: probed once per process, with the present thread count and
 * variant.  Looks at no GPU: that is natten_gpu_get(). */
natten_machine natten_machine_get(void);

/* See natten_set_num_threads() and natten_set_cpu_variant() in natten.h. */
void natten_machine_set_threads(int32_t threads);
bool natten_machine_set_variant(
    const char *name); /* false: unknown or not on this machine */
const char *natten_machine_variant_name(natten_variant variant);
/* Names of the variants of this machine, best last, separated by spaces. */
const char *natten_machine_variant_list(void);

#endif
