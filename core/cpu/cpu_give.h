/* SPDX-License-Identifier: MIT
 *
 * GRAD_ALL: a slot of the strips sums what the owners of an item give to a row of
 * partners (cpu_scatter.h); here these sums begin at 0 and go to the gradients.  Items
 * of different tiles give to the same partners, one run of the scheduler after the
 * other (cpu_share.h): the first of them stores, the others add. */
#ifndef NATTEN_CPU_GIVE_H
#define NATTEN_CPU_GIVE_H

/* Partners along an axis that no other item gives to, and those that none has given to
 * before this one: tiles that are neighbours share partners, and items whose tile is an
 * even one come first. */
static void find_rivals(group *g, int a, int tile, natten_span owners)
{
    natten_span all = {0, INT_MAX}, none = {0, 0};
    natten_span alone = {tile > 0 ? span_of(g, a, g->lo[a] - 1).end : 0,
                         g->hi[a] < owners.end ? span_of(g, a, g->hi[a]).begin
                                               : INT_MAX};
    bool stores = g->pass->stores && g->head % g->pass->share == 0;
    g->fresh[a] = !stores ? none : tile % 2 == 0 ? all : alone;
    g->alone[a] = stores && g->pass->share == 1 ? alone : none;
}

/* Do results go past the caches? Where the last of them does not hold the call's
 * tensors they would be gone before anybody reads them, but each line would have been
 * read. */
static bool is_streamed(const group *g, const natten_view *v, const cursor *c,
                        int64_t dim)
{
    int64_t steps = c->step[0] | c->step[1] | c->step[2];
    uintptr_t first = (uintptr_t)(c->data + c->offset);
    return V_STREAMS && g->pass->far && v->data &&
           format_of(dtype_of(g), v->item) == DIRECT &&
           dim * (int64_t)sizeof(real) % CACHE_LINE == 0 && steps % CACHE_LINE == 0 &&
           first % CACHE_LINE == 0;
}

enum how { ADD, STORE, STREAM };

/* Sums [n][head dim in whole vectors] go to gradient i of tokens from `to` on: added to
 * what is there, or as the first of their shares, or as all of them. */
INLINE void give_tokens(const group *g, int i, const enum how how, char *to,
                        const real *sum, int n)
{
    const natten_cpu_pass *p = g->pass;
    int64_t dim = p->other[i].dim, item = p->shared[i].item;
    int64_t padded = natten_cpu_padded(dim, LANES);
    real factor = (real)p->shared_factor[i];
    for (int x = 0; x < n; x++, to += g->shared[i].step[2], sum += padded) {
        real *token = (real *)(void *)to;
        int64_t d = 0;
        for (; item == 1 && d + LANES <= dim; d += LANES) {
            vec r = v_add(how == ADD ? v_load(token + d) : v_zero(),
                          v_mul(v_all(factor), v_load(sum + d)));
            if (how == STREAM)
                v_stream(token + d, r);
            else
                v_store(token + d, r);
        }
        for (; d < dim; d++)
            token[d * item] = (how == ADD ? token[d * item] : 0) + factor * sum[d];
    }
}

static bool is_in(natten_span s, int i)
{
    return i >= s.begin && i < s.end;
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
    return first && is_in(g->fresh[0], z) && is_in(g->fresh[1], y);
}

/* Sums of a row, which are all that it gets, become its gradient. */
static void round_sums(const group *g, int i, const tag *k, const real *sum)
{
    const natten_cpu_pass *p = g->pass;
    int64_t padded = natten_cpu_padded(p->other[i].dim, LANES);
    real factor[LANES];
    v_store(factor, v_all((real)p->shared_factor[i]));
    for (int x = 0; x < g->width; x += LANES, sum += LANES * padded) {
        tokens t = {.step = g->narrow[i].step[2],
                    .item = p->narrow[i].item,
                    .dim = p->other[i].dim,
                    .dtype = dtype_of(g),
                    .n = natten_min(LANES, g->width - x)};
        unpack(&t, at(&g->narrow[i], k->z, k->y, g->origin + x), sum, factor);
    }
}

/* A span of positions as one of a strip's. */
static natten_span in_strip(const group *g, natten_span s)
{
    natten_span all = {g->origin, g->origin + g->width};
    s = natten_span_clamp(s, all);
    return (natten_span){s.begin - g->origin, s.end - g->origin};
}

/* GRAD_ALL: what a slot of the strips has summed goes to the gradients of its row. */
static void give_sums(group *g, int slot)
{
    const natten_cpu_pass *p = g->pass;
    const tag *k = &g->tags[slot];
    if (k->z < 0 || p->kind != NATTEN_CPU_GRAD_ALL)
        return;
    bool first = is_fresh(g, k->z, k->y);
    bool alone = first && is_in(g->alone[0], k->z) && is_in(g->alone[1], k->y);
    natten_span none = {0, 0}, fresh = first ? in_strip(g, g->fresh[2]) : none;
    for (int i = 0; i < 2; i++) {
        int64_t padded = natten_cpu_padded(p->other[i].dim, LANES);
        int64_t step = g->shared[i].step[2];
        if (!p->shared[i].data)
            continue;
        const real *sum = g->strips + slot * p->strips.strip.elements;
        sum += p->strips.strip.sums[i];
        if (p->at_once) {
            round_sums(g, i, k, sum);
            continue;
        }
        char *to = at(&g->shared[i], k->z, k->y, g->origin);
        natten_span mine = {fresh.begin, fresh.begin};
        if (alone && g->shared_streams[i])
            mine = in_strip(g, g->alone[2]);
#define GIVE(how, from, end) \
    give_tokens(g, i, how, to + (from)*step, sum + (from)*padded, (end) - (from))
        GIVE(ADD, 0, fresh.begin);
        GIVE(STORE, fresh.begin, mine.begin);
        GIVE(STREAM, mine.begin, mine.end);
        GIVE(STORE, mine.end, fresh.end);
        GIVE(ADD, fresh.end, g->width);
#undef GIVE
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
