/* SPDX-License-Identifier: MIT
 *
 * What a group asks for ahead of time (cpu_wish.h): what it will write, and
 * what the next group, the next row of groups and the thread's next item pack.  Only
 * where a call's tensors are too large for the last level: nearer ones are asked for in
 * vain, and to ask costs a tenth of a small window. */
#ifndef NATTEN_CPU_AHEAD_H
#define NATTEN_CPU_AHEAD_H

/* Where tokens begin: a position, and the head after the cursor's. */
typedef struct spot {
    int z, y, x, head;
} spot;

static void want(group *g, const cursor *c, const natten_view *v, int64_t dim, spot o,
                 int n)
{
    if (n <= 0 || v->item != 1 || !c->data)
        return;
    int64_t each = (int64_t)natten_dtype_bytes(dtype_of(g));
    const char *from = at(c, o.z, o.y, o.x) + o.head * v->head * each;
    add_wish(&g->wishes, (wish){from, c->step[2], dim * each, n});
}

/* Of results that go past the caches nothing is read, but a store waits for its page as
 * well. Touched is a line behind each token, of the next head: one that is near would
 * have to leave again. Where few tokens share a page it costs more than it brings. */
static void want_pages(group *g, const cursor *c, int64_t dim, spot o, int n)
{
    enum { MANY = 8 };
    if (n <= 0 || !c->data || c->step[2] * MANY > PAGE_BYTES)
        return;
    const char *behind = at(c, o.z, o.y, o.x) + dim * (int64_t)sizeof(real);
    add_wish(&g->wishes, (wish){.from = behind, .step = c->step[2], .n = n});
}

/* Partner row (z, y) of head f from x on: what is packed, and the gradients that the
 * sums in its slot are for. */
static void want_partners(group *g, int z, int y, int f, int x, int n)
{
    const natten_cpu_pass *p = g->pass;
    const tag *old = &g->tags[slot_for(&p->strips, z, y, f)];
    for (int i = 0; i < 2; i++) {
        int64_t dim = p->other[i].dim;
        int64_t sums = dim * (int64_t)(sizeof(real) / natten_dtype_bytes(dtype_of(g)));
        want(g, &g->other[i], &p->other[i].view, dim, (spot){z, y, g->origin + x, f},
             n);
        natten_span mine = {g->width, g->width};
        if (g->shared_streams[i] && is_in(g->alone[0], old->z) &&
            is_in(g->alone[1], old->y))
            mine = in_strip(g, g->alone[2]);
        int before = natten_min(x + n, mine.begin), after = natten_max(x, mine.end);
        if (old->z < 0)
            continue;
        if (p->at_once) {
            want(g, &g->narrow[i], &p->narrow[i], dim,
                 (spot){old->z, old->y, g->origin + x, 0}, n);
            continue;
        }
        want(g, &g->shared[i], &p->shared[i], sums,
             (spot){old->z, old->y, g->origin + x, 0}, before - x);
        want(g, &g->shared[i], &p->shared[i], sums,
             (spot){old->z, old->y, g->origin + after, 0}, x + n - after);
        int from = natten_max(x, mine.begin);
        want_pages(g, &g->shared[i], dim, (spot){old->z, old->y, g->origin + from, 0},
                   natten_min(x + n, mine.end) - from);
    }
}

/* What the next groups pack: the partner rows that the next row of owners sees and this
 * one does not, shared out among the groups of this row. */
static void want_ahead(group *g, int z, int y, int r, int taken)
{
    const natten_cpu_pass *p = g->pass;
    bool down = y + 1 < g->hi[1];
    int next_z = down ? z : z + p->owners, next_y = down ? y + 1 : g->lo[1];
    if (next_z >= g->hi[0])
        return;
    int last = natten_min(next_z + p->owners, g->hi[0]) - 1;
    natten_span zs = {span_of(g, 0, next_z).begin, span_of(g, 0, last).end};
    natten_span ys = span_of(g, 1, next_y);
    if (down)
        ys.begin = natten_max(ys.begin, span_of(g, 1, y).end);
    else
        zs.begin = natten_max(zs.begin, span_of(g, 0, next_z - 1).end);
    int x = (int)((int64_t)g->width * r / g->run_count);
    int n = (int)((int64_t)g->width * (r + taken) / g->run_count) - x;
    for (int f = 0; f < p->fan; f++)
        for (int k = zs.begin; k < zs.end; k++)
            for (int j = ys.begin; j < ys.end; j++)
                want_partners(g, k, j, f, x, n);
}

