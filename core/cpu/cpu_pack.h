/* SPDX-License-Identifier: MIT
 *
 * The way in and out: tokens [x][head dim] of any type and stride become columns
 * [head dim][x] of reals, and back.  Storage types are known here and nowhere else in
 * the kernels.  Strides of tokens are in bytes, of the head dim in elements. */
#ifndef NATTEN_CPU_PACK_H
#define NATTEN_CPU_PACK_H

/* How the elements of a token are read and written. */
enum format { DIRECT, BF16, FP16, ANYHOW };

INLINE enum format format_of(natten_dtype dtype, int64_t item)
{
    if (item != 1)
        return ANYHOW;
#if NATTEN_REAL == 32
    return dtype == NATTEN_BF16 ? BF16 : dtype == NATTEN_FP16 ? FP16 : DIRECT;
#else
    (void)dtype;
    return DIRECT;
#endif
}

static inline real load_element(natten_dtype dtype, const char *p, int64_t index)
{
#if NATTEN_REAL == 32
    if (dtype == NATTEN_BF16)
        return natten_dtype_bf16_to_float(((const uint16_t *)(const void *)p)[index]);
    if (dtype == NATTEN_FP16)
        return natten_dtype_fp16_to_float(((const uint16_t *)(const void *)p)[index]);
#endif
    (void)dtype;
    return ((const real *)(const void *)p)[index];
}

static inline void store_element(natten_dtype dtype, char *p, int64_t index, real value)
{
#if NATTEN_REAL == 32
    if (dtype == NATTEN_BF16) {
        ((uint16_t *)(void *)p)[index] = natten_dtype_bf16_from_double((double)value);
        return;
    }
    if (dtype == NATTEN_FP16) {
        ((uint16_t *)(void *)p)[index] = natten_dtype_fp16_from_double((double)value);
        return;
    }
#endif
    (void)dtype;
    ((real *)(void *)p)[index] = value;
}

/* LANES elements of a token from d on. */
INLINE vec load_lanes(const enum format format, const char *p, int64_t d)
{
#if NATTEN_REAL == 32
    if (format == BF16)
        return v_load_bf16((const uint16_t *)(const void *)p + d);
    if (format == FP16)
        return v_load_fp16((const uint16_t *)(const void *)p + d);
#endif
    (void)format;
    return v_load((const real *)(const void *)p + d);
}

INLINE void store_lanes(const enum format format, char *p, int64_t d, vec a)
{
#if NATTEN_REAL == 32
    if (format == BF16) {
        v_store_bf16((uint16_t *)(void *)p + d, a);
        return;
    }
    if (format == FP16) {
        v_store_fp16((uint16_t *)(void *)p + d, a);
        return;
    }
#endif
    (void)format;
    v_store((real *)(void *)p + d, a);
}

/* `rows` elements of a token from d on, zeros after them. */
static vec load_some(natten_dtype dtype, int64_t item, const char *p, int64_t d,
                     int rows)
{
    real f[LANES];
    for (int i = 0; i < LANES; i++)
        f[i] = i < rows ? load_element(dtype, p, (d + i) * item) : 0;
    return v_load(f);
}

static void store_some(natten_dtype dtype, int64_t item, char *p, int64_t d, vec a,
                       int rows)
{
    real f[LANES];
    v_store(f, a);
    for (int i = 0; i < rows; i++)
        store_element(dtype, p, (d + i) * item, f[i]);
}

typedef natten_cpu_tokens tokens;

INLINE void pack_as(const enum format format, real *to, ptrdiff_t pitch,
                    const tokens *t, vec factor)
{
    for (int x = 0; x < t->n; x += LANES) {
        int lanes = natten_min(LANES, t->n - x);
        const char *from = t->data + x * t->step;
        for (int64_t d = 0; d < t->dim; d += LANES) {
            vec r[LANES];
            int rows = (int)(t->dim - d < LANES ? t->dim - d : LANES);
            if (format != ANYHOW && rows == LANES && lanes == LANES) {
                UNROLL
                for (int i = 0; i < LANES; i++)
                    r[i] = load_lanes(format, from + i * t->step, d);
                v_turn(r);
                UNROLL
                for (int i = 0; i < LANES; i++)
                    v_store(to + (d + i) * pitch + x, v_mul(r[i], factor));
                continue;
            }
            for (int i = 0; i < LANES; i++) {
                const char *token = from + i * t->step;
                r[i] = v_zero();
                if (i < lanes)
                    r[i] = format != ANYHOW && rows == LANES
                               ? load_lanes(format, token, d)
                               : load_some(t->dtype, t->item, token, d, rows);
            }
            v_turn(r);
            for (int i = 0; i < rows; i++)
                v_store(to + (d + i) * pitch + x, v_mul(r[i], factor));
        }
    }
}

/* Token x, element d goes to to[d * pitch + x], times factor. Lanes after the last
 * token, up to a multiple of LANES, become 0. */
static void pack(real *to, ptrdiff_t pitch, const tokens *t, real factor)
{
    switch (format_of(t->dtype, t->item)) {
    case DIRECT:
        pack_as(DIRECT, to, pitch, t, v_all(factor));
        break;
#if NATTEN_REAL == 32
    case BF16:
        pack_as(BF16, to, pitch, t, v_all(factor));
        break;
    case FP16:
        pack_as(FP16, to, pitch, t, v_all(factor));
        break;
#endif
    default:
        pack_as(ANYHOW, to, pitch, t, v_all(factor));
    }
}

INLINE void unpack_as(const enum format format, const tokens *t, char *to,
                      const real *from, vec factor)
{
    for (int64_t d = 0; d < t->dim; d += LANES) {
        vec r[LANES];
        int rows = (int)(t->dim - d < LANES ? t->dim - d : LANES);
        for (int i = 0; i < LANES; i++)
            r[i] = i < rows
                       ? v_add(v_mul(factor, v_load(from + (d + i) * LANES)), v_zero())
                       : v_zero();
        v_turn(r);
        for (int i = 0; i < t->n; i++)
            if (format != ANYHOW && rows == LANES)
                store_lanes(format, to + i * t->step, d, r[i]);
            else
                store_some(t->dtype, t->item, to + i * t->step, d, r[i], rows);
    }
}

/* The way back of at most LANES tokens: columns from[d * LANES + x] times a factor per
 * lane. Adding 0 makes -0 into 0: whether a masked lane's 0 was added to a sum must not
 * show. */
static void unpack(const tokens *t, char *to, const real *from, vec factor)
{
    switch (format_of(t->dtype, t->item)) {
    case DIRECT:
        unpack_as(DIRECT, t, to, from, factor);
        break;
#if NATTEN_REAL == 32
    case BF16:
        unpack_as(BF16, t, to, from, factor);
        break;
    case FP16:
        unpack_as(FP16, t, to, from, factor);
        break;
#endif
    default:
        unpack_as(ANYHOW, t, to, from, factor);
    }
}

/* A scalar per token: to[x] = factor * from token x. */
static void pack_row(real *to, const char *from, int64_t step, int n, real factor)
{
    for (int x = 0; x < n; x++)
        to[x] = factor * *(const real *)(const void *)(from + x * step);
}

#endif
