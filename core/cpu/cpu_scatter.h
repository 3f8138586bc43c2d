/* SPDX-License-Identifier: MIT
 *
 * The third product, of GRAD_ALL alone: what owners give to the partners that they see.
 *
 *     C[x][d] += sum_i S[q][x - base - idx[i]][lane i] * rows[q][i][d]    lanes are d
 *
 * over the owners i whose windows hold partner x.  These are neighbours, for windows
 * begin and end in the order of their owners; so two partners at a time have lanes of
 * their own at either end, and lanes in between that they share.  No weight outside a
 * window is read, and infinite owners reach no partner that they do not see. */
#ifndef NATTEN_CPU_SCATTER_H
#define NATTEN_CPU_SCATTER_H

enum { GIVEN = 2, GIVEN_COLUMNS = 4, MOST_REACH = 64 + LANES + GIVEN };

/* Owners first[t] .. end[t] - 1 see partner x + t of a segment. */
typedef struct reach {
    const run *run; /* NULL: of no segment yet */
    int x, n, lanes, count;
    int first[MOST_REACH], end[MOST_REACH];
} reach;

/* Partners t and t + 1 of a segment, `columns` vectors of the head dim. */
typedef struct scatter_block {
    const real *w[OWNERS]; /* weights of slot t, lane 0 */
    const real *rows[OWNERS];
    ptrdiff_t pitch; /* of rows */
    int owners, lanes[OWNERS];
    const int *first, *end, *skew;
    real *c;
    ptrdiff_t c_pitch;
} scatter_block;

typedef void scatter_kernel(const scatter_block *o);

/* Lanes i .. end - 1 give to the partners lo .. hi - 1 of the two. */
INLINE void give(const shape k, vec acc[GIVEN][GIVEN_COLUMNS], const scatter_block *o,
                 int q, int i, int end)
{
    const real *row = o->rows[q] + i * o->pitch;
    for (; i < end; i++, row += o->pitch) {
        const real *w = o->w[q] + o->skew[i];
        vec v[GIVEN];
        UNROLL
        for (int t = k.lo; t < k.hi; t++) {
            v[t] = v_all(w[t * LANES]);
            v_pin(v[t]);
        }
        UNROLL
        for (int c = 0; c < k.columns; c++) {
            vec x = v_load(row + c * LANES);
            v_pin(x);
            UNROLL
            for (int t = k.lo; t < k.hi; t++)
                acc[t][c] = v_fma(v[t], x, acc[t][c]);
        }
    }
}

INLINE void scatter_of(const int columns, const scatter_block *o)
{
    vec acc[GIVEN][GIVEN_COLUMNS];
    int first = o->first[0], end = o->end[0], next = o->first[1], last = o->end[1];
    UNROLL
    for (int t = 0; t < GIVEN; t++) {
        UNROLL
        for (int k = 0; k < columns; k++)
            acc[t][k] = v_load(o->c + t * o->c_pitch + k * LANES);
    }
    for (int q = 0; q < o->owners; q++) {
        int n = o->lanes[q], until = natten_min(end, n);
        give((shape){0, 1, columns, true, false}, acc, o, q, first,
             natten_min(next, until));
        give((shape){0, 2, columns, true, false}, acc, o, q, next, until);
        give((shape){1, 2, columns, true, false}, acc, o, q, natten_max(next, end),
             natten_min(last, n));
    }
    UNROLL
    for (int t = 0; t < GIVEN; t++) {
        UNROLL
        for (int k = 0; k < columns; k++)
            v_store(o->c + t * o->c_pitch + k * LANES, acc[t][k]);
    }
}

static void scatter_1(const scatter_block *o)
{
    scatter_of(1, o);
}

static void scatter_2(const scatter_block *o)
{
    scatter_of(2, o);
}

static void scatter_3(const scatter_block *o)
{
    scatter_of(3, o);
}

static void scatter_4(const scatter_block *o)
{
    scatter_of(4, o);
}

static scatter_kernel *const scatter_table[GIVEN_COLUMNS] = {scatter_1, scatter_2,
                                                             scatter_3, scatter_4};

/* Which of `lanes` owners see the partners of a segment; mostly as in the segment
 * before. */
static void find_reach(reach *h, const run *r, const segment *s, int lanes)
{
    int x = r->ragged ? s->x : 0, length[LANES] = {0};
    if (h->run == r && h->n == s->n && h->x == x && h->lanes == lanes)
        return;
    h->run = r;
    h->x = x;
    h->n = s->n;
    h->lanes = lanes;
    for (int i = 0; i < lanes; i++) {
        int left = r->ragged ? r->length[i] - (s->x - r->base) : s->n;
        length[i] = natten_max(0, natten_min(s->n, left));
    }
    h->count = r->idx[lanes - 1] + length[lanes - 1];
    int first = 0, end = 0;
    for (int t = 0; t < h->count; t++) {
        while (first < lanes && r->idx[first] + length[first] <= t)
            first++;
        while (end < lanes && r->idx[end] <= t)
            end++;
        h->first[t] = first;
        h->end[t] = natten_max(first, end);
    }
    h->first[h->count] = h->end[h->count] = lanes; /* behind the last: nobody */
}

#endif
