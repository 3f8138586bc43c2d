/* SPDX-License-Identifier: MIT
 *
 * GRAD_ALL: a slot of the strips sums what the owners of an item give to a row of
 * partners (cpu_scatter.h); here these sums begin at 0 and go to the gradients.  Items
 * of different tiles give to the same partners, plane by plane in their order
 * (cpu_share.h): the first of them stores, the others add. */
#ifndef NATTEN_CPU_GIVE_H
#define NATTEN_CPU_GIVE_H

/* Tiles along an axis with owners that see some of the partners. */
static natten_span tiles_at(const group *g, int a, natten_span partners)
{
    const natten_class *c = &g->axis[a];
    int first = natten_class_queries(c, partners.begin).begin;
    int last = natten_class_queries(c, partners.end - 1).end - 1;
    return (natten_span){(first - c->queries.begin) / g->pass->tile[a],
                         (last - c->queries.begin) / g->pass->tile[a] + 1};
}

/* Partners along an axis that no other item gives to, and those that none has given to
 * before this one: tiles that are neighbours share partners, and the last one comes
 * first along axis 0, along the others those whose number is even. */
static void find_rivals(group *g, int a, int tile)
{
    const natten_cpu_pass *p = g->pass;
    int begin = tile > 0 ? span_of(g, a, g->lo[a] - 1).end : 0;
    int end =
        g->hi[a] < g->axis[a].queries.end ? span_of(g, a, g->hi[a]).begin : INT_MAX;
    natten_span none = {0, 0}, fresh = {0, INT_MAX};
    natten_span alone = {begin, natten_max(begin, end)};
    if (a == 0)
        fresh.end = end;
    else if (tile % 2 == 1)
        fresh = alone;
    else if (tile > 0)
        fresh.begin = span_of(g, a, g->lo[a] - p->tile[a] - 1).end;
    bool stores = p->stores && g->head % p->share == 0;
    g->fresh[a] = stores ? fresh : none;
    g->alone[a] = stores && p->share == 1 ? alone : none;
    g->place.tile[a] = tile;
    g->place.rivals[a] = tiles_at(
        g, a,
        (natten_span){span_of(g, a, g->lo[a]).begin, span_of(g, a, g->hi[a] - 1).end});
}

/* Wait until the items before this one have given what they give to plane z and those
 * before it; false if the run has been stopped. */
static bool await_turn(group *g, int z)
{
    if (!g->pass->progress)
        return true;
    for (; g->awaited <= z && !g->stopped; g->awaited++) {
        g->place.rivals[0] = tiles_at(g, 0, (natten_span){g->awaited, g->awaited + 1});
        g->stopped = !natten_cpu_share_await(g->pass, &g->place, g->awaited);
    }
    return !g->stopped;
}

/* Do results go past the caches? Where the last of them does not hold the call's
 * tensors (forward of fp64: hardly does) they would be gone before anybody reads them,
 * but each line would have been read. */
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
    if (k->z < 0 || p->kind != NATTEN_CPU_GRAD_ALL || !await_turn(g, k->z))
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

static void begin_planes(group *g)
{
    g->awaited = span_of(g, 0, g->lo[0]).begin;
    if (g->pass->progress)
        natten_cpu_share_report(g->pass, &g->place, g->awaited);
}

/* The owners from `next` on are left. Of planes that they do not see, what slots have
 * summed goes to the gradients, where others may add theirs; without others it goes
 * when slots are needed again, between products, and here at the end. */
static void leave_planes(group *g, int next)
{
    const natten_cpu_pass *p = g->pass;
    bool ends = next == g->hi[0];
    int plane = ends ? span_of(g, 0, g->hi[0] - 1).end : span_of(g, 0, next).begin;
    if (p->kind != NATTEN_CPU_GRAD_ALL || !(ends || p->progress))
        return;
    for (int i = p->strips.depth * p->strips.high * p->strips.fan - 1; i >= 0; i--)
        if (g->tags[i].z >= 0 && g->tags[i].z < plane) {
            give_sums(g, i);
            g->tags[i].z = -1;
        }
    if (p->progress && await_turn(g, plane - 1))
        natten_cpu_share_report(p, &g->place, plane);
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
