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
 * columns; with a stride the loaded vector is permuted (pick), and scores past the
 * window of a lane are overwritten afterwards.  At a border the lanes whose windows
 * still move read as inside, the others all the same partner (clamped), where that
 * takes less time than to permute.  Values go lane by lane, a weight spread over a
 * register, so that each lane reads the rows of its own window and no other; those of
 * large windows go by neighbouring lanes (cpu_near.h).
 *
 * q counts up to OWNERS owner vectors that share partners; q times columns sums, q left
 * factors and one right one fill the registers.  Each sum is one chain in the order of
 * the owner's own window, so its bits do not depend on who shares the kernel with it.
 */
#ifndef NATTEN_CPU_KERNEL_H
#define NATTEN_CPU_KERNEL_H

enum { BLOCK = 8, CACHE_LINE = 64 };

/* Stores past the caches, for whole lines that nobody reads soon, and the wait for
 * them; where a set has no such words, nothing streams. */
#ifndef V_STREAMS
#define V_STREAMS 0
INLINE void v_stream(real *p, vec a)
{
    v_store(p, a);
}
INLINE void v_settle(void)
{
}
#endif

/* Sums that leave room for what picks a partner; do two loads take less time? */
#ifndef PICK_BUDGET
#define PICK_BUDGET BUDGET
#endif
#ifndef V_CLAMPS
#define V_CLAMPS 0
#endif

/* How lanes read their partners. */
enum reading { PLAIN, PICKED, CLAMPED };

/* Up to LANES owners side by side whose windows begin within LANES of each other. */
typedef struct run {
    int x, n;         /* positions x .. x + n - 1 of the class */
    int base;         /* where the first window begins, from the origin of the strips */
    int most, least;  /* longest and shortest window */
    enum reading how; /* PLAIN: idx[i] = i and all windows alike */
    bool ragged;      /* windows differ in length */
    bool even;        /* shift is the same for all lanes */
    bool small; /* half of the lanes hold it, and the partners of its first step */
    ireal idx[LANES];
    /* CLAMPED: idx[i] = i + slide where moves[i] > 0, else still. */
    int slide, still;
    real moves[LANES];
    real count[LANES]; /* length, to be compared with in registers */
    int length[LANES];
    int shift[LANES]; /* begin of the window minus own position */
    /* GRAD_ALL: from the weight of lane 0 for partner base + t to that of lane i. */
    int skew[LANES];
    int pattern; /* runs of a pattern sum dS together, lane by lane; -1: apart */
} run;

/* Owners lo .. hi - 1 of the group see n partners from position x of a strip on. */
typedef struct segment {
    ptrdiff_t strip; /* elements from the first strip to this one */
    int x, n;        /* from the origin of the strips */
    int lo, hi;
    int z, y, f;      /* of the partner row */
    int slot[OWNERS]; /* where each owner's scores of it are */
} segment;

/* What is fixed at compile time: owners lo .. hi - 1 and vectors of the right
 * factor. */
typedef struct shape {
    int lo, hi, columns;
} shape;

/* All ranges of owners, by their first and the one after their last. */
#define RANGES_OF_3(R) R(0, 1) R(0, 2) R(0, 3) R(1, 2) R(1, 3) R(2, 3)
#define RANGES_TO_4(R) R(0, 4) R(1, 4) R(2, 4) R(3, 4)
#define RANGES_TO_5(R) R(0, 5) R(1, 5) R(2, 5) R(3, 5) R(4, 5)
#define RANGES_TO_6(R) R(0, 6) R(1, 6) R(2, 6) R(3, 6) R(4, 6) R(5, 6)
#if OWNERS == 6
#define OWNER_RANGES(R) RANGES_OF_3(R) RANGES_TO_4(R) RANGES_TO_5(R) RANGES_TO_6(R)
#else
#define OWNER_RANGES(R) RANGES_OF_3(R)
#endif

/* ---- logits ---------------------------------------------------------------------- */

