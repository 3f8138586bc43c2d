/* SPDX-License-Identifier: MIT
 *
 * GRAD_ALL: a slot of the strips sums what the owners of an item give to a row of
 * partners (cpu_scatter.h); here these sums begin at 0 and go to the gradients.  Items
 * of different tiles give to the same partners, one run of the scheduler after the
 * other (cpu_share.h): the first of them stores, the others add. */
#ifndef NATTEN_CPU_GIVE_H
#define NATTEN_CPU_GIVE_H

/* Items whose tile along an axis is an even one come first, and an odd tile shares
 * partners with both of its neighbours. So nobody has given to what they don't see. */
static natten_span find_fresh(const group *g, int a, int tile, natten_span owners)
{
    natten_span fresh = {0, INT_MAX};
    if (!g->pass->stores || g->head % g->pass->share > 0)
        return (natten_span){0, 0};
    if (tile % 2 == 0)
        return fresh;
    fresh.begin = span_of(g, a, g->lo[a] - 1).end;
    if (g->hi[a] < owners.end)
        fresh.end = span_of(g, a, g->hi[a]).begin;
    return fresh;
}

/* Sums [n][head dim in whole vectors] go to gradient i of tokens from `to` on: added to
 * what is there, or as the first of their shares. */
INLINE void give_tokens(const group *g, int i, const bool add, char *to,
                        const real *sum, int n)
{
    const natten_cpu_pass *p = g->pass;
    int64_t dim = p->other[i].dim, item = p->shared[i].item;
    int64_t padded = natten_cpu_padded(dim, LANES);
    real factor = (real)p->shared_factor[i];
    for (int x = 0; x < n; x++, to += g->shared[i].step[2], sum += padded) {
        real *token = (real *)(void *)to;
        int64_t d = 0;
        for (; item == 1 && d + LANES <= dim; d += LANES)
            v_store(token + d, v_add(add ? v_load(token + d) : v_zero(),
                                     v_mul(v_all(factor), v_load(sum + d))));
        for (; d < dim; d++)
            token[d * item] = (add ? token[d * item] : 0) + factor * sum[d];
    }
}

/* Does nobody give to partner row (z, y) before this item's first time, which is now?
 */
static bool is_fresh(const group *g, int z, int y)
{
    natten_span zs = {span_of(g, 0, g->lo[0]).begin, 0};
    natten_span ys = {span_of(g, 1, g->lo[1]).begin, span_of(g, 1, g->hi[1] - 1).end};
    char *given = &g->given[(z - zs.begin) * (ys.end - ys.begin) + y - ys.begin];
    bool first = !*given;
    *given = 1;
    return first && z >= g->fresh[0].begin && z < g->fresh[0].end &&
           y >= g->fresh[1].begin && y < g->fresh[1].end;
}

/* GRAD_ALL: what a slot of the strips has summed goes to the gradients of its row. */
static void give_sums(group *g, int slot)
{
    const natten_cpu_pass *p = g->pass;
    const tag *k = &g->tags[slot];
    if (k->z < 0 || p->kind != NATTEN_CPU_GRAD_ALL)
        return;
    natten_span all = {0, g->width}, fresh = {0, 0};
    if (is_fresh(g, k->z, k->y))
        fresh = natten_span_clamp(
            (natten_span){natten_max(0, g->fresh[2].begin - g->origin),
                          g->fresh[2].end - g->origin},
            all);
    for (int i = 0; i < 2; i++) {
        int64_t padded = natten_cpu_padded(p->other[i].dim, LANES);
        int64_t step = g->shared[i].step[2];
        if (!p->shared[i].data)
            continue;
        const real *sum = g->strips + slot * p->strips.strip.elements;
        sum += p->strips.strip.sums[i];
        char *to = at(&g->shared[i], k->z, k->y, g->origin);
        give_tokens(g, i, true, to, sum, fresh.begin);
        give_tokens(g, i, false, to + fresh.begin * step, sum + fresh.begin * padded,
                    fresh.end - fresh.begin);
        give_tokens(g, i, true, to + fresh.end * step, sum + fresh.end * padded,
                    g->width - fresh.end);
    }
}

static void clear_sums(group *g, int slot)
{
    const natten_cpu_strip *form = &g->pass->strips.strip;
    real *strip = g->strips + slot * form->elements;
    for (int i = 0; i < 2; i++)
        if (g->pass->shared[i].data) {
            int64_t padded = natten_cpu_padded(g->pass->other[i].dim, LANES);
            memset(strip + form->sums[i], 0,
                   (size_t)(padded * g->width) * sizeof(real));
        }
}

#endif
