/* SPDX-License-Identifier: MIT
 *
 * The relative position bias: products are added to it, and its gradient is the sum of
 * dS. The entry of a pair is, per axis, key position - query position + window - 1.
 * Where all lanes of a run have the same offset, as everywhere but at borders and with
 * stride, a slot of scores has one entry, and the first kernel adds it; elsewhere the
 * scores hold it before, each lane with its own. */
#ifndef NATTEN_CPU_BIAS_H
#define NATTEN_CPU_BIAS_H

static bool is_biased(const group *g)
{
    return g->pass->bias.data && !g->in_extras &&
           g->pass->kind != NATTEN_CPU_GRAD_EXTRA;
}

/* Entry of axis a for owner position i and partner position j. */
static inline int bias_entry(const group *g, int a, int i, int j)
{
    return (g->pass->owner_is_key ? i - j : j - i) + g->pass->axis[a].window - 1;
}

/* Entry along x of lane i for the first partner of its window, and the step from one
 * partner to the next. */
static inline int bias_first(const group *g, const run *r, int lane)
{
    int shift = g->pass->owner_is_key ? -r->shift[lane] : r->shift[lane];
    return shift + (g->pass->axis[2].window - 1);
}

static inline int bias_step(const group *g)
{
    return g->pass->owner_is_key ? -1 : 1;
}

/* Entry 0 along x of the pairs of owner q and a segment. */
static const real *entries_of(const group *g, const segment *s, int q)
{
    const natten_view *v = &g->pass->bias;
    int64_t head = g->head * g->pass->fan + s->f;
    return (const real *)v->data + head * v->head +
           bias_entry(g, 0, g->z[q], s->z) * v->axis[0] +
           bias_entry(g, 1, g->y, s->y) * v->axis[1];
}

/* The entry of the segment's first partner, where it is that of all lanes, and the step
 * to the next one's. */
static const real *entry_of(const group *g, const segment *s, int q)
{
    const run *r = g->own_run[q];
    int first = bias_first(g, r, 0) + bias_step(g) * (s->x - r->base);
    return entries_of(g, s, q) + first * g->pass->bias.axis[2];
}

static ptrdiff_t entry_step(const group *g)
{
    return bias_step(g) * (ptrdiff_t)g->pass->bias.axis[2];
}

/* Lanes whose entries differ: the least of them for the first partner, and by how many
 * each lane's is further, less than LANES, for windows begin in the order of their
 * owners. */
static int spread_of(const group *g, const run *r, ireal further[LANES])
{
    int least = bias_first(g, r, 0);
    for (int i = 1; i < LANES; i++)
        least = natten_min(least, bias_first(g, r, i));
    for (int i = 0; i < LANES; i++)
        further[i] = bias_first(g, r, i) - least;
    return least;
}

/* Scores of a segment become the bias. A line has the entries of all lanes, and zeros
 * where there is none: those are masked. */
static void fill_bias(const group *g, const segment *s, int q, int least, vidx further)
{
    int64_t step = g->pass->bias.axis[2];
    int64_t entries = 2 * (int64_t)g->pass->axis[2].window - 1;
    int t = s->x - g->own_run[q]->base;
    bool falls = g->pass->owner_is_key;
    int begin = falls ? least - t - (s->n - 1) : least + t;
    const real *row = entries_of(g, s, q);
    real line[PIECE + LANES], *to = g->s[q] + (ptrdiff_t)s->slot[q] * LANES;
    for (int k = 0; k < s->n + LANES; k++)
        line[k] = begin + k >= 0 && begin + k < entries ? row[(begin + k) * step] : 0;
    for (int k = 0; k < s->n; k++, to += LANES)
        v_store(to, v_pick(v_load(line + (falls ? s->n - 1 - k : k)), further));
}

static void put_bias(group *g)
{
    for (int q = 0; q < g->nq; q++) {
        ireal further[LANES];
        int least = spread_of(g, g->own_run[q], further);
        for (int k = 0; k < g->ns; k++)
            if (q >= g->list[k].lo && q < g->list[k].hi)
                fill_bias(g, &g->list[k], q, least, v_index(further));
    }
}

/* ---- the gradient ---------------------------------------------------------------- */

/* Entry 0 along x, in the item's slice, of row `row` of entries. */
static real *slice_row(const group *g, int64_t row)
{
    const natten_view *v = &g->pass->sums;
    int64_t rows = 2 * (int64_t)g->pass->axis[1].window - 1;
    return g->sums + row / rows * v->axis[0] + row % rows * v->axis[1];
}

