/* SPDX-License-Identifier: MIT
 *
 * The one kernel that does every product of forward and backward:
 *
 *     C[q][b] (+)= sum_r A[q][r] * B[r, b]        A: LANES owners; B: shifted or picked
 * partners
 *
 *     logits:  r = head dim, b = partner positions      (B moves along x with b)
 *     values:  r = partner positions, b = head dim      (B moves along x with r)
 *
 * Lane i of a run of owners sees partners base + idx[i] + t, t < count[i].  In the
 * interior idx[i] = i: its partners are a plain, shifted load from a strip packed [head
 * dim][x].  At a border or with a stride the loaded vector is permuted (pick); lanes
 * whose window is shorter than the run's longest are masked, the partner too, since 0 *
 * NaN is NaN.
 *
 * q counts up to OWNERS owner vectors that share partners, b up to BLOCK; q b sums, q
 * owners and one partner fill the registers.  Each sum is one chain over r in the order
 * of the owner's own window, so its bits do not depend on who shares the kernel with
 * it.        */
#ifndef NATTEN_CPU_KERNEL_H
#define NATTEN_CPU_KERNEL_H

enum { BLOCK = 8 };

/* Up to LANES owners side by side whose windows begin within LANES of each other. */
typedef struct run {
    int x, n;        /* positions x .. x + n - 1 of the class */
    int base;        /* where the first window begins, from the origin of the strips */
    int most, least; /* longest and shortest window */
    bool plain;      /* idx[i] = i and all windows alike */
    bool ragged;     /* windows differ in length */
    bool even;       /* shift is the same for all lanes */
    ireal idx[LANES];
    real count[LANES];
    int shift[LANES]; /* begin of the window minus own position */
} run;

/* Owners lo .. hi - 1 of the group see n partners from element b of the strips on. */
typedef struct segment {
    ptrdiff_t b;
    int n, lo, hi;
    int x;            /* of the first partner, from the origin of the strips */
    int z, y, f;      /* of the partner row */
    int slot[OWNERS]; /* where each owner's scores of it are */
} segment;

typedef struct operands {
    const segment *list;
    int count;
    const real *const *a;
    const real *b;
    ptrdiff_t pitch;
    real *const *c;
    bool add; /* to what C holds */
    const run *run;
} operands;

typedef void kernel(const operands *o);

enum mode { PLAIN, PICK, MASK };

/* What is fixed at compile time: owners lo .. hi - 1, columns, whether these are
 * partners (along), and the mode. */
typedef struct shape {
    int lo, hi, columns;
    bool along;
    enum mode mode;
} shape;

/* Of a segment's r; t is the window offset of r = 0. */
typedef struct range {
    int begin, end, t;
} range;

/* The products of one segment. */
INLINE void steps(const shape k, vec acc[OWNERS][BLOCK], const operands *o,
                  const segment *s, range over)
{
    const real *p[OWNERS];
    ptrdiff_t step = k.along ? o->pitch : 1, across = k.along ? 1 : o->pitch;
    const real *b = o->b + s->b + step * over.begin;
    UNROLL
    for (int q = k.lo; q < k.hi; q++)
        p[q] = o->a[q] + (ptrdiff_t)s->slot[q] * LANES;
    vidx pick = v_index(o->run->idx);
    vec count = v_load(o->run->count);
    for (int r = over.begin; r < over.end; r++, b += step) {
        vec v[OWNERS];
        UNROLL
        for (int q = k.lo; q < k.hi; q++) {
            v[q] = v_load(p[q] + (ptrdiff_t)r * LANES);
            v_pin(v[q]);
        }
        UNROLL
        for (int i = 0; i < k.columns; i++) {
            vec x = v_load(b + i * across);
            if (k.mode != PLAIN)
                x = v_pick(x, pick);
            if (k.mode == MASK)
                x = v_keep_more(count, v_all((real)(over.t + r)), x);
            v_pin(x);
            UNROLL
            for (int q = k.lo; q < k.hi; q++)
                acc[q][i] = v_fma(v[q], x, acc[q][i]);
        }
    }
}

