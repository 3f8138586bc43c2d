/* SPDX-License-Identifier: MIT
 *
 * The vector words for NEON on 64-bit ARM: 32 registers of 4 floats or 2 doubles.  Its
 * max and min give NaN where either side is NaN, which the callers allow.  What each
 * word means stands in scalar.h. */
#include <arm_neon.h>

#if NATTEN_REAL == 32
typedef float real;
typedef float32x4_t vec;
typedef uint32x4_t vmask;
typedef int32_t ireal;
#define LANES      4
#define OP(name)   name##_f32
#define TO_BYTES   vreinterpretq_u8_f32
#define FROM_BYTES vreinterpretq_f32_u8
#else
typedef double real;
typedef float64x2_t vec;
typedef uint64x2_t vmask;
typedef int64_t ireal;
#define LANES      2
#define OP(name)   name##_f64
#define TO_BYTES   vreinterpretq_u8_f64
#define FROM_BYTES vreinterpretq_f64_u8
#endif
typedef uint8x16_t vidx; /* of bytes */

/* 24 sums + 6 owners + 1 partner = 31 of 32 registers. */
#define OWNERS 6
#define BUDGET 24

INLINE vec v_zero(void)
{
    return OP(vdupq_n)(0);
}
INLINE vec v_all(real x)
{
    return OP(vdupq_n)(x);
}
INLINE vec v_load(const real *p)
{
    return OP(vld1q)(p);
}
INLINE void v_store(real *p, vec a)
{
    OP(vst1q)(p, a);
}
INLINE vec v_add(vec a, vec b)
{
    return OP(vaddq)(a, b);
}
INLINE vec v_sub(vec a, vec b)
{
    return OP(vsubq)(a, b);
}
INLINE vec v_mul(vec a, vec b)
{
    return OP(vmulq)(a, b);
}
INLINE vec v_div(vec a, vec b)
{
    return OP(vdivq)(a, b);
}
INLINE vec v_fma(vec a, vec b, vec c)
{
    return OP(vfmaq)(c, a, b);
}
INLINE vec v_max(vec a, vec b)
{
    return OP(vmaxq)(a, b);
}
INLINE vec v_min(vec a, vec b)
{
    return OP(vminq)(a, b);
}
INLINE vec v_if_more(vec x, vec y, vec a, vec b)
{
    vmask more = OP(vcgtq)(x, y);
    return OP(vbslq)(more, a, b);
}
INLINE vec v_keep_more(vec x, vec y, vec a)
{
    return v_if_more(x, y, a, v_zero());
}
#define v_pin(a) __asm__("" : "+w"(a))

/* A table look-up of bytes: lane i becomes the bytes of lane p[i]. */
INLINE vidx v_index(const ireal *p)
{
    uint8_t at[16];
    for (int i = 0; i < 16; i++)
        at[i] =
            (uint8_t)((size_t)p[i / sizeof(real)] * sizeof(real) + i % sizeof(real));
    return vld1q_u8(at);
}
INLINE vec v_pick(vec a, vidx i)
{
    return FROM_BYTES(vqtbl1q_u8(TO_BYTES(a), i));
}
INLINE real v_sum(vec a)
{
    return OP(vaddvq)(a);
}

#if NATTEN_REAL == 32
INLINE vec v_scale2(vec magic)
{
    int32x4_t e = vshlq_n_s32(vreinterpretq_s32_f32(magic), 23);
    return vreinterpretq_f32_s32(vaddq_s32(e, vdupq_n_s32(127 << 23)));
}
INLINE vec v_split(vec x, vec *m)
{
    int32x4_t b = vreinterpretq_s32_f32(x);
    int32x4_t e = vshrq_n_s32(vsubq_s32(b, vdupq_n_s32(0x3f400000)), 23);
    *m = vreinterpretq_f32_s32(vsubq_s32(b, vshlq_n_s32(e, 23)));
    return vcvtq_f32_s32(e);
}
INLINE void v_turn(vec r[4])
{
    vec a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]);
    vec c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
    r[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
    r[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
    r[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
}
INLINE vec v_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
INLINE vec v_load_fp16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
INLINE void v_store_fp16(uint16_t *p, vec a)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
INLINE void v_store_bf16(uint16_t *p, vec a)
{
    uint32x4_t b = vreinterpretq_u32_f32(a);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(b, 16), vdupq_n_u32(1));
    uint32x4_t near = vaddq_u32(b, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    uint32x4_t quiet = vorrq_u32(b, vdupq_n_u32(0x400000));
    uint32x4_t number = vceqq_f32(a, a);
    vst1_u16(p, vshrn_n_u32(vbslq_u32(number, near, quiet), 16));
}

#else

INLINE vec v_scale2(vec magic)
{
    int64x2_t e = vshlq_n_s64(vreinterpretq_s64_f64(magic), 52);
    return vreinterpretq_f64_s64(vaddq_s64(e, vdupq_n_s64(1023LL << 52)));
}
INLINE vec v_split(vec x, vec *m)
{
    int64x2_t b = vreinterpretq_s64_f64(x);
    int64x2_t e = vshrq_n_s64(vsubq_s64(b, vdupq_n_s64(0x3fe8000000000000)), 52);
    *m = vreinterpretq_f64_s64(vsubq_s64(b, vshlq_n_s64(e, 52)));
    return vcvtq_f64_s64(e);
}
INLINE void v_turn(vec r[2])
{
    vec low = vtrn1q_f64(r[0], r[1]);
    r[1] = vtrn2q_f64(r[0], r[1]);
    r[0] = low;
}
#endif
