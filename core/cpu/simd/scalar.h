/* SPDX-License-Identifier: MIT
 *
 * The vector words in plain C, one lane: the instance for any machine, and the meaning
 * of the other pages.
 *
 *     real, ireal   an element, and an integer as wide
 *     vec, vidx     LANES elements, and as many lane numbers
 *     OWNERS        most owner vectors that a kernel keeps
 *     BUDGET        registers for sums */
#include <math.h>
#include <string.h>

#if NATTEN_REAL == 32
typedef float real;
typedef int32_t ireal;
typedef uint32_t real_bits;
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#else
typedef double real;
typedef int64_t ireal;
typedef uint64_t real_bits;
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#endif
typedef real vec;
typedef ireal vidx;

#define LANES  1
#define OWNERS 3
#define BUDGET 12

INLINE vec v_zero(void)
{
    return 0;
}
INLINE vec v_all(real x)
{
    return x;
}
/* Alignment of an element, nothing more. */
INLINE vec v_load(const real *p)
{
    return *p;
}
INLINE void v_store(real *p, vec a)
{
    *p = a;
}
INLINE vec v_add(vec a, vec b)
{
    return a + b;
}
INLINE vec v_sub(vec a, vec b)
{
    return a - b;
}
INLINE vec v_mul(vec a, vec b)
{
    return a * b;
}
INLINE vec v_div(vec a, vec b)
{
    return a / b;
}
/* Rounded once where the machine can, else twice. */
INLINE vec v_fma(vec a, vec b, vec c)
{
    return a * b + c;
}
/* b where either is NaN; a page may give NaN instead. */
INLINE vec v_max(vec a, vec b)
{
    return a > b ? a : b;
}
INLINE vec v_min(vec a, vec b)
{
    return a < b ? a : b;
}
/* a where x > y, else 0: whatever a is there, NaN included. */
INLINE vec v_keep_more(vec x, vec y, vec a)
{
    return x > y ? a : 0;
}
INLINE vec v_if_more(vec x, vec y, vec a, vec b)
{
    return x > y ? a : b;
}
/* Keep it in a register: a load is not to be folded into each of its uses. */
#define v_pin(a) ((void)(a))

/* Lane i of the result of v_pick is lane p[i] of a. */
INLINE vidx v_index(const ireal *p)
{
    return *p;
}
INLINE vec v_pick(vec a, vidx i)
{
    (void)i;
    return a;
}
/* 2^n for an integer n held as n + 1.5 2^MANTISSA_BITS: n moves into the exponent. At
 * the two ends of the range it gives 0 and infinity. */
INLINE vec v_scale2(vec magic)
{
    real_bits b;
    memcpy(&b, &magic, sizeof b);
    b = (b << MANTISSA_BITS) + ((real_bits)EXPONENT_BIAS << MANTISSA_BITS);
    memcpy(&magic, &b, sizeof b);
    return magic;
}
/* x >= 1 as 2^e m, m in [0.75, 1.5): gives e. Any e and m for NaN. */
INLINE vec v_split(vec x, vec *m)
{
    int e;
    real f = (real)frexp((double)x, &e);
    bool low = f < (real)0.75;
    *m = low ? f + f : f;
    return (real)(low ? e - 1 : e);
}
/* The sum of all lanes, in an order that is always the same. */
INLINE real v_sum(vec a)
{
    return a;
}
/* Transpose LANES vectors in place. */
INLINE void v_turn(vec r[1])
{
    (void)r;
}

#if NATTEN_REAL == 32
/* bf16 and fp16 storage, rounded as base/dtype.c does. */
#include "cpu/simd/narrow.h"
#endif
