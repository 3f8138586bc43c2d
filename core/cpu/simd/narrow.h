/* SPDX-License-Identifier: MIT
 *
 * Storage conversions for pages whose instruction set has none: lane by lane, by the
 * functions of base/dtype.c. */
#ifndef NATTEN_CPU_SIMD_NARROW_H
#define NATTEN_CPU_SIMD_NARROW_H

INLINE vec v_load_bf16(const uint16_t *p)
{
    real f[LANES];
    for (int i = 0; i < LANES; i++)
        f[i] = natten_dtype_bf16_to_float(p[i]);
    return v_load(f);
}
INLINE vec v_load_fp16(const uint16_t *p)
{
    real f[LANES];
    for (int i = 0; i < LANES; i++)
        f[i] = natten_dtype_fp16_to_float(p[i]);
    return v_load(f);
}
INLINE void v_store_bf16(uint16_t *p, vec a)
{
    real f[LANES];
    v_store(f, a);
    for (int i = 0; i < LANES; i++)
        p[i] = natten_dtype_bf16_from_double((double)f[i]);
}
INLINE void v_store_fp16(uint16_t *p, vec a)
{
    real f[LANES];
    v_store(f, a);
    for (int i = 0; i < LANES; i++)
        p[i] = natten_dtype_fp16_from_double((double)f[i]);
}

#endif
