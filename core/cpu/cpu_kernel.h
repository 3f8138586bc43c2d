/* SPDX-License-Identifier: MIT
 *
 * The two kernels that do every product of forward and backward.  Lanes are owners in
 * the first, head dims in the second:
 *
 *     logits   S[q][t][lane] (+)= sum_d  panel[q][d][lane] * columns[d][base + idx + t]
 *     values   C[q][lane][d] (+)= sum_t  S[q][t][lane] * rows[base + idx + t][d]
 *
 * Lane i of a run of owners sees partners base + idx[i] + t, t < length[i].  In the
 * interior idx[i] = i, and logits read their partners by a plain, shifted load from
 * columns; at a border or with a stride the loaded vector is permuted (pick), and
 * scores past the window of a lane are overwritten afterwards.  Values go lane by lane,
 * a weight spread over a register, so that each lane reads the rows of its own window
 * and no other.
 *
 * q counts up to OWNERS owner vectors that share partners; q times columns sums, q left
 * factors and one right one fill the registers.  Each sum is one chain in the order of
 * the owner's own window, so its bits do not depend on who shares the kernel with it.
 */
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
    real count[LANES]; /* length, to be compared with in registers */
    int length[LANES];
    int shift[LANES]; /* begin of the window minus own position */
    /* GRAD_ALL: from the weight of lane 0 for partner base + t to that of lane i. */
    int skew[LANES];
} run;

/* Owners lo .. hi - 1 of the group see n partners from position x of a strip on. */
typedef struct segment {
    ptrdiff_t strip; /* elements from the first strip to this one */
    int x, n;        /* from the origin of the strips */
    int lo, hi;
    int z, y, f;      /* of the partner row */
    int slot[OWNERS]; /* where each owner's scores of it are */
} segment;

/* What is fixed at compile time: owners lo .. hi - 1, vectors of the right factor,
 * whether the left one is spread, and whether the right one is permuted. */
typedef struct shape {
    int lo, hi, columns;
    bool spread, pick;
} shape;

/* n products of the left factors, LANES apart, with vectors of b, which are neighbours:
 * shifted by an element, or by a vector where the left factors are spread. */
INLINE void steps(const shape k, vec acc[OWNERS][BLOCK], const real *const left[OWNERS],
                  const real *b, ptrdiff_t step, int n, vidx idx)
{
    for (int r = 0; r < n; r++, b += step) {
        vec v[OWNERS];
        UNROLL
        for (int q = k.lo; q < k.hi; q++) {
            const real *p = left[q] + (ptrdiff_t)r * LANES;
            v[q] = k.spread ? v_all(*p) : v_load(p);
            v_pin(v[q]);
        }
        UNROLL
        for (int i = 0; i < k.columns; i++) {
            vec x = v_load(b + (k.spread ? i * LANES : i));
            if (k.pick)
                x = v_pick(x, idx);
            v_pin(x);
            UNROLL
            for (int q = k.lo; q < k.hi; q++)
                acc[q][i] = v_fma(v[q], x, acc[q][i]);
        }
    }
}

/* ---- logits ---------------------------------------------------------------------- */

/* `columns` neighbouring partners of a segment: c[q] holds their scores. */
typedef struct logits_block {
    const real *a[OWNERS]; /* panels */
    const real *b;
    ptrdiff_t pitch;
    int rows;
    bool add; /* to what c holds */
    real *c[OWNERS];
    const ireal *idx;
} logits_block;

typedef void logits_kernel(const logits_block *o);

INLINE void logits_of(const shape k, const logits_block *o)
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
    steps(k, acc, o->a, o->b, o->pitch, o->rows, v_index(o->idx));
    UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            v_store(o->c[q] + i * LANES, acc[q][i]);
    }
}

/* ---- values ---------------------------------------------------------------------- */

/* `columns` vectors of the head dim, for all that is listed. */
typedef struct values_block {
    const segment *list;
    int count;
    const real *w[OWNERS]; /* weights: [slot][LANES] */
    const real *b;
    ptrdiff_t pitch; /* from one partner to the next */
    bool add;
    real *c[OWNERS];
    ptrdiff_t c_pitch; /* from one lane to the next */
    int lanes;
    const run *run;
} values_block;

typedef void values_kernel(const values_block *o);