/* A segment; where windows differ in length, first the part that all lanes see. */
INLINE void one_segment(const shape k, vec acc[OWNERS][BLOCK], const operands *o,
                        const segment *s)
{
    int t = s->x - o->run->base;
    if (k.mode != MASK) {
        steps(k, acc, o, s, (range){0, s->n, t});
        return;
    }
    int all = natten_clamp(o->run->least - t, 0, s->n);
    shape whole = k;
    whole.mode = PICK;
    steps(whole, acc, o, s, (range){0, all, t});
    steps(k, acc, o, s, (range){all, s->n, t});
}

INLINE void product(const shape k, const operands *o)
{
    vec acc[OWNERS][BLOCK];
    if (k.hi * k.columns > BUDGET)
        return; /* there is no such instance */
    UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            acc[q][i] = o->add ? v_load(o->c[q] + i * LANES) : v_zero();
    }
    for (int n = 0; n < o->count; n++) {
        const segment *s = o->list + n;
        /* Which owners take part is fixed within a case, so that sums stay in
         * registers. */
#define CASE(l, h)                                                             \
    case l * 8 + h:                                                            \
        if (h <= k.hi && (!k.along || h - l == k.hi))                          \
            one_segment((shape){l, h, k.columns, k.along, k.mode}, acc, o, s); \
        break;
        switch (s->lo * 8 + s->hi) {
            CASE(0, 1)
            CASE(0, 2)
            CASE(0, 3)
            CASE(1, 2)
            CASE(1, 3)
            CASE(2, 3)
#if OWNERS == 4
            CASE(0, 4)
            CASE(1, 4)
            CASE(2, 4)
            CASE(3, 4)
#endif
        }
#undef CASE
    }
    UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            v_store(o->c[q] + i * LANES, acc[q][i]);
    }
}

/* The instances: a table [owners - 1][columns - 1] per direction and mode. */
#define DEFINE(name, nq, nb, along, mode)            \
    static void name##nq##_##nb(const operands *o)   \
    {                                                \
        product((shape){0, nq, nb, along, mode}, o); \
    }
#define DEFINE_ROW(name, q, along, mode) \
    DEFINE(name, q, 1, along, mode)      \
    DEFINE(name, q, 2, along, mode)      \
    DEFINE(name, q, 3, along, mode)      \
    DEFINE(name, q, 4, along, mode)      \
    DEFINE(name, q, 5, along, mode)      \
    DEFINE(name, q, 6, along, mode)      \
    DEFINE(name, q, 7, along, mode)      \
    DEFINE(name, q, 8, along, mode)
#define LIST_ROW(n)                                    \
    {                                                  \
        n##1, n##2, n##3, n##4, n##5, n##6, n##7, n##8 \
    }
#if OWNERS == 4
#define TABLE(name, along, mode)                                    \
    DEFINE_ROW(name, 1, along, mode)                                \
    DEFINE_ROW(name, 2, along, mode)                                \
    DEFINE_ROW(name, 3, along, mode)                                \
    DEFINE_ROW(name, 4, along, mode)                                \
    static kernel *const name##table[OWNERS][BLOCK] = {             \
        LIST_ROW(name##1_), LIST_ROW(name##2_), LIST_ROW(name##3_), \
        LIST_ROW(name##4_)};
#else
#define TABLE(name, along, mode)                        \
    DEFINE_ROW(name, 1, along, mode)                    \
    DEFINE_ROW(name, 2, along, mode)                    \
    DEFINE_ROW(name, 3, along, mode)                    \
    static kernel *const name##table[OWNERS][BLOCK] = { \
        LIST_ROW(name##1_), LIST_ROW(name##2_), LIST_ROW(name##3_)};
#endif
TABLE(logits_plain_, true, PLAIN)
TABLE(logits_pick_, true, PICK)
TABLE(values_plain_, false, PLAIN)
TABLE(values_pick_, false, PICK)
TABLE(values_mask_, false, MASK)

/* Columns at a time: n cut into equal parts that nq owners leave room for in BUDGET. */
static inline int block_columns(int64_t n, int nq)
{
    int64_t limit = natten_min(BLOCK, BUDGET / nq), parts = (n + limit - 1) / limit;
    return (int)((n + parts - 1) / parts);
}

#endif
