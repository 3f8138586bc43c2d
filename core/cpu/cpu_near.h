/* SPDX-License-Identifier: MIT
 *
 * Values of neighbouring lanes. Owners side by side see the same partners but for a few
 * at both ends, or where windows stand still, all the same. So up to OWNERS of them
 * share a partner's row, as lanes of as many owner vectors do in cpu_kernel.h; and what
 * is read of the weights, those of one owner vector, stays in the nearest cache. Those
 * of all vectors, for a large window, do not, and each lane needs a part of every line
 * (bench/results/2026-12-01-xeon.md). The sums are the same chains. */
#ifndef NATTEN_CPU_NEAR_H
#define NATTEN_CPU_NEAR_H

/* Lanes for two parts: of fewer neighbours each would read a row more often than owner
 * vectors do that share it, and only on a line others lie beside them (cpu_line.h). */
#if LANES >= 2 * OWNERS

/* n partners of a row that each lane of an owner vector sees. */
typedef struct near_piece {
    const real *w; /* weights: [n][LANES] */
    ptrdiff_t row; /* elements from the first strip to the row of base + 0 */
    ptrdiff_t n;
} near_piece;

/* `many` lanes, `columns` vectors of the head dim. Each lane sees its partners one
 * further than the lane before it, or, still, the same. Two halves: so many lanes
 * twice, for few sums would wait for each other. */
typedef struct near_shape {
    int many, columns, halves;
    bool still;
} near_shape;

typedef struct near_block {
    const near_piece *list;
    int count, lane; /* the first lane, */
    const real *b;   /* and its first row of a piece whose row is 0 */
    ptrdiff_t pitch; /* from one partner to the next */
    bool add;
    real *c;
    ptrdiff_t c_pitch; /* from one lane to the next */
    /* As in values_block. */
    char *result;
    int64_t step;
    bool streams;
    const real *factor;
} near_block;

typedef void near_kernel(const near_block *o);

typedef vec near_sums[2 * OWNERS][BLOCK];

/* A partner of lanes lo .. hi - 1 of each half. w: the first lane's weight for it, or
 * where that would be, did it see so far. */
INLINE void near_partner(const near_shape k, const int lo, const int hi, near_sums acc,
                         const real *w, const real *b, ptrdiff_t pitch)
{
    UNROLL
    for (int half = 0; half < k.halves; half++) {
        int first = half * k.many;
        vec v[OWNERS];
        UNROLL
        for (int i = lo; i < hi; i++) {
            v[i] = v_all(w[first + i - (k.still ? 0 : i * LANES)]);
            v_pin(v[i]);
        }
        UNROLL
        for (int c = 0; c < k.columns; c++) {
            vec x = v_load(b + first * pitch + c * LANES);
            v_pin(x);
            UNROLL
            for (int i = lo; i < hi; i++)
                acc[first + i][c] = v_fma(v[i], x, acc[first + i][c]);
        }
    }
}

/* The first partner is seen by the first lane alone, the next by two, up to all, then
 * down to the last lane: no piece is shorter than the lanes are many. */
INLINE void near_segment(const near_shape k, near_sums acc, const near_block *o,
                         const near_piece *s)
{
    const real *w = s->w + o->lane, *b = o->b + s->row;
    ptrdiff_t pitch = o->pitch;
    int ends = k.still ? 0 : k.many - 1;
    UNROLL
    for (int t = 0; t < ends; t++, w += LANES, b += pitch)
        near_partner(k, 0, t + 1, acc, w, b, pitch);
    const real *end = w + (s->n - ends) * LANES;
    for (; w < end; w += LANES, b += pitch)
        near_partner(k, 0, k.many, acc, w, b, pitch);
    UNROLL
    for (int t = 0; t < ends; t++, w += LANES, b += pitch)
        near_partner(k, t + 1, k.many, acc, w, b, pitch);
}

INLINE void store_near_results(const near_shape k, const bool streams, near_sums acc,
                               const near_block *o)
{
    UNROLL
    for (int l = 0; l < k.many * k.halves; l++) {
        real *to = (real *)(void *)(o->result + l * o->step);
        vec factor = v_all(o->factor[l]);
        UNROLL
        for (int c = 0; c < k.columns; c++)
            store_part(to + c * LANES, streams, acc[l][c], factor);
    }
}

INLINE void near_of(const near_shape k, const near_block *o)
{
    near_sums acc;
    int lanes = k.many * k.halves;
    if (lanes * k.columns > BUDGET || (k.still && k.many == 1) ||
        (k.halves == 2 && (k.many == 1 || 2 * OWNERS * k.columns > BUDGET)))
        return; /* there is no such instance: cut_lanes() */
    UNROLL
    for (int l = 0; l < lanes; l++) {
        UNROLL
        for (int c = 0; c < k.columns; c++)
            acc[l][c] = o->add ? v_load(o->c + l * o->c_pitch + c * LANES) : v_zero();
    }
    for (const near_piece *s = o->list, *end = s + o->count; s < end; s++)
        near_segment(k, acc, o, s);
    if (o->result) {
        if (o->streams)
            store_near_results(k, true, acc, o);
        else
            store_near_results(k, false, acc, o);
        return;
    }
    UNROLL
    for (int l = 0; l < lanes; l++) {
        UNROLL
        for (int c = 0; c < k.columns; c++)
            v_store(o->c + l * o->c_pitch + c * LANES, acc[l][c]);
    }
}

#define NEAR(q, n)                                  \
    static void near_##q##_##n(const near_block *o) \
    {                                               \
        near_of((near_shape){q, n, 1, false}, o);   \
    }
