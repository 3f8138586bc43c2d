/* SPDX-License-Identifier: MIT
 *
 * The third product, of GRAD_ALL alone: what owners give to the partners that they see.
 *
 *     C[x][d] += sum_i S[q][x - base - idx[i]][lane i] * rows[q][i][d]    lanes are d
 *
 * over the owners i whose windows hold partner x.  These are neighbours, for windows
 * begin and end in the order of their owners; so GIVEN partners at a time take their
 * owners in stretches, each of which a range of these partners shares.  No weight
 * outside a window is read, and infinite owners reach no partner that they do not see.
 */
#ifndef NATTEN_CPU_SCATTER_H
#define NATTEN_CPU_SCATTER_H

enum {
    /* Partners at a time; they go with ranges like owners. Doubles of AVX-512 take
     * fewer, and more of the head dim, which has more vectors: so it is gone over in
     * one go, with fewer ranges (bench/results/2026-11-30-zen4.md). */
    GIVEN = OWNERS == 6 && LANES == 8 ? 3 : OWNERS,
    GIVEN_COLUMNS = BUDGET / GIVEN,
    SLOPE = 2 * GIVEN - 1,   /* ranges from the first partner's own to the last one's */
    MOST_REACH = 64 + LANES, /* partners of a segment */
    MOST_STRETCHES = (MOST_REACH / GIVEN + 1) * 2 * GIVEN
};

_Static_assert((int)GIVEN <= (int)NATTEN_CPU_GIVEN, "cpu_tile.c has room for them");

/* Owners i .. end - 1 see partners lo .. hi - 1 of the GIVEN. */
typedef struct owner_stretch {
    int16_t i, end, lo, hi;
} owner_stretch;

/* Where windows are no shorter than GIVEN, the owners of GIVEN partners see the first
 * of them, then the first two, up to all, then all but the first, down to the last: so
 * many owners from `first` on each time. */
typedef struct slope {
    bool valid; /* else look at the stretches */
    int16_t first, owners[SLOPE];
} slope;

/* The stretches of a segment; those of partners GIVEN k and on begin at begin[k]. */
typedef struct reach {
    const run *run; /* NULL: of no segment yet */
    int x, n, lanes, blocks;
    int begin[MOST_REACH / GIVEN + 2];
    slope slope[MOST_REACH / GIVEN + 1];
    owner_stretch stretch[MOST_STRETCHES];
} reach;

/* GIVEN partners of a segment, `columns` vectors of the head dim. */
typedef struct scatter_block {
    const real *w[OWNERS]; /* weights of the first partner's slot, lane 0 */
    const real *rows[OWNERS];
    ptrdiff_t pitch; /* of rows */
    int owners, lanes[OWNERS];
    const owner_stretch *stretch;
    int stretches;
    const slope *slope;
    bool even; /* all owner vectors have as many lanes */
    const int *skew;
    real *c;
    ptrdiff_t c_pitch;
} scatter_block;

typedef void scatter_kernel(const scatter_block *o);

/* Lanes i .. end - 1 give to the partners lo .. hi - 1. */
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

/* One owner after the other, without a jump that has to be foretold. */
INLINE void give_slope(const int columns, vec acc[GIVEN][GIVEN_COLUMNS],
                       const scatter_block *o, int q)
{
    int i = o->slope->first;
    UNROLL
    for (int n = 0; n < SLOPE; n++) {
        int lo = n < GIVEN ? 0 : n - GIVEN + 1, hi = n < GIVEN ? n + 1 : GIVEN;
        int end = i + o->slope->owners[n];
        give((shape){lo, hi, columns}, acc, o, q, i, end);
        i = end;
    }
}

INLINE void give_stretches(const int columns, vec acc[GIVEN][GIVEN_COLUMNS],
                           const scatter_block *o, int q)
{
    for (int n = 0; n < o->stretches; n++) {
        const owner_stretch *s = &o->stretch[n];
        int end = natten_min(s->end, o->lanes[q]);
#define CASE(l, h)                                              \
    case l * 8 + h:                                             \
        if (h <= GIVEN)                                         \
            give((shape){l, h, columns}, acc, o, q, s->i, end); \
        break;
        switch (s->lo * 8 + s->hi) {
            OWNER_RANGES(CASE)
        }
#undef CASE
    }
}