static int64_t row_of(const group *g, const segment *s, int q)
{
    int64_t rows = 2 * (int64_t)g->pass->axis[1].window - 1;
    return bias_entry(g, 0, g->z[q], s->z) * rows + bias_entry(g, 1, g->y, s->y);
}

/* The sums of a pattern's lanes for a row of entries: [slot of the window][LANES]. */
static real *lane_sums(const group *g, int pattern, int64_t row)
{
    int64_t slots = g->pass->axis[2].window;
    size_t bytes = (size_t)pattern * g->pass->layout.bias_bytes;
    return (real *)(void *)(g->bias_sums + bytes) + row * slots * LANES;
}

/* Add the dS of a segment of query owners: vectors to those of their pattern, where
 * that has room, and else each lane's to the item's slice. */
static void add_segment(const group *g, const segment *s, int q)
{
    const run *r = g->own_run[q];
    int64_t row = row_of(g, s, q);
    int t = s->x - r->base;
    const real *from = g->t[q] + (ptrdiff_t)s->slot[q] * LANES;
    if (r->pattern >= 0) {
        real *to = lane_sums(g, r->pattern, row) + (ptrdiff_t)t * LANES;
        for (int k = 0; k < s->n * LANES; k += LANES)
            v_store(to + k, v_add(v_load(to + k), v_load(from + k)));
        return;
    }
    real *to = slice_row(g, row);
    int64_t step = g->pass->sums.axis[2];
    if (r->even && !r->ragged && r->n == LANES) {
        int first = bias_first(g, r, 0) + t;
        for (int k = 0; k < s->n; k++)
            to[(first + k) * step] += v_sum(v_load(from + (ptrdiff_t)k * LANES));
        return;
    }
    for (int i = 0; i < r->n; i++) {
        int first = bias_first(g, r, i) + t;
        for (int k = 0; k < s->n && (real)(t + k) < r->count[i]; k++)
            to[(first + k) * step] += from[(ptrdiff_t)k * LANES + i];
    }
}

static void add_to_bias(const group *g)
{
    for (int k = 0; k < g->ns; k++)
        for (int q = g->list[k].lo; q < g->list[k].hi; q++)
            add_segment(g, &g->list[k], q);
}

/* Runs whose lanes have the same entries are of one pattern; who sees nothing needs
 * none. */
static void find_patterns(group *g)
{
    const natten_cpu_pass *p = g->pass;
    g->pattern_count = 0;
    for (int k = 0; k < g->run_count; k++) {
        run *r = &g->runs[k];
        int pattern = 0;
        while (pattern < g->pattern_count &&
               (g->patterns[pattern]->n != r->n ||
                memcmp(g->patterns[pattern]->shift, r->shift, sizeof r->shift) != 0))
            pattern++;
        bool wanted = p->wants_sums && r->most > 0;
        if (pattern == g->pattern_count && wanted && pattern < p->patterns)
            g->patterns[g->pattern_count++] = r;
        r->pattern = pattern < g->pattern_count ? pattern : -1;
    }
    for (int pattern = 0; pattern < g->pattern_count; pattern++)
        memset(lane_sums(g, pattern, 0), 0, p->layout.bias_bytes);
}

/* At the end of an item its lanes' sums go to their entries. Of a lane that sees less
 * than a whole window, as where it is cut or lies beside the part's keys, some slots
 * have no entry: their sums are 0. */
static void fold_bias(const group *g)
{
    const natten_cpu_pass *p = g->pass;
    if (g->pattern_count == 0)
        return;
    int64_t slots = p->axis[2].window, entries = 2 * slots - 1;
    int64_t step = p->sums.axis[2];
    int64_t rows =
        (2 * (int64_t)p->axis[0].window - 1) * (2 * (int64_t)p->axis[1].window - 1);
    for (int pattern = 0; pattern < g->pattern_count; pattern++)
        for (int64_t row = 0; row < rows; row++) {
            const run *r = g->patterns[pattern];
            const real *from = lane_sums(g, pattern, row);
            real *to = slice_row(g, row);
            for (int i = 0; i < r->n; i++) {
                int64_t first = bias_first(g, r, i);
                int64_t t = first < 0 ? -first : 0;
                for (; t < slots && first + t < entries; t++)
                    to[(first + t) * step] += from[t * LANES + i];
            }
        }
}

#endif