/* `columns` neighbouring partners of a segment: c[q] holds their scores. */
typedef struct logits_block {
    const real *a[OWNERS]; /* panels */
    const real *b;
    ptrdiff_t pitch;
    int rows;
    bool add; /* to what c holds */
    real *c[OWNERS];
    /* PLAIN: what is added to all lanes, an entry of the bias for each partner,
     * `entry_step` apart; NULL: nothing. */
    const real *entry[OWNERS];
    ptrdiff_t entry_step;
    const ireal *idx;
    ptrdiff_t slide, still;
    const real *moves;
} logits_block;

typedef void logits_kernel(const logits_block *o);

#define LOGITS_OF  logits_of
#define W(word)    v_##word
#define WIDE       vec
#define WIDE_INDEX vidx
#include "cpu/cpu_logits.h"

/* The same for runs that the first half of the lanes has room for: of halves a
 * processor does two at a time. */
#ifdef HALF_LANES
#define LOGITS_OF  half_logits_of
#define W(word)    h_##word
#define WIDE       hvec
#define WIDE_INDEX hidx
#include "cpu/cpu_logits.h"
#endif

/* ---- values ---------------------------------------------------------------------- */

/* A segment as all lanes need it, found once for all of them: what is found anew for
 * each weighs as much as a few partners do. */
typedef struct values_piece {
    ptrdiff_t row; /* elements from the first strip to the first partner's row */
    int n, x;
    int lo, hi;
    ptrdiff_t at[OWNERS]; /* each owner's slot, in elements of its weights */
} values_piece;

/* `columns` vectors of the head dim, for all that is listed. */
typedef struct values_block {
    const values_piece *list;
    int count;
    const real *w[OWNERS]; /* weights: [slot][LANES] */
    const real *b;
    ptrdiff_t pitch; /* from one partner to the next */
    bool add;
    real *c[OWNERS];
    ptrdiff_t c_pitch; /* from one lane to the next */
    int lanes;
    const run *run;
    /* Where sums are complete: rows of the result, `step` bytes apart, and what the sum
     * of each lane is multiplied with. NULL: they go to c. */
    char *result[OWNERS];
    int64_t step;
    bool streams;
    const real *factor[OWNERS];
} values_block;

/* Rows of a result, `step` bytes apart, and the factors of their lanes. */
typedef struct destination {
    char *row[OWNERS];
    int64_t step;
    bool streams;
    real factor[OWNERS][LANES];
} destination;

typedef void values_kernel(const values_block *o);

/* Neighbouring lanes at a time: where the head dim is short, the sums of one would
 * wait for each other. */
enum { MOST_LANES = LANES > 1 ? 2 : 1 };

typedef vec value_sums[MOST_LANES][OWNERS][BLOCK];

/* The part of a segment that `many` lanes see from `lane` on; rows: where that of each
 * begins, of a segment whose row is 0. */
INLINE void one_segment(const shape k, const int many, value_sums acc,
                        const values_block *o, const values_piece *s, int lane,
                        const real *const rows[MOST_LANES])
{
    const real *w[OWNERS], *b[MOST_LANES];
    UNROLL
    for (int q = k.lo; q < k.hi; q++)
        w[q] = o->w[q] + s->at[q] + lane;
    int n = s->n;
    if (many == 1 && o->run->ragged) /* then no other run is in the group */
        n = natten_min(n, o->run->length[lane] - (s->x - o->run->base));
    UNROLL
    for (int l = 0; l < many; l++)
        b[l] = rows[l] + s->row;
    for (ptrdiff_t t = 0; t < n; t++)
        UNROLL
    for (int l = 0; l < many; l++) {
        vec v[OWNERS];
        UNROLL
        for (int q = k.lo; q < k.hi; q++) {
            v[q] = v_all(w[q][t * LANES + l]);
            v_pin(v[q]);
        }
        UNROLL
        for (int i = 0; i < k.columns; i++) {
            vec x = v_load(b[l] + t * o->pitch + i * LANES);
            v_pin(x);
            UNROLL
            for (int q = k.lo; q < k.hi; q++)
                acc[l][q][i] = v_fma(v[q], x, acc[l][q][i]);
        }
    }
}

