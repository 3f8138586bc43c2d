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

/* n elements of `bytes` each, LANES at most, by powers of two: of an n that stays the
 * same each is a jump that can be foretold and a move of a size that is known. */
INLINE void copy_some(void *to, const void *from, int n, const int bytes)
{
    char *t = to;
    const char *f = from;
    UNROLL
    for (int some = LANES; some > 0; some /= 2)
        if (n & some) {
            memcpy(t, f, (size_t)(some * bytes));
            t += some * bytes;
            f += some * bytes;
        }
}

/* Words that a set may have masks for: the first n lanes. */
#ifndef V_FIRST
INLINE vec v_load_first(const real *p, int n)
{
    real f[LANES] = {0};
    for (int i = 0; i < n; i++)
        f[i] = p[i];
    return v_load(f);
}
INLINE void v_store_first(real *p, int n, vec a)
{
    real f[LANES];
    v_store(f, a);
    memcpy(p, f, (size_t)n * sizeof(real));
}
#if NATTEN_REAL == 32
INLINE vec v_load_first_bf16(const uint16_t *p, int n)
{
    uint16_t h[LANES] = {0};
    copy_some(h, p, n, sizeof *h);
    return v_load_bf16(h);
}
INLINE vec v_load_first_fp16(const uint16_t *p, int n)
{
    uint16_t h[LANES] = {0};
    copy_some(h, p, n, sizeof *h);
    return v_load_fp16(h);
}
#endif
#endif

/* `rows` elements of a token from d on, LANES at most, zeros after them. */
static vec load_some(natten_dtype dtype, int64_t item, const char *p, int64_t d,
                     int rows)
{
    real f[LANES];
    if (item == 1) {
#if NATTEN_REAL == 32
        const uint16_t *h = (const uint16_t *)(const void *)p + d;
        if (dtype == NATTEN_BF16)
            return v_load_first_bf16(h, rows);
        if (dtype == NATTEN_FP16)
            return v_load_first_fp16(h, rows);
#endif
        return v_load_first((const real *)(const void *)p + d, rows);
    }
    for (int i = 0; i < LANES; i++)
        f[i] = i < rows ? load_element(dtype, p, (d + i) * item) : 0;
    return v_load(f);
}

static void store_some(natten_dtype dtype, int64_t item, char *p, int64_t d, vec a,
                       int rows)
{
    real f[LANES];
    if (item != 1) {
        v_store(f, a);
        for (int i = 0; i < rows; i++)
            store_element(dtype, p, (d + i) * item, f[i]);
        return;
    }
#if NATTEN_REAL == 32
    if (dtype != NATTEN_FP32) {
        uint16_t h[LANES];
        if (dtype == NATTEN_BF16)
            v_store_bf16(h, a);
        else
            v_store_fp16(h, a);
        copy_some((uint16_t *)(void *)p + d, h, rows, sizeof *h);
        return;
    }
#endif
    v_store_first((real *)(void *)p + d, rows, a);
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
    const char *token = b.from;
    UNROLL
    for (int i = 0; i < LANES; i++) {
        r[i] = load_lanes(format, token, b.d);
        token += full || i + 1 < b.lanes ? t->step : 0;
    }
}

/* Up to LANES tokens, LANES of them if `full`, by LANES elements that are side by
 * side. */
INLINE void pack_block(const enum format format, const bool full, const tokens *t,
                       const block b, vec factor)
{
    vec r[LANES];
    bool by_halves = V_LOAD_TURNED && full && format == DIRECT;
    if (b.rows || !by_halves)
        load_block(format, full, t, b, r);
    if (b.rows) {
        UNROLL
        for (int i = 0; i < LANES; i++)
            if (full || i < b.lanes)
                v_store(b.rows + i * t->dim, r[i]);
    }
    if (!b.columns)
        return;
    if (by_halves)
        v_load_turned(b.from + b.d * (int64_t)sizeof(real), t->step, r);
    else
        v_turn(r);
    UNROLL
    for (int i = 0; i < LANES; i++)
        v_store(b.columns + i * b.pitch, v_mul(r[i], factor));
}

/* The same for elements that are fewer, or not side by side. A function of its own, not
 * unrolled: unrolled it would be most of the library's code. */
