/* SPDX-License-Identifier: MIT
 *
 * The vector words for AVX-512 F, BW, DQ and VL: 32 registers of 16 floats or 8
 * doubles. What each word means stands in scalar.h. */
#include <immintrin.h>

#if NATTEN_REAL == 32
typedef float real;
typedef __m512 vec;
typedef int32_t ireal;
#define LANES    16
#define OP(name) _mm512_##name##_ps
#else
typedef double real;
typedef __m512d vec;
typedef int64_t ireal;
#define LANES    8
#define OP(name) _mm512_##name##_pd
#endif
typedef __m512i vidx;

/* 24 sums + 6 owners + 1 partner = 31 of 32 registers. */
#define OWNERS 6
#define BUDGET 24

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
/* The first n lanes, zeros after them; what lies behind is not touched. */
#define V_FIRST  1
#define FIRST(n) (((1U << (n)) - 1) & ((1U << LANES) - 1))
INLINE vec v_load_first(const real *p, int n)
{
    return OP(maskz_loadu)(FIRST(n), p);
}
INLINE void v_store_first(real *p, int n, vec a)
{
    OP(mask_storeu)(p, FIRST(n), a);
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
#if NATTEN_REAL == 32
#define MORE(x, y) _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ)
#else
#define MORE(x, y) _mm512_cmp_pd_mask(x, y, _CMP_GT_OQ)
#endif
INLINE vec v_keep_more(vec x, vec y, vec a)
{
    return OP(maskz_mov)(MORE(x, y), a);
}
INLINE vec v_if_more(vec x, vec y, vec a, vec b)
{
    return OP(mask_blend)(MORE(x, y), b, a);
}
#define v_pin(a) __asm__("" : "+v"(a))

INLINE vidx v_index(const ireal *p)
{
    return _mm512_loadu_si512(p);
}
INLINE vec v_pick(vec a, vidx i)
{
    return OP(permutexvar)(i, a);
}

/* Half registers, which this set can permute as whole ones: the words of cpu_logits.h,
 * and those that make two halves one. */
#define HALF_LANES (LANES / 2)
typedef __m256i hidx;
#if NATTEN_REAL == 32
typedef __m256 hvec;
#define HALF_OP(name) _mm256_##name##_ps
#else
typedef __m256d hvec;
#define HALF_OP(name) _mm256_##name##_pd
#endif

INLINE hvec h_all(real a)
{
    return HALF_OP(set1)(a);
}
INLINE hvec h_zero(void)
{
    return HALF_OP(setzero)();
}
INLINE hvec h_load(const real *p)
{
    return HALF_OP(loadu)(p);
}
INLINE void h_store(real *p, hvec a)
{
    HALF_OP(storeu)(p, a);
}
INLINE hvec h_add(hvec a, hvec b)
{
    return HALF_OP(add)(a, b);
}
INLINE hvec h_max(hvec a, hvec b)
{
    return HALF_OP(max)(a, b);
}
INLINE hvec h_fma(hvec a, hvec b, hvec c)
{
    return HALF_OP(fmadd)(a, b, c);
}
INLINE hidx h_index(const ireal *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
INLINE hvec h_pick(hvec a, hidx i)
{
    return HALF_OP(permutexvar)(i, a);
}
#if NATTEN_REAL == 32
INLINE vec v_both(hvec low, hvec high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
INLINE hvec v_low(vec a)
{
    return _mm512_castps512_ps256(a);
}
INLINE hvec v_high(vec a)
{
    return _mm512_extractf32x8_ps(a, 1);
}
#else
INLINE vec v_both(hvec low, hvec high)
{
    return _mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1);
}
INLINE hvec v_low(vec a)
{
    return _mm512_castpd512_pd256(a);
}
INLINE hvec v_high(vec a)
{
    return _mm512_extractf64x4_pd(a, 1);
}
#endif

/* exp with a table (cpu_math.h): 2^(n / 16), n as in v_scale2, infinity at the upper
 * end, anything where it is not normal; and a, but 0 where x < y. Of n, moved so that
 * its sixteens meet the exponent, its last four bits i come to lie below it: the table
 * has the bits of 2^(i / 16) less those, and one sum makes both good. */
#define V_ROOTS 16
static const real roots_less_bits[V_ROOTS] = {
    (real)0x1.0000000000000p+0, (real)0x1.fb5586cf9890fp-1, (real)0x1.f72b83c7d517bp-1,
    (real)0x1.f387a6e756238p-1, (real)0x1.f06fe0a31b715p-1, (real)0x1.edea64c123422p-1,
    (real)0x1.ebfdad5362a27p-1, (real)0x1.eab07dd485429p-1, (real)0x1.ea09e667f3bcdp-1,
    (real)0x1.ea11473eb0187p-1, (real)0x1.eace5422aa0dbp-1, (real)0x1.ec49182a3f090p-1,
    (real)0x1.ee89f995ad3adp-1, (real)0x1.f199bdd85529cp-1, (real)0x1.f5818dcfba487p-1,
    (real)0x1.fa4afa2a490dap-1,
};
#if NATTEN_REAL == 32
INLINE vec v_root2(vec magic)
{
    __m512i b = _mm512_castps_si512(magic), e = _mm512_slli_epi32(b, 19);
    __m512 root = _mm512_permutexvar_ps(b, v_load(roots_less_bits));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(root), e));
}
INLINE vec v_drop_less(vec x, vec y, vec a)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, y, _CMP_NLT_UQ), a);
}
#else
INLINE vec v_root2(vec magic)
{
    __m512i b = _mm512_castpd_si512(magic), e = _mm512_slli_epi64(b, 48);
    __m512d root = _mm512_permutex2var_pd(v_load(roots_less_bits), b,
                                          v_load(roots_less_bits + LANES));
    return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(root), e));
}
INLINE vec v_drop_less(vec x, vec y, vec a)
{
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, y, _CMP_NLT_UQ), a);
}
#endif

