/* SPDX-License-Identifier: MIT
 *
 * The way in and out: tokens [x][head dim] of any type and stride become columns
 * [head dim][x] of reals, or rows [x][head dim padded to whole vectors]; and rows
 * become tokens.  Storage types are known here and nowhere else in the kernels. Strides
 * of tokens are in bytes, of the head dim in elements. */
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

INLINE void store_first(real *to, vec a, int n)
{
    if (n == LANES) {
        v_store(to, a);
        return;
    }
    real f[LANES];
    v_store(f, a);
    for (int i = 0; i < LANES; i++)
        if (i < n)
            to[i] = f[i];
}

typedef natten_cpu_tokens tokens;

/* Element d, and those after it, of `lanes` tokens, `size` of each; where they go. */
typedef struct block {
    const char *from;
    int64_t d;
    int lanes, size;
    real *columns, *rows; /* NULL: nowhere */
    ptrdiff_t pitch;      /* of columns */
} block;

#ifndef V_LOAD_TURNED
#define V_LOAD_TURNED 0
INLINE void v_load_turned(const char *p, int64_t step, vec r[LANES])
{
    (void)p, (void)step, (void)r;
}
#endif

INLINE void load_block(const enum format format, const bool full, const tokens *t,
                       const block b, vec r[LANES])
{
    UNROLL
    for (int i = 0; i < LANES; i++) {
        const char *token = b.from + i * t->step;
        if (full)
            r[i] = load_lanes(format, token, b.d);
        else if (i >= b.lanes)
            r[i] = v_zero();
        else if (format != ANYHOW && b.size == LANES)
            r[i] = load_lanes(format, token, b.d);
        else
            r[i] = load_some(t->dtype, t->item, token, b.d, b.size);
    }
}

/* LANES tokens by LANES elements; `full`: all of them are there, and side by side. */
INLINE void pack_block(const enum format format, const bool full, const tokens *t,
                       const block b, vec factor)
{
    vec r[LANES];
    bool by_halves = V_LOAD_TURNED && full && format == DIRECT;
    if (b.rows || !by_halves)
        load_block(format, full, t, b, r);
    UNROLL
    for (int i = 0; i < LANES; i++)
        if (b.rows && i < b.lanes)
            store_first(b.rows + i * t->dim, r[i], full ? LANES : b.size);
    if (!b.columns)
        return;
    if (by_halves)
        v_load_turned(b.from + b.d * (int64_t)sizeof(real), t->step, r);
    else
        v_turn(r);
    UNROLL
    for (int i = 0; i < LANES; i++)
        if (full || i < b.size)
            v_store(b.columns + i * b.pitch, v_mul(r[i], factor));
}

enum { CACHE_LINE = 64 };

/* Ask for n tokens that are wanted soon: they are too far apart for the processor to
 * see a pattern. */
static void prefetch(const tokens *t, const char *from, int n)
{
    int64_t bytes = t->dim * (int64_t)natten_dtype_bytes(t->dtype);
    for (int i = 0; i < n && t->item == 1; i++, from += t->step)
        for (int64_t b = 0; b < bytes; b += CACHE_LINE)
            __builtin_prefetch(from + b);
}

INLINE void pack_as(const enum format format, real *columns, ptrdiff_t pitch,
                    real *rows, const tokens *t, vec factor)
{
    for (int x = 0; x < t->n; x += LANES) {
        block b = {.from = t->data + x * t->step, .lanes = natten_min(LANES, t->n - x)};
        prefetch(t, b.from + 2 * LANES * t->step, LANES);
        b.pitch = pitch;
        for (; b.d < t->dim; b.d += LANES) {
            b.columns = columns ? columns + b.d * pitch + x : NULL;
            b.rows = rows ? rows + x * t->dim + b.d : NULL;
            b.size = (int)(t->dim - b.d < LANES ? t->dim - b.d : LANES);
            if (format != ANYHOW && b.size == LANES && b.lanes == LANES)
                pack_block(format, true, t, b, factor);
            else
                pack_block(format, false, t, b, factor);
        }
    }
}

/* Token x, element d goes to columns[d * pitch + x], times factor, and as it is to
 * rows[x * dim + d]; either may be NULL. Lanes of columns after the last token, up
 * to a multiple of LANES, become 0. */
static void pack(real *columns, ptrdiff_t pitch, real *rows, const tokens *t,
                 real factor)
{
    switch (format_of(t->dtype, t->item)) {
    case DIRECT:
        pack_as(DIRECT, columns, pitch, rows, t, v_all(factor));
        break;
#if NATTEN_REAL == 32
    case BF16:
        pack_as(BF16, columns, pitch, rows, t, v_all(factor));
        break;
    case FP16:
        pack_as(FP16, columns, pitch, rows, t, v_all(factor));
        break;
#endif
    default:
        pack_as(ANYHOW, columns, pitch, rows, t, v_all(factor));
    }
}

INLINE void unpack_as(const enum format format, const tokens *t, char *to,
                      const real *from, const real *factor)
{
    int64_t padded = natten_cpu_padded(t->dim, LANES);
    for (int i = 0; i < t->n; i++, to += t->step, from += padded) {
        vec f = v_all(factor[i]);
        for (int64_t d = 0; d < t->dim; d += LANES) {
            vec r = v_add(v_mul(f, v_load(from + d)), v_zero());
            if (format != ANYHOW && t->dim - d >= LANES)
                store_lanes(format, to, d, r);
            else
                store_some(t->dtype, t->item, to, d, r,
                           (int)(t->dim - d < LANES ? t->dim - d : LANES));
        }
    }
}

/* The way back: row i, at from[i * padded], times factor[i] becomes token i. Adding 0
 * makes -0 into 0: whether a sum began with a product or with 0 must not show. */
static void unpack(const tokens *t, char *to, const real *from, const real *factor)
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