static __attribute__((noinline)) void pack_edge(const tokens *t, const block *b,
                                                real factor)
{
    real f[LANES][LANES];
    for (int i = 0; i < LANES; i++) {
        const char *token = b->from + natten_min(i, b->lanes - 1) * t->step;
        v_store(f[i], load_some(t->dtype, t->item, token, b->d, b->size));
    }
    for (int i = 0; b->rows && i < b->lanes; i++)
        v_store_first(b->rows + i * t->dim, b->size, v_load(f[i]));
    if (!b->columns)
        return;
    vec r[LANES];
    UNROLL
    for (int i = 0; i < LANES; i++)
        r[i] = v_load(f[i]);
    v_turn(r);
    UNROLL
    for (int i = 0; i < LANES; i++)
        v_store(f[i], v_mul(r[i], v_all(factor)));
    for (int i = 0; i < b->size; i++)
        v_store(b->columns + i * b->pitch, v_load(f[i]));
}

/* Rows alone, of whole vectors, token by token: so the processor sees how far apart
 * tokens are and fetches those that follow. */
INLINE void copy_rows(const enum format format, real *rows, const tokens *t)
{
    const char *from = t->data;
    for (int x = 0; x < t->n; x++, from += t->step)
        for (int64_t d = 0; d < t->dim; d += LANES, rows += LANES)
            v_store(rows, load_lanes(format, from, d));
}

/* Where the head dim is LANES or more, the last vector begins early enough to be whole,
 * and some elements are made twice. */
INLINE void pack_as(const enum format format, real *columns, ptrdiff_t pitch,
                    real *rows, const tokens *t, real factor)
{
    bool whole = format != ANYHOW && t->dim >= LANES;
    if (whole && !columns && rows && t->dim % LANES == 0) {
        copy_rows(format, rows, t);
        return;
    }
    for (int x = 0; x < t->n; x += LANES) {
        block b = {.from = t->data + x * t->step,
                   .lanes = natten_min(LANES, t->n - x),
                   .pitch = pitch};
        for (int64_t d = 0; d < t->dim; d += LANES) {
            b.d = whole && t->dim - d < LANES ? t->dim - LANES : d;
            b.columns = columns ? columns + b.d * pitch + x : NULL;
            b.rows = rows ? rows + x * t->dim + b.d : NULL;
            b.size = (int)(t->dim - b.d < LANES ? t->dim - b.d : LANES);
            if (!whole)
                pack_edge(t, &b, factor);
            else if (b.lanes == LANES)
                pack_block(format, true, t, b, v_all(factor));
            else
                pack_block(format, false, t, b, v_all(factor));
        }
    }
}

/* Token x, element d goes to columns[d * pitch + x], times factor, and as it is to
 * rows[x * dim + d]; either may be NULL. Lanes of columns after the last token, up to a
 * multiple of LANES, do what it does. */
static void pack(real *columns, ptrdiff_t pitch, real *rows, const tokens *t,
                 real factor)
{
    switch (format_of(t->dtype, t->item)) {
    case DIRECT:
        pack_as(DIRECT, columns, pitch, rows, t, factor);
        break;
#if NATTEN_REAL == 32
    case BF16:
        pack_as(BF16, columns, pitch, rows, t, factor);
        break;
    case FP16:
        pack_as(FP16, columns, pitch, rows, t, factor);
        break;
#endif
    default:
        pack_as(ANYHOW, columns, pitch, rows, t, factor);
    }
}

INLINE void unpack_as(const enum format format, const tokens *t, char *to,
                      const real *from, const real *factor)
{
    int64_t padded = natten_cpu_padded(t->dim, LANES);
    bool whole = format != ANYHOW && t->dim >= LANES;
    for (int i = 0; i < t->n; i++, to += t->step, from += padded) {
        vec f = v_all(factor[i]);
        for (int64_t d = 0; d < t->dim; d += LANES) {
            int64_t at = whole && t->dim - d < LANES ? t->dim - LANES : d;
            vec r = v_add(v_mul(f, v_load(from + at)), v_zero());
            if (whole)
                store_lanes(format, to, at, r);
            else
                store_some(t->dtype, t->item, to, at, r,
                           (int)(t->dim - at < LANES ? t->dim - at : LANES));
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

/* The same past the caches: whole lines of accumulators. */
static void stream_rows(const tokens *t, char *to, const real *from, const real *factor)
{
    for (int i = 0; i < t->n; i++, to += t->step) {
        vec f = v_all(factor[i]);
        for (int64_t d = 0; d < t->dim; d += LANES, from += LANES)
            v_stream((real *)(void *)to + d, v_add(v_mul(f, v_load(from)), v_zero()));
    }
}

/* A scalar per token: to[x] = factor * from token x. */
static void pack_row(real *to, const char *from, int64_t step, int n, real factor)
{
    for (int x = 0; x < n; x++)
        to[x] = factor * *(const real *)(const void *)(from + x * step);
}

#endif