#if NATTEN_REAL == 32
INLINE vec v_scale2(vec magic)
{
    __m512i e = _mm512_slli_epi32(_mm512_castps_si512(magic), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(e, _mm512_set1_epi32(127 << 23)));
}
INLINE vec v_split(vec x, vec *m)
{
    __m512i b = _mm512_castps_si512(x);
    __m512i e =
        _mm512_srai_epi32(_mm512_sub_epi32(b, _mm512_set1_epi32(0x3f400000)), 23);
    *m = _mm512_castsi512_ps(_mm512_sub_epi32(b, _mm512_slli_epi32(e, 23)));
    return _mm512_cvtepi32_ps(e);
}
INLINE real v_sum(vec a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}

/* Sixteen rows: 4 x 4 blocks within the quarters of the registers, then the quarters.
 */
INLINE void v_turn(vec r[16])
{
    vec t[16], u[16];
    UNROLL
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        u[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        vec a = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88);
        vec b = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xdd);
        vec c = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
        vec d = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

INLINE vec v_widen_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
INLINE vec v_load_bf16(const uint16_t *p)
{
    return v_widen_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE vec v_load_fp16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE __m256i v_first(const uint16_t *p, int n)
{
    return _mm256_maskz_loadu_epi16(FIRST(n), p);
}
INLINE vec v_load_first_bf16(const uint16_t *p, int n)
{
    return v_widen_bf16(v_first(p, n));
}
INLINE vec v_load_first_fp16(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(v_first(p, n));
}
INLINE void v_store_fp16(uint16_t *p, vec a)
{
    __m256i h = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((__m256i *)(void *)p, h);
}
INLINE void v_store_bf16(uint16_t *p, vec a)
{
    __m512i b = _mm512_castps_si512(a);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
    __m512i near =
        _mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512i quiet = _mm512_or_si512(b, _mm512_set1_epi32(0x400000));
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    __m512i w = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, near, quiet), 16);
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(w));
}

#else

INLINE vec v_scale2(vec magic)
{
    __m512i e = _mm512_slli_epi64(_mm512_castpd_si512(magic), 52);
    return _mm512_castsi512_pd(_mm512_add_epi64(e, _mm512_set1_epi64(1023LL << 52)));
}
INLINE vec v_split(vec x, vec *m)
{
    __m512i b = _mm512_castpd_si512(x);
    __m512i e = _mm512_sub_epi64(b, _mm512_set1_epi64(0x3fe8000000000000));
    e = _mm512_srai_epi64(e, 52);
    *m = _mm512_castsi512_pd(_mm512_sub_epi64(b, _mm512_slli_epi64(e, 52)));
    return _mm512_cvtepi64_pd(e);
}
INLINE real v_sum(vec a)
{
    __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

/* Eight rows: pairs within quarters, then the quarters. */
INLINE void v_turn(vec r[8])
{
    vec t[8], u[8];
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
    }
    /* t[2i + p] holds column p of quarters 0 .. 3, of rows 2i and 2i + 1. */
    UNROLL
    for (int p = 0; p < 2; p++)
        UNROLL
    for (int i = 0; i < 2; i++) {
        u[4 * i + p] = _mm512_shuffle_f64x2(t[4 * i + p], t[4 * i + 2 + p], 0x88);
        u[4 * i + 2 + p] = _mm512_shuffle_f64x2(t[4 * i + p], t[4 * i + 2 + p], 0xdd);
    }
    /* u[p]: columns p, 4 + p of rows 0..3; u[2 + p]: columns 2 + p, 6 + p; then
     * rows 4..7. */
    UNROLL
    for (int p = 0; p < 2; p++) {
        r[p] = _mm512_shuffle_f64x2(u[p], u[4 + p], 0x88);
        r[4 + p] = _mm512_shuffle_f64x2(u[p], u[4 + p], 0xdd);
        r[2 + p] = _mm512_shuffle_f64x2(u[2 + p], u[6 + p], 0x88);
        r[6 + p] = _mm512_shuffle_f64x2(u[2 + p], u[6 + p], 0xdd);
    }
}
#endif
