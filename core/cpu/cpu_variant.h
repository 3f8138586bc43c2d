/* SPDX-License-Identifier: MIT
 *
 * All kernels of one instruction set and one element type: included by cpu_single.c and
 * cpu_double.c, which make compiles once per instruction set with its flags,
 * NATTEN_VARIANT_WORDS naming the page of words and NATTEN_VARIANT the variant.
 *
 * Only static functions and one table: a function that the linker could share with other
 * objects would carry instructions that an older processor lacks.                        */
#include "base/dtype.h"
#include "cpu/cpu_pass.h"
#include "geometry/axis.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 32")

#include NATTEN_VARIANT_WORDS

#include "cpu/cpu_math.h"

#include "cpu/cpu_kernel.h"

#include "cpu/cpu_pack.h"

#include "cpu/cpu_group.h"

#include "cpu/cpu_bias.h"

#include "cpu/cpu_forward.h"

#include "cpu/cpu_backward.h"

#include "cpu/cpu_walk.h"

#include "cpu/cpu_extra.h"

#include "cpu/cpu_unfused.h"

#define PASTE(a, b, c) a##b##_##c
#define TABLE_NAME(variant, bits) PASTE(natten_cpu_kernels_, variant, bits)

extern const natten_cpu_kernels TABLE_NAME(NATTEN_VARIANT, NATTEN_REAL);

const natten_cpu_kernels TABLE_NAME(NATTEN_VARIANT, NATTEN_REAL) = {
    .lanes = LANES,
    .owners = OWNERS,
    .real_bytes = sizeof(real),
    .run_bytes = sizeof(run),
    .walk = walk,
    .extra = extra,
    .unfused = unfused,
};
