/* SPDX-License-Identifier: MIT
 *
 * Values of owners that follow one another on a line, each a step further than the one
 * before: OWNERS neighbours see the same partners but for a few at both ends.  Taken
 * together by the values kernel as if they were owner vectors of one lane, they share
 * rows that lanes of vectors so far apart would read each on its own, and what they
 * read of the weights stays in the nearest cache (bench/results, Zen 4).  The sums are
 * the same chains. */
#ifndef NATTEN_CPU_LINE_H
#define NATTEN_CPU_LINE_H

#if LANES < 2 * OWNERS /* else cpu_near.h */

/* Of fewer partners the ends take longer than what neighbours share saves. */
enum { LONG_LINE = 64 };

/* Are owner vectors full, and do all windows, of one row of partners and as long as one
 * another, move with their owners? */
static bool is_line(const group *g)
{
    const segment *first = g->list;
    if (LANES == 1 || g->in_extras || g->run->how != PLAIN || g->used[0] < LONG_LINE)
        return false;
    for (int q = 0; q < g->nq; q++)
        if (g->used[q] != g->used[0] || (q + 1 < g->nq && g->own_run[q]->n < LANES))
            return false;
    for (const segment *s = first; s < first + g->ns; s++)
        for (int q = s->lo; q < s->hi; q++)
            if (s->strip != first->strip || s->x - s->slot[q] != first->x + q * LANES)
                return false;
    return true;
}

/* What `many` neighbours see, n partners each: partners of the first, of the first two,
 * up to all, down to those of the last. From the first of them on. */
static int list_neighbours(values_piece *list, int n, int many, int64_t pitch)
{
    values_piece *s = list;
    for (int t = 0; t < n + many - 1; t += s++->n) {
        *s = (values_piece){.row = t * pitch,
                            .x = t,
                            .n = t == many - 1 ? n - t : 1,
                            .lo = natten_max(0, t - n + 1),
                            .hi = natten_min(many, t + 1)};
        for (int i = 0; i < many; i++)
            s->at[i] = (ptrdiff_t)(t - i) * LANES;
    }
    return (int)(s - list);
}

/* As values() (cpu_group.h), if it is a line. */
static bool values_of_near(group *g, real *const *weights, int which, real *const *to,
                           const destination *result)
{
    if (!is_line(g))
        return false;
    int64_t dim = g->pass->other[which].dim, padded = natten_cpu_padded(dim, LANES);
    int vectors = (int)(padded / LANES);
    int owners = (g->nq - 1) * LANES + g->own_run[g->nq - 1]->n;
    const real *rows = g->rows[which] + g->list[0].strip + g->list[0].x * dim;
    values_piece list[2 * OWNERS - 1];
    values_block o = {.list = list,
                      .pitch = dim,
                      .add = !g->first,
                      .lanes = 1,
                      .run = g->run,
                      .step = result ? result->step : 0};
    for (int i = 0; i < owners; i += OWNERS) {
        int many = natten_min(OWNERS, owners - i);
        cutting even = cut_columns(vectors, many, BUDGET);
        int step = next_columns(&even);
        if (i == 0 || many < OWNERS)
            o.count = list_neighbours(list, g->used[0], many, dim);
        o.streams =
            result && result->streams && step * LANES * sizeof(real) % CACHE_LINE == 0;
        for (int d = 0; d < vectors; d += step) {
            o.b = rows + i * dim + d * LANES;
            for (int k = 0; k < many; k++) {
                int q = (i + k) / LANES, lane = (i + k) % LANES;
                o.w[k] = weights[q] + lane;
                o.c[k] = to[q] + lane * padded + d * LANES;
                if (!result)
                    continue;
                o.result[k] = result->row[q] + lane * result->step +
                              d * LANES * (int64_t)sizeof(real);
                o.factor[k] = result->factor[q] + lane;
            }
            values_table[many - 1][natten_min(step, vectors - d) - 1](&o);
        }
    }
    return true;
}

#endif

#endif
