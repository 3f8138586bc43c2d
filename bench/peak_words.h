/* SPDX-License-Identifier: MIT
 *
 * The loops of peak.h for one instruction set and one element type: included by
 * peak_single.c and peak_double.c, which make compiles once per instruction set, as it
 * does core/cpu/cpu_variant.h. */
#include "base/dtype.h"
#include "peak.h"

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 32")

#include NATTEN_VARIANT_WORDS

/* Vectors under way at a time while reading. */
enum { READS = 8 };

static void store_sum(vec *x, int count, void *result)
{
    for (int i = 1; i < count; i++)
        x[0] = v_add(x[0], x[i]);
    v_store(result, x[0]);
}

/* x becomes x / 2 + 1, so that it is neither subnormal nor infinite. */
static void multiply_add(int64_t rounds, void *result)
{
    vec x[PEAK_CHAINS], half = v_all((real)0.5), one = v_all(1);
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++)
        x[i] = v_all((real)i);
    for (; rounds > 0; rounds--) {
        UNROLL
        for (int i = 0; i < PEAK_CHAINS; i++)
            x[i] = v_fma(x[i], half, one);
    }
    store_sum(x, PEAK_CHAINS, result);
}

static void read_all(const void *data, int64_t bytes, void *result)
{
    const real *p = data, *end = p + bytes / (int64_t)sizeof(real);
    vec x[READS];
    UNROLL
    for (int i = 0; i < READS; i++)
        x[i] = v_zero();
    for (; p < end; p += READS * LANES) {
        UNROLL
        for (int i = 0; i < READS; i++)
            x[i] = v_add(x[i], v_load(p + i * LANES));
    }
    store_sum(x, READS, result);
}

#define PASTE(a, b, c)            a##b##_##c
#define TABLE_NAME(variant, bits) PASTE(peak_, variant, bits)

extern const peak TABLE_NAME(NATTEN_VARIANT, NATTEN_REAL);

const peak TABLE_NAME(NATTEN_VARIANT, NATTEN_REAL) = {
    .lanes = LANES,
    .multiply_add = multiply_add,
    .read = read_all,
};