/* A complete sum becomes a part of a row of the result, as unpack() makes it. */
INLINE void store_part(real *to, const bool streams, vec sum, vec factor)
{
    vec r = v_add(v_mul(factor, sum), v_zero());
    if (streams)
        v_stream(to, r);
    else
        v_store(to, r);
}

INLINE void store_results(const shape k, const int many, const bool streams,
                          value_sums acc, const values_block *o, int lane)
{
    UNROLL
    for (int l = 0; l < many; l++)
        UNROLL
    for (int q = 0; q < k.hi; q++) {
        real *to = (real *)(void *)(o->result[q] + (lane + l) * o->step);
        vec factor = v_all(o->factor[q][lane + l]);
        UNROLL
        for (int i = 0; i < k.columns; i++)
            store_part(to + i * LANES, streams, acc[l][q][i], factor);
    }
}

/* All that is listed, for `many` lanes. */
INLINE void some_lanes(const shape k, const int many, const values_block *o, int lane)
{
    value_sums acc;
    UNROLL
    for (int l = 0; l < many; l++)
        UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            acc[l][q][i] = o->add
                               ? v_load(o->c[q] + (lane + l) * o->c_pitch + i * LANES)
                               : v_zero();
    }
    const real *rows[MOST_LANES];
    UNROLL
    for (int l = 0; l < many; l++)
        rows[l] = o->b + o->run->idx[lane + l] * o->pitch;
    for (const values_piece *s = o->list, *end = s + o->count; s < end; s++) {
        /* Which owners take part is fixed within a case, so that sums stay in
         * registers. */
#define CASE(l, h)                                                              \
    case l * 8 + h:                                                             \
        if (h <= k.hi)                                                          \
            one_segment((shape){l, h, k.columns}, many, acc, o, s, lane, rows); \
        break;
        switch (s->lo * 8 + s->hi) {
            OWNER_RANGES(CASE)
        }
#undef CASE
    }
    if (o->result[0]) {
        if (o->streams)
            store_results(k, many, true, acc, o, lane);
        else
            store_results(k, many, false, acc, o, lane);
        return;
    }
    UNROLL
    for (int l = 0; l < many; l++)
        UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            v_store(o->c[q] + (lane + l) * o->c_pitch + i * LANES, acc[l][q][i]);
    }
}

INLINE void values_of(const shape k, const values_block *o)
{
    int lane = 0;
    if (k.hi * k.columns > BUDGET)
        return;
    if (MOST_LANES > 1 && MOST_LANES * k.hi * k.columns <= BUDGET && !o->run->ragged)
        for (; lane + MOST_LANES <= o->lanes; lane += MOST_LANES)
            some_lanes(k, MOST_LANES, o, lane);
    for (; lane < o->lanes; lane++)
        some_lanes(k, 1, o, lane);
}

/* ---- the instances: tables [owners - 1][columns - 1] ------------------------------
 */

#define LOGITS_PLAIN(q, n)                                    \
    static void logits_plain_##q##_##n(const logits_block *o) \
    {                                                         \
        logits_of((shape){0, q, n}, PLAIN, o);                \
    }
#define LOGITS_PICK(q, n)                                    \
    static void logits_pick_##q##_##n(const logits_block *o) \
    {                                                        \
        logits_of((shape){0, q, n}, PICKED, o);              \
    }
#define LOGITS_CLAMP(q, n)                                    \
    static void logits_clamp_##q##_##n(const logits_block *o) \
    {                                                         \
        logits_of((shape){0, q, n}, CLAMPED, o);              \
    }
