/* SPDX-License-Identifier: MIT
 *
 * The vector words for SSE2, which every x86-64 has: 16 registers of 4 floats or 2
 * doubles. No fused multiply-add and no blend or permutation by a variable; those take
 * a few instructions.  What each word means stands in scalar.h. */
#include <emmintrin.h>

#if NATTEN_REAL == 32
typedef float real;
typedef __m128 vec;
typedef int32_t ireal;
#define LANES    4
#define OP(name) _mm_##name##_ps
#else
typedef double real;
typedef __m128d vec;
typedef int64_t ireal;
#define LANES    2
#define OP(name) _mm_##name##_pd
#endif

/* Lane numbers stay in memory: picking goes through it. */
typedef struct vidx {
    ireal lane[LANES];
} vidx;

/* 12 sums + 3 owners + 1 partner = 16 registers. */
#define OWNERS 3
#define BUDGET 12
/* To pick takes one register more, and several times as long as two loads. */
#define PICK_BUDGET 9
#define V_CLAMPS    1

INLINE vec v_zero(void)
{
    return OP(setzero)();
}
INLINE vec v_all(real x)
{
    return OP(set1)(x);
}
INLINE vec v_load(const real *p)
{
    return OP(loadu)(p);
}
INLINE void v_store(real *p, vec a)
{
    OP(storeu)(p, a);
}
#define V_STREAMS 1
INLINE void v_stream(real *p, vec a)
{
    OP(stream)(p, a);
}
INLINE void v_settle(void)
{
    _mm_sfence();
}
INLINE vec v_add(vec a, vec b)
{
    return OP(add)(a, b);
}
INLINE vec v_sub(vec a, vec b)
{
    return OP(sub)(a, b);
}
INLINE vec v_mul(vec a, vec b)
{
    return OP(mul)(a, b);
}
INLINE vec v_div(vec a, vec b)
{
    return OP(div)(a, b);
}
INLINE vec v_fma(vec a, vec b, vec c)
{
    return OP(add)(OP(mul)(a, b), c);
}
INLINE vec v_max(vec a, vec b)
{
    return OP(max)(a, b);
}
INLINE vec v_min(vec a, vec b)
{
    return OP(min)(a, b);
}
INLINE vec v_keep_more(vec x, vec y, vec a)
{
    return OP(and)(OP(cmpgt)(x, y), a);
}
INLINE vec v_if_more(vec x, vec y, vec a, vec b)
{
    vec more = OP(cmpgt)(x, y);
    return OP(or)(OP(and)(more, a), OP(andnot)(more, b));
}
#define v_pin(a) __asm__("" : "+x"(a))

INLINE vidx v_index(const ireal *p)
{
    vidx i;
    for (int k = 0; k < LANES; k++)
        i.lane[k] = p[k];
    return i;
}
INLINE vec v_pick(vec a, vidx i)
{
    real from[LANES], to[LANES];
    v_store(from, a);
    UNROLL
    for (int k = 0; k < LANES; k++)
        to[k] = from[i.lane[k]];
    return v_load(to);
}

#if NATTEN_REAL == 32
INLINE vec v_scale2(vec magic)
{
    __m128i e = _mm_slli_epi32(_mm_castps_si128(magic), 23);
    return _mm_castsi128_ps(_mm_add_epi32(e, _mm_set1_epi32(127 << 23)));
}
INLINE vec v_split(vec x, vec *m)
{
    __m128i b = _mm_castps_si128(x);
    __m128i e = _mm_srai_epi32(_mm_sub_epi32(b, _mm_set1_epi32(0x3f400000)), 23);
    *m = _mm_castsi128_ps(_mm_sub_epi32(b, _mm_slli_epi32(e, 23)));
    return _mm_cvtepi32_ps(e);
}
INLINE real v_sum(vec a)
{
    vec h = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}
INLINE void v_turn(vec r[4])
{
    _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]);
}
#include "cpu/simd/narrow.h"

#else

INLINE vec v_scale2(vec magic)
{
    __m128i e = _mm_slli_epi64(_mm_castpd_si128(magic), 52);
    return _mm_castsi128_pd(_mm_add_epi64(e, _mm_set1_epi64x(1023LL << 52)));
}
/* e is small and not negative, so it becomes a double as the low bits of 2^52. */
INLINE vec v_split(vec x, vec *m)
{
    __m128i b = _mm_castpd_si128(x), magic = _mm_set1_epi64x(0x4330000000000000);
    __m128i e = _mm_sub_epi64(b, _mm_set1_epi64x(0x3fe8000000000000));
    e = _mm_srli_epi64(e, 52);
    *m = _mm_castsi128_pd(_mm_sub_epi64(b, _mm_slli_epi64(e, 52)));
    return _mm_sub_pd(_mm_castsi128_pd(_mm_or_si128(e, magic)), _mm_set1_pd(0x1p52));
}
INLINE real v_sum(vec a)
{
    return _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)));
}
INLINE void v_turn(vec r[2])
{
    vec low = _mm_unpacklo_pd(r[0], r[1]);
    r[1] = _mm_unpackhi_pd(r[0], r[1]);
    r[0] = low;
}
#endif
