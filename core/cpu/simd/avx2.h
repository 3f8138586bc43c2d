/* SPDX-License-Identifier: MIT
 *
 * The vector words for AVX2, FMA and F16C: 16 registers of 8 floats or 4 doubles.
 *
 * What each word means stands in scalar.h, in plain C.  A word is one instruction where
 * it can be; v_pick of doubles, v_turn, v_sum and the narrowing are the exceptions. */
#include <immintrin.h>

#if NATTEN_REAL == 32
typedef float real;
typedef __m256 vec;
typedef int32_t ireal;
#define LANES    8
#define OP(name) _mm256_##name##_ps
#else
typedef double real;
typedef __m256d vec;
typedef int64_t ireal;
#define LANES    4
#define OP(name) _mm256_##name##_pd
#endif
typedef __m256i vidx;

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
    return OP(fmadd)(a, b, c);
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
    return OP(and)(OP(cmp)(x, y, _CMP_GT_OQ), a);
}
INLINE vec v_if_more(vec x, vec y, vec a, vec b)
{
    return OP(blendv)(b, a, OP(cmp)(x, y, _CMP_GT_OQ));
}
#define v_pin(a) __asm__("" : "+x"(a))

#if NATTEN_REAL == 32
INLINE vidx v_index(const ireal *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
INLINE vec v_pick(vec a, vidx i)
{
    return _mm256_permutevar8x32_ps(a, i);
}
INLINE vec v_scale2(vec magic)
{
    __m256i e = _mm256_slli_epi32(_mm256_castps_si256(magic), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(e, _mm256_set1_epi32(127 << 23)));
}
INLINE vec v_split(vec x, vec *m)
{
    __m256i b = _mm256_castps_si256(x);
    __m256i e =
        _mm256_srai_epi32(_mm256_sub_epi32(b, _mm256_set1_epi32(0x3f400000)), 23);
    *m = _mm256_castsi256_ps(_mm256_sub_epi32(b, _mm256_slli_epi32(e, 23)));
    return _mm256_cvtepi32_ps(e);
}
INLINE real v_sum(vec a)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}

/* Eight rows: pairs of lanes, then quads, then halves of the register. */
INLINE void v_turn(vec r[8])
{
    vec t[8], u[8];
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

/* v_turn of eight tokens as they are loaded: halves of registers meet on the way from
 * memory, which saves the last step of three. */
#define V_LOAD_TURNED 1
INLINE void v_load_turned(const char *p, int64_t step, vec r[8])
{
    UNROLL
    for (int h = 0; h < 2; h++) {
        vec a[4];
        UNROLL
        for (int i = 0; i < 4; i++) {
            const float *low = (const float *)(const void *)(p + i * step) + 4 * h;
            const float *high =
                (const float *)(const void *)(p + (i + 4) * step) + 4 * h;
            a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)),
                                        _mm_loadu_ps(high), 1);
        }
        vec t0 = _mm256_unpacklo_ps(a[0], a[1]), t1 = _mm256_unpackhi_ps(a[0], a[1]);
        vec t2 = _mm256_unpacklo_ps(a[2], a[3]), t3 = _mm256_unpackhi_ps(a[2], a[3]);
        r[4 * h] = _mm256_shuffle_ps(t0, t2, 0x44);
        r[4 * h + 1] = _mm256_shuffle_ps(t0, t2, 0xee);
        r[4 * h + 2] = _mm256_shuffle_ps(t1, t3, 0x44);
        r[4 * h + 3] = _mm256_shuffle_ps(t1, t3, 0xee);
    }
}

INLINE vec v_load_bf16(const uint16_t *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
INLINE vec v_load_fp16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE void v_store_fp16(uint16_t *p, vec a)
{
    __m128i h = _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128((__m128i *)(void *)p, h);
}
INLINE void v_store_bf16(uint16_t *p, vec a)
{
    __m256i b = _mm256_castps_si256(a);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(b, 16), _mm256_set1_epi32(1));
    __m256i near =
        _mm256_add_epi32(b, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(b, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    __m256i w = _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, nan), 16);
    __m128i h =
        _mm_packus_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    _mm_storeu_si128((__m128i *)(void *)p, h);
}

#else

/* AVX2 moves 32-bit halves across the register: lane i is the pair 2i, 2i + 1. */
INLINE vidx v_index(const ireal *p)
{
    __m256i i = _mm256_loadu_si256((const __m256i *)(const void *)p);
    i = _mm256_slli_epi64(i, 1);
    __m256i pair = _mm256_or_si256(i, _mm256_slli_epi64(i, 32));
    return _mm256_add_epi64(pair, _mm256_set1_epi64x(1LL << 32));
}
INLINE vec v_pick(vec a, vidx i)
{
    return _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(a), i));
}
INLINE vec v_scale2(vec magic)
{
    __m256i e = _mm256_slli_epi64(_mm256_castpd_si256(magic), 52);
    return _mm256_castsi256_pd(_mm256_add_epi64(e, _mm256_set1_epi64x(1023LL << 52)));
}
/* e is small and not negative, so it becomes a double as the low bits of 2^52. */
INLINE vec v_split(vec x, vec *m)
{
    __m256i b = _mm256_castpd_si256(x), magic = _mm256_set1_epi64x(0x4330000000000000);
    __m256i e = _mm256_sub_epi64(b, _mm256_set1_epi64x(0x3fe8000000000000));
    e = _mm256_srli_epi64(e, 52);
    *m = _mm256_castsi256_pd(_mm256_sub_epi64(b, _mm256_slli_epi64(e, 52)));
    return OP(sub)(_mm256_castsi256_pd(_mm256_or_si256(e, magic)), OP(set1)(0x1p52));
}
INLINE real v_sum(vec a)
{
    __m128d h = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}
INLINE void v_turn(vec r[4])
{
    vec a = OP(unpacklo)(r[0], r[1]), b = OP(unpackhi)(r[0], r[1]);
    vec c = OP(unpacklo)(r[2], r[3]), d = OP(unpackhi)(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}
#endif