/* The part of a segment that a lane sees. */
INLINE void one_segment(const shape k, vec acc[OWNERS][BLOCK], const values_block *o,
                        const segment *s, int lane)
{
    const real *w[OWNERS];
    UNROLL
    for (int q = k.lo; q < k.hi; q++)
        w[q] = o->w[q] + (ptrdiff_t)s->slot[q] * LANES + lane;
    int n = s->n;
    if (o->run->ragged) /* then no other run is in the group */
        n = natten_min(n, o->run->length[lane] - (s->x - o->run->base));
    const real *b = o->b + s->strip + (s->x + o->run->idx[lane]) * o->pitch;
    steps(k, acc, w, b, o->pitch, n, v_index(o->run->idx));
}

INLINE void values_of(const shape k, const values_block *o)
{
    if (k.hi * k.columns > BUDGET)
        return;
    for (int lane = 0; lane < o->lanes; lane++) {
        vec acc[OWNERS][BLOCK];
        UNROLL
        for (int q = 0; q < k.hi; q++) {
            UNROLL
            for (int i = 0; i < k.columns; i++)
                acc[q][i] =
                    o->add ? v_load(o->c[q] + lane * o->c_pitch + i * LANES) : v_zero();
        }
        for (int n = 0; n < o->count; n++) {
            const segment *s = o->list + n;
            /* Which owners take part is fixed within a case, so that sums stay in
             * registers. */
#define CASE(l, h)                                                               \
    case l * 8 + h:                                                              \
        if (h <= k.hi)                                                           \
            one_segment((shape){l, h, k.columns, true, false}, acc, o, s, lane); \
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
                v_store(o->c[q] + lane * o->c_pitch + i * LANES, acc[q][i]);
        }
    }
}

/* ---- the instances: tables [owners - 1][columns - 1] ------------------------------
 */

#define DEFINE(name, of, q, n, spread, pick)        \
    static void name##q##_##n(const of##_block *o)  \
    {                                               \
        of##_of((shape){0, q, n, spread, pick}, o); \
    }
#define DEFINE_ROW(name, of, q, spread, pick) \
    DEFINE(name, of, q, 1, spread, pick)      \
    DEFINE(name, of, q, 2, spread, pick)      \
    DEFINE(name, of, q, 3, spread, pick)      \
    DEFINE(name, of, q, 4, spread, pick)      \
    DEFINE(name, of, q, 5, spread, pick)      \
    DEFINE(name, of, q, 6, spread, pick)      \
    DEFINE(name, of, q, 7, spread, pick)      \
    DEFINE(name, of, q, 8, spread, pick)
#define LIST_ROW(n)                                    \
    {                                                  \
        n##1, n##2, n##3, n##4, n##5, n##6, n##7, n##8 \
    }
#if OWNERS == 4
#define TABLE(name, of, spread, pick)                               \
    DEFINE_ROW(name, of, 1, spread, pick)                           \
    DEFINE_ROW(name, of, 2, spread, pick)                           \
    DEFINE_ROW(name, of, 3, spread, pick)                           \
    DEFINE_ROW(name, of, 4, spread, pick)                           \
    static of##_kernel *const name##table[OWNERS][BLOCK] = {        \
        LIST_ROW(name##1_), LIST_ROW(name##2_), LIST_ROW(name##3_), \
        LIST_ROW(name##4_)};
#else
#define TABLE(name, of, spread, pick)                        \
    DEFINE_ROW(name, of, 1, spread, pick)                    \
    DEFINE_ROW(name, of, 2, spread, pick)                    \
    DEFINE_ROW(name, of, 3, spread, pick)                    \
    static of##_kernel *const name##table[OWNERS][BLOCK] = { \
        LIST_ROW(name##1_), LIST_ROW(name##2_), LIST_ROW(name##3_)};
#endif
TABLE(logits_plain_, logits, false, false)
TABLE(logits_pick_, logits, false, true)
TABLE(values_, values, true, false)

/* Columns at a time: n cut into equal parts that nq owners leave room for in BUDGET. */
static inline int block_columns(int64_t n, int nq)
{
    int64_t limit = natten_min(BLOCK, BUDGET / nq), parts = (n + limit - 1) / limit;
    return (int)((n + parts - 1) / parts);
}

#endif