INLINE void scatter_of(const int columns, const scatter_block *o)
{
    vec acc[GIVEN][GIVEN_COLUMNS];
    UNROLL
    for (int t = 0; t < GIVEN; t++) {
        UNROLL
        for (int k = 0; k < columns; k++)
            acc[t][k] = v_load(o->c + t * o->c_pitch + k * LANES);
    }
    for (int q = 0; q < o->owners; q++)
        if (LANES > 1 && o->even && o->slope->valid)
            give_slope(columns, acc, o, q);
        else
            give_stretches(columns, acc, o, q);
    UNROLL
    for (int t = 0; t < GIVEN; t++) {
        UNROLL
        for (int k = 0; k < columns; k++)
            v_store(o->c + t * o->c_pitch + k * LANES, acc[t][k]);
    }
}

#define SCATTER(n)                                  \
    static void scatter_##n(const scatter_block *o) \
    {                                               \
        if (n <= GIVEN_COLUMNS)                     \
            scatter_of(n, o);                       \
    }
SCATTER(1)
SCATTER(2)
SCATTER(3)
SCATTER(4)
SCATTER(5)
SCATTER(6)
SCATTER(7)
SCATTER(8)

static scatter_kernel *const scatter_table[BLOCK] = LIST_ROW(scatter);

/* Partner t of a segment is seen by owners first .. end - 1. */
typedef struct seers {
    int first, end;
} seers;

/* The stretches of partners `of`, GIVEN of them, `lanes` owners: how many. */
static int cut_stretches(const seers *of, int lanes, owner_stretch *to)
{
    int count = 0, lo = 0, hi = 0;
    for (int i = of[0].first; i < lanes && lo < GIVEN;) {
        while (hi < GIVEN && of[hi].first <= i)
            hi++;
        while (lo < hi && of[lo].end <= i)
            lo++;
        int next = hi < GIVEN ? natten_min(lanes, of[hi].first) : lanes;
        if (lo < hi) {
            next = natten_min(next, of[lo].end);
            to[count++] =
                (owner_stretch){(int16_t)i, (int16_t)next, (int16_t)lo, (int16_t)hi};
        } else if (hi == GIVEN) {
            break;
        }
        i = next;
    }
    return count;
}

/* The same as a slope, if it is one. */
static slope make_slope(const owner_stretch *of, int count)
{
    slope s = {.valid = true, .first = count > 0 ? of[0].i : 0};
    for (int n = 0, least = 0; n < count; n++) {
        int at = of[n].lo == 0 ? of[n].hi - 1 : GIVEN - 1 + of[n].lo;
        bool on = of[n].lo == 0 || of[n].hi == GIVEN;
        if (!on || at < least || (n > 0 && of[n].i != of[n - 1].end))
            return (slope){.valid = false};
        s.owners[at] = (int16_t)(of[n].end - of[n].i);
        least = at + 1;
    }
    return s;
}

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
    int count = r->idx[lanes - 1] + length[lanes - 1], first = 0, end = 0, total = 0;
    h->blocks = (count + GIVEN - 1) / GIVEN;
    for (int k = 0; k < h->blocks; k++) {
        seers of[GIVEN];
        for (int t = 0; t < GIVEN; t++) {
            int partner = k * GIVEN + t;
            while (first < lanes && r->idx[first] + length[first] <= partner)
                first++;
            while (end < lanes && r->idx[end] <= partner)
                end++;
            of[t] = (seers){first, natten_max(first, end)};
        }
        h->begin[k] = total;
        total += cut_stretches(of, lanes, h->stretch + total);
        h->slope[k] = make_slope(h->stretch + h->begin[k], total - h->begin[k]);
    }
    h->begin[h->blocks] = total;
}

#endif