/* What the next item's first group packs, shared out among the groups of this item. */
static void want_arrival(group *g)
{
    const group *to = g->next;
    const natten_cpu_pass *p = g->pass;
    if (!to || g->group >= g->groups)
        return;
    int last = natten_min(to->lo[0] + p->owners, to->hi[0]) - 1;
    natten_span zs = {span_of(to, 0, to->lo[0]).begin, span_of(to, 0, last).end};
    natten_span ys = span_of(to, 1, to->lo[1]);
    int64_t high = (ys.end - ys.begin) * p->fan, rows = (zs.end - zs.begin) * high;
    int64_t begin = rows * to->width * g->group / g->groups;
    int64_t end = rows * to->width * (g->group + 1) / g->groups;
    while (begin < end) {
        int64_t row = begin / to->width, x = begin % to->width;
        int n = (int)(to->width - x < end - begin ? to->width - x : end - begin);
        spot o = {zs.begin + (int)(row / high), ys.begin + (int)(row % high / p->fan),
                  to->origin + (int)x, (int)(row % p->fan)};
        for (int i = 0; i < 2; i++)
            want(g, &to->other[i], &p->other[i].view, p->other[i].dim, o, n);
        begin += n;
    }
}

/* Owners n of a row from x on, of the group's rows, of this item or the next: what is
 * read of them. */
static void want_owners(group *g, const group *of, int z, int nz, int y, int x, int n)
{
    const natten_cpu_pass *p = g->pass;
    for (int i = 0; i < 2; i++)
        for (int k = z; k < z + nz; k++) {
            int64_t dim = p->own[i].dim;
            if (i == 0 || p->kind != NATTEN_CPU_FORWARD)
                want(g, &of->own[i], &p->own[i].view, dim, (spot){k, y, x, 0}, n);
            if (i == 1 && p->kind != NATTEN_CPU_FORWARD && !p->owner_is_key)
                want(g, &of->out, &p->out, dim, (spot){k, y, x, 0}, n);
        }
}

/* The next group's owners. */
static void want_next(group *g, int z, int nz, int y, int r)
{
    if (r == g->run_count) {
        r = 0;
        if (++y == g->hi[1]) {
            y = g->lo[1];
            z += nz;
            nz = natten_min(g->pass->owners, g->hi[0] - z);
        }
    }
    const group *of = g;
    int x = nz > 0 ? g->runs[r].x : 0;
    if (nz <= 0) {
        of = g->next;
        if (!of)
            return;
        z = of->lo[0];
        y = of->lo[1];
        x = of->lo[2];
        nz = natten_min(g->pass->owners, of->hi[0] - z);
    }
    int most = nz == 1 ? LANES * g->pass->owners : LANES;
    want_owners(g, of, z, nz, y, x, natten_min(most, of->hi[2] - x));
}

/* What is written of this group's owners, and what is read for the groups that follow,
 * during the products with this group's partners. */
static void want_all(group *g, int z, int nz, int y, int r, int taken)
{
    const natten_cpu_pass *p = g->pass;
    if (!p->far)
        return;
    const run *first = g->own_run[0], *last = g->own_run[g->nq - 1];
    natten_span zs = {span_of(g, 0, g->z[0]).begin, span_of(g, 0, g->z[g->nq - 1]).end};
    natten_span ys = span_of(g, 1, y);
    int64_t products = (int64_t)(zs.end - zs.begin) * (ys.end - ys.begin) * p->fan *
                       (last->base + last->most - first->base) *
                       (p->kind == NATTEN_CPU_FORWARD ? 1 : 2);
    wish_nothing(&g->wishes, products);
    want_next(g, z, nz, y, r + taken);
    want_ahead(g, z, y, r, taken);
    want_arrival(g);
    for (int i = 0; i < 2; i++)
        for (int q = 0; q < g->nq; q++) {
            spot o = {g->z[q], y, g->own_run[q]->x, 0};
            int n = g->own_run[q]->n;
            if (!g->streams[i])
                want(g, &g->result[i], &p->result[i], p->own[i].dim, o, n);
            else if (p->kind != NATTEN_CPU_FORWARD)
                want_pages(g, &g->result[i], p->own[i].dim, o, n);
        }
}

#endif