#define STILL(q, n)                                  \
    static void still_##q##_##n(const near_block *o) \
    {                                                \
        near_of((near_shape){q, n, 1, true}, o);     \
    }
#define TWICE(q, n)                                  \
    static void twice_##q##_##n(const near_block *o) \
    {                                                \
        near_of((near_shape){q, n, 2, false}, o);    \
    }
DEFINE_TABLE(NEAR)
DEFINE_TABLE(STILL)
DEFINE_TABLE(TWICE)

static near_kernel *const near_tables[3][OWNERS][BLOCK] = {
    LIST_TABLE(near), LIST_TABLE(still), LIST_TABLE(twice)};
enum { NEAR_ONCE, NEAR_STILL, NEAR_TWICE };

/* Lanes that go through a kernel together. */
typedef struct near_lanes {
    int first, many, table;
} near_lanes;

/* The lanes of a run, cut where windows begin to move or to stand still, and into as
 * few parts as have room, as long as one another: how many parts. */
static int cut_lanes(const run *r, int lanes, int vectors, near_lanes part[LANES])
{
    bool twice = 2 * OWNERS * vectors <= BUDGET;
    int count = 0;
    for (int l = 0, end; l < lanes; l = end) {
        ireal step = l + 1 < lanes && r->idx[l + 1] == r->idx[l] ? 0 : 1;
        for (end = l + 1; end < lanes && r->idx[end] - r->idx[end - 1] == step;)
            end++;
        if (step && end < lanes && end > l + 1 && r->idx[end] == r->idx[end - 1])
            end--; /* the first of those that stand still */
        while (l < end) {
            int n = end - l, parts = (n + OWNERS - 1) / OWNERS;
            near_lanes now = {l, (n + parts - 1) / parts,
                              step ? NEAR_ONCE : NEAR_STILL};
            if (step && twice && (n > 2 * OWNERS || (n > OWNERS && n % 2 == 0))) {
                parts = (n + 2 * OWNERS - 1) / (2 * OWNERS);
                now.many = natten_min(n / 2, (n + 2 * parts - 1) / (2 * parts));
                now.table = NEAR_TWICE;
            }
            part[count++] = now;
            l += now.table == NEAR_TWICE ? 2 * now.many : now.many;
        }
    }
    return count;
}

/* What owner vector q sees, by rows: a segment that goes on where the one before ends,
 * as its slots do, is of the same piece. How many pieces. */
static int list_near(const group *g, int q, const real *weights, int64_t pitch,
                     near_piece list[NATTEN_CPU_SEGMENTS])
{
    int count = 0;
    for (const segment *s = g->list; s < g->list + g->ns; s++) {
        if (q < s->lo || q >= s->hi)
            continue;
        near_piece now = {weights + (ptrdiff_t)s->slot[q] * LANES,
                          s->strip + s->x * pitch, s->n};
        near_piece *before = count > 0 ? &list[count - 1] : NULL;
        if (before && now.row - before->row == before->n * pitch)
            before->n += now.n;
        else
            list[count++] = now;
    }
    return count;
}

enum {
    LEAST_SCORES = 64, /* of an owner vector: of fewer, those of all stay near */
    LEAST_LANES = 3    /* in a part, on average */
};

/* Do lanes of one owner vector take less time together than those of several? Where a
 * row was cut for want of room, a piece may be shorter than neighbours are many. */
static bool has_near(const group *g)
{
    if (g->run->ragged || g->split || g->used[0] < LEAST_SCORES)
        return false;
    return g->in_extras || g->run->most >= OWNERS;
}

/* As values() (cpu_group.h), if neighbours can be taken together. */
static bool values_of_near(group *g, real *const *weights, int which, real *const *to,
                           const destination *result)
{
    int64_t dim = g->pass->other[which].dim, padded = natten_cpu_padded(dim, LANES);
    int vectors = (int)(padded / LANES), lanes = 0, parts = 0;
    if (!has_near(g))
        return false;
    near_lanes part[LANES];
    near_piece list[NATTEN_CPU_SEGMENTS];
    near_block o = {.list = list,
                    .pitch = dim,
                    .add = !g->first,
                    .c_pitch = padded,
                    .step = result ? result->step : 0};
    for (int q = 0; q < g->nq; q++) {
        if (lanes != g->own_run[q]->n) {
            lanes = g->own_run[q]->n;
            parts = cut_lanes(g->run, lanes, vectors, part);
            if (q == 0 && parts * LEAST_LANES > lanes)
                return false;
        }
        o.count = list_near(g, q, weights[q], dim, list);
        for (const near_lanes *l = part; l < part + parts; l++) {
            bool twice = l->table == NEAR_TWICE;
            cutting even = cut_columns(vectors, l->many * (twice ? 2 : 1), BUDGET);
            o.lane = l->first;
            o.b = g->rows[which] + (ptrdiff_t)g->run->idx[l->first] * dim;
            for (int d = 0, columns; d < vectors; d += columns) {
                columns = next_columns(&even);
                o.c = to[q] + l->first * padded + d * LANES;
                if (result) {
                    o.result = result->row[q] + l->first * result->step +
                               d * LANES * (int64_t)sizeof(real);
                    o.factor = result->factor[q] + l->first;
                    o.streams = result->streams &&
                                d * LANES * sizeof(real) % CACHE_LINE == 0 &&
                                columns * LANES * sizeof(real) % CACHE_LINE == 0;
                }
                near_tables[l->table][l->many - 1][columns - 1](&o);
                o.b += columns * LANES;
            }
        }
    }
    return true;
}

#endif

#endif
