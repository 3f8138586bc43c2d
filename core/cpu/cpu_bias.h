/* SPDX-License-Identifier: MIT
 *
 * The relative position bias: scores hold it before products are added, and its
 * gradient is the sum of dS. The entry of a pair is, per axis, key position - query
 * position + window - 1.  Where all lanes of a run have the same offset, as everywhere
 * but at borders and with stride, a slot of scores has one entry. */
#ifndef NATTEN_CPU_BIAS_H
#define NATTEN_CPU_BIAS_H

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
    return shift + g->pass->axis[2].window - 1;
}

static inline int bias_step(const group *g)
{
    return g->pass->owner_is_key ? -1 : 1;
}

/* Fill the scores of a segment with the bias. */
static void fill_bias(const group *g, const segment *s, int q)
{
    const natten_view *v = &g->pass->bias;
    const run *r = g->own_run[q];
    int64_t head = g->head * g->pass->fan + s->f;
    const real *row = (const real *)v->data + head * v->head +
                      bias_entry(g, 0, g->z[q], s->z) * v->axis[0] +
                      bias_entry(g, 1, g->y, s->y) * v->axis[1];
    int t = s->x - r->base, step = bias_step(g);
    real *to = g->s[q] + (ptrdiff_t)s->slot[q] * LANES;
    if (r->even && !r->ragged) {
        int first = bias_first(g, r, 0) + step * t;
        for (int k = 0; k < s->n; k++)
            v_store(to + (ptrdiff_t)k * LANES,
                    v_all(row[(first + step * k) * v->axis[2]]));
        return;
    }
    for (int i = 0; i < LANES; i++) {
        int first = bias_first(g, r, i) + step * t;
        for (int k = 0; k < s->n; k++)
            to[(ptrdiff_t)k * LANES + i] =
                (real)(t + k) < r->count[i] ? row[(first + step * k) * v->axis[2]] : 0;
    }
}

static void put_bias(group *g)
{
    for (int k = 0; k < g->ns; k++)
        for (int q = g->list[k].lo; q < g->list[k].hi; q++)
            fill_bias(g, &g->list[k], q);
}

/* Add the dS of a segment of query owners to the item's slice. */
static void add_segment(const group *g, const segment *s, int q)
{
    const natten_view *v = &g->pass->sums;
    const run *r = g->own_run[q];
    real *row = g->sums + bias_entry(g, 0, g->z[q], s->z) * v->axis[0] +
                bias_entry(g, 1, g->y, s->y) * v->axis[1];
    int t = s->x - r->base;
    const real *from = g->t[q] + (ptrdiff_t)s->slot[q] * LANES;
    if (r->even && !r->ragged && r->n == LANES) {
        int first = bias_first(g, r, 0) + t;
        for (int k = 0; k < s->n; k++)
            row[(first + k) * v->axis[2]] += v_sum(v_load(from + (ptrdiff_t)k * LANES));
        return;
    }
    for (int i = 0; i < r->n; i++) {
        int first = bias_first(g, r, i) + t;
        for (int k = 0; k < s->n && (real)(t + k) < r->count[i]; k++)
            row[(first + k) * v->axis[2]] += from[(ptrdiff_t)k * LANES + i];
    }
}

static void add_to_bias(const group *g)
{
    for (int k = 0; k < g->ns; k++)
        for (int q = g->list[k].lo; q < g->list[k].hi; q++)
            add_segment(g, &g->list[k], q);
}

#endif
