/* SPDX-License-Identifier: MIT
 *
 * All kernels of one instruction set and one element type: included by cpu_single.c and
 * cpu_double.c, which make compiles once per instruction set with its flags,
 * NATTEN_VARIANT_WORDS naming the page of words and NATTEN_VARIANT the variant.
 *
 * Only static functions and one table: a function that the linker could share with
 * other objects would carry instructions that an older processor lacks. */
#include "base/dtype.h"
#include "base/parallel.h"
#include "cpu/cpu_pass.h"
#include "cpu/cpu_share.h"
#include "geometry/axis.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE       static inline __attribute__((always_inline, unused))
#define UNROLL       _Pragma("GCC unroll 32")
#define UNROLL_TWICE _Pragma("GCC unroll 2")

#include NATTEN_VARIANT_WORDS

#include "cpu/cpu_math.h"

#include "cpu/cpu_kernel.h"

#include "cpu/cpu_pack.h"

#include "cpu/cpu_scatter.h"

#include "cpu/cpu_wish.h"

#include "cpu/cpu_group.h"

#include "cpu/cpu_line.h"

#include "cpu/cpu_near.h"

#include "cpu/cpu_give.h"

#include "cpu/cpu_bias.h"

#include "cpu/cpu_forward.h"

#include "cpu/cpu_backward.h"

#include "cpu/cpu_ahead.h"

#include "cpu/cpu_walk.h"

#include "cpu/cpu_extra.h"

#include "cpu/cpu_unfused.h"

#include "cpu/cpu_merge.h"

/* ---- probes for tests ------------------------------------------------------------ */

static void probe_exp(const void *x, void *y)
{
    v_store(y, v_exp(v_load(x)));
}

static void probe_log(const void *x, void *y)
{
    v_store(y, v_log(v_load(x)));
}

static void probe_sum(const void *x, void *y)
{
    *(real *)y = v_sum(v_load(x));
}

static void probe_pick(const void *x, const int *lane, void *y)
{
    ireal idx[LANES];
    for (int i = 0; i < LANES; i++)
        idx[i] = lane[i];
    v_store(y, v_pick(v_load(x), v_index(idx)));
}

static void probe_keep_more(const void *x, const void *y, const void *a, void *z)
{
    v_store(z, v_keep_more(v_load(x), v_load(y), v_load(a)));
}

static void probe_if_more(const void *x, const void *y, const void *a, const void *b,
                          void *z)
{
    v_store(z, v_if_more(v_load(x), v_load(y), v_load(a), v_load(b)));
}

static void probe_pack(void *columns, int64_t pitch, void *rows, const tokens *t,
                       double factor)
{
    pack(columns, pitch, rows, t, (real)factor);
}

static const natten_cpu_probes probes = {
    .exp = probe_exp,
    .log = probe_log,
    .sum = probe_sum,
    .pick = probe_pick,
    .keep_more = probe_keep_more,
    .if_more = probe_if_more,
    .pack = probe_pack,
};

static void unpack_rows(const tokens *t, void *to, const void *rows)
{
    real factor[LANES];
    v_store(factor, v_all(1));
    unpack(t, to, rows, factor);
}

#define PASTE(a, b, c)            a##b##_##c
#define TABLE_NAME(variant, bits) PASTE(natten_cpu_kernels_, variant, bits)

extern const natten_cpu_kernels TABLE_NAME(NATTEN_VARIANT, NATTEN_REAL);

const natten_cpu_kernels TABLE_NAME(NATTEN_VARIANT, NATTEN_REAL) = {
    .lanes = LANES,
    .owners = OWNERS,
    .real_bytes = sizeof(real),
    .run_bytes = sizeof(run),
    .probes = &probes,
    .walk = walk,
    .extra = extra,
    .unfused = unfused,
    .unpack = unpack_rows,
    .merge = merge,
};