#ifdef HALF_LANES
#define HALF_PLAIN(q, n)                                    \
    static void half_plain_##q##_##n(const logits_block *o) \
    {                                                       \
        half_logits_of((shape){0, q, n}, PLAIN, o);         \
    }
#define HALF_PICK(q, n)                                    \
    static void half_pick_##q##_##n(const logits_block *o) \
    {                                                      \
        half_logits_of((shape){0, q, n}, PICKED, o);       \
    }
#endif
#define VALUES(q, n)                                    \
    static void values_##q##_##n(const values_block *o) \
    {                                                   \
        values_of((shape){0, q, n}, o);                 \
    }
#define DEFINE_ROW(DEFINE, q) \
    DEFINE(q, 1)              \
    DEFINE(q, 2)              \
    DEFINE(q, 3)              \
    DEFINE(q, 4)              \
    DEFINE(q, 5)              \
    DEFINE(q, 6)              \
    DEFINE(q, 7)              \
    DEFINE(q, 8)
#define LIST_ROW(n)                                            \
    {                                                          \
        n##_1, n##_2, n##_3, n##_4, n##_5, n##_6, n##_7, n##_8 \
    }
#if OWNERS == 6
#define DEFINE_TABLE(DEFINE) \
    DEFINE_ROW(DEFINE, 1)    \
    DEFINE_ROW(DEFINE, 2)    \
    DEFINE_ROW(DEFINE, 3)    \
    DEFINE_ROW(DEFINE, 4)    \
    DEFINE_ROW(DEFINE, 5)    \
    DEFINE_ROW(DEFINE, 6)
#define LIST_TABLE(n)                                                       \
    {                                                                       \
        LIST_ROW(n##_1), LIST_ROW(n##_2), LIST_ROW(n##_3), LIST_ROW(n##_4), \
            LIST_ROW(n##_5), LIST_ROW(n##_6)                                \
    }
#else
#define DEFINE_TABLE(DEFINE) \
    DEFINE_ROW(DEFINE, 1)    \
    DEFINE_ROW(DEFINE, 2)    \
    DEFINE_ROW(DEFINE, 3)
#define LIST_TABLE(n)                                     \
    {                                                     \
        LIST_ROW(n##_1), LIST_ROW(n##_2), LIST_ROW(n##_3) \
    }
#endif

DEFINE_TABLE(LOGITS_PLAIN)
DEFINE_TABLE(LOGITS_PICK)
DEFINE_TABLE(VALUES)

typedef logits_kernel *const logits_table[OWNERS][BLOCK];
static logits_table logits_plain_table = LIST_TABLE(logits_plain);
static logits_table logits_pick_table = LIST_TABLE(logits_pick);
#if V_CLAMPS
DEFINE_TABLE(LOGITS_CLAMP)
static logits_table logits_clamp_table = LIST_TABLE(logits_clamp);
#else
#define logits_clamp_table logits_pick_table
#endif
#ifdef HALF_LANES
DEFINE_TABLE(HALF_PLAIN)
DEFINE_TABLE(HALF_PICK)
static logits_table half_plain_table = LIST_TABLE(half_plain);
static logits_table half_pick_table = LIST_TABLE(half_pick);
#else
#define HALF_LANES       0 /* no run is so small */
#define half_plain_table logits_plain_table
#define half_pick_table  logits_pick_table
#endif
static values_kernel *const values_table[OWNERS][BLOCK] = LIST_TABLE(values);

/* n columns are cut into `parts` that nq owners leave room for among `budget` sums: as
 * long as one another, or one longer at first. */
typedef struct cutting {
    int n, parts;
} cutting;

static inline cutting cut_columns(int n, int nq, int budget)
{
    int limit = natten_min(BLOCK, budget / nq);
    return (cutting){n, (n + limit - 1) / limit};
}

/* The next part. */
static inline int next_columns(cutting *c)
{
    int now = (c->n + c->parts - 1) / c->parts;
    c->n -= now;
    c->parts--;
    return now;
}

#endif
