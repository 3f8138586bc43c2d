/* SPDX-License-Identifier: MIT
 *
 * A group: up to OWNERS owner vectors that go through their windows together.  Partner
 * rows are listed as segments until the scores of a chunk are full; flush()
 * (cpu_forward.h, cpu_backward.h) then computes with all that is listed.  Here: the
 * group's memory, the strips of partners that it packs when they are first needed, and
 * the list.             */
#ifndef NATTEN_CPU_GROUP_H
#define NATTEN_CPU_GROUP_H

/* Addresses of the tokens of one batch item, head and residue class, by position. */
typedef struct cursor {
    char *data;              /* NULL: the tensor is not there */
    int64_t offset, step[3]; /* bytes */
} cursor;

/* Which partner row a slot of the strips holds, and the flush that last listed it. */
typedef struct tag {
    int32_t z, y, f, epoch;
} tag;

typedef struct group {
    const natten_cpu_pass *pass;
    int64_t batch, head;
    real *sums; /* the item's slice of a sum, NULL: none */
    natten_class axis[3];
    int lo[3], hi[3];  /* owners of the tile */
    int origin, width; /* partners of the strips along x */
    cursor own[2], own_row[2], other[2], other_row[2], result[2];
    cursor out, lse, grad_lse, delta; /* of queries as owners */

    real *strips, *extra_strips;
    ptrdiff_t strip_elements;
    tag *tags;
    int32_t epoch;
    run *runs,
        everyone; /* everyone: partners that each lane sees alike, the extra tokens */
    int run_count;

    int nq, ns, used[OWNERS], z[OWNERS], y;
    const run *own_run[OWNERS], *run; /* run: whose idx the kernels use */
    const real *b[2];                 /* the strips in use */
    ptrdiff_t pitch;
    bool in_extras;     /* the partners listed are extra tokens */
    bool extras_packed; /* all of them, for this item */
    bool first;         /* the sums hold nothing yet */
    bool stopped;       /* by the cancel callback: the item is left undone */
    bool hollow;        /* some query has lse = -inf: no gradient comes from it */
    real *a[2][OWNERS], *s[OWNERS], *t[OWNERS], *c[2][OWNERS];
    vec top[OWNERS], sum[OWNERS];
    segment *list;
} group;

_Static_assert(sizeof(segment) <= NATTEN_CPU_SEGMENT_BYTES,
               "cpu_tile.c counts with it");

static void flush(group *g);

static inline char *at(const cursor *c, int z, int y, int x)
{
    return c->data + (c->offset + z * c->step[0] + y * c->step[1] + x * c->step[2]);
}

static natten_dtype dtype_of(const group *g)
{
    return g->pass->task->dtype;
}

/* The partners that position i of an axis sees. */
static natten_span span_of(const group *g, int a, int i)
{
    return g->pass->owner_is_key ? natten_class_queries(&g->axis[a], i)
                                 : natten_class_keys(&g->axis[a], i);
}

static cursor make_cursor(const group *g, const natten_view *v, size_t bytes,
                          int64_t head, bool of_keys)
{
    cursor c = {.data = v->data, .offset = g->batch * v->batch + head * v->head};
    for (int a = 0; a < 3; a++) {
        const natten_class *k = &g->axis[a];
        int64_t dilation = g->pass->axis[a].dilation;
        int64_t first = of_keys ? k->keys.begin : k->queries.begin;
        int64_t index = of_keys ? k->key_index : k->query_index;
        c.step[a] = v->axis[a] * dilation * (int64_t)bytes;
        c.offset += (index - first * dilation) * v->axis[a];
    }
    c.offset *= (int64_t)bytes;
    return c;
}

/* ---- partners -------------------------------------------------------------------- */

/* A query with lse = -inf gives no gradient: its columns become 0, and flush() its
 * scores. */
static void hollow_out(group *g, real *to, ptrdiff_t pitch, int n)
{
    const natten_cpu_operand *query =
        g->pass->owner_is_key ? g->pass->other : g->pass->own;
    const real *row = to + query[0].dim * pitch;
    int64_t rows = natten_cpu_rows(&query[0]);
    for (int x = 0; x < n; x++)
        if (row[x] == (real)INFINITY) {
            g->hollow = true;
            for (int64_t d = 0; d < query[0].dim; d++)
                to[d * pitch + x] = 0;
            for (int64_t d = 0; d < query[1].dim; d++)
                to[(rows + d) * pitch + x] = 0;
        }
}

/* One more row of the head dim: a scalar per token, or ones. */
static void pack_extra_row(real *to, const natten_cpu_operand *o, const char *row,
                           int64_t step, int n)
{
    if (!o->has_row)
        return;
    if (row)
        pack_row(to, row, step, n, -1);
    else
        for (int x = 0; x < n; x++)
            to[x] = 1;
}

/* The strip of partner row (z, y) of head f: both operands, one under the other. */
static void pack_strip(group *g, real *to, int z, int y, int f)
{
    const natten_cpu_pass *p = g->pass;
    int64_t bytes = (int64_t)natten_dtype_bytes(dtype_of(g));
    real *at_row = to;
    for (int i = 0; i < 2; i++) {
        const natten_cpu_operand *o = &p->other[i];
        tokens t = {at(&g->other[i], z, y, g->origin) + f * o->view.head * bytes,
                    g->other[i].step[2],
                    o->view.item,
                    o->dim,
                    dtype_of(g),
                    g->width};
        pack(at_row, g->pitch, &t, (real)o->factor);
        const char *row = NULL;
        if (o->row.data)
            row = at(&g->other_row[i], z, y, g->origin) +
                  f * o->row.head * (int64_t)sizeof(real);
        pack_extra_row(at_row + o->dim * g->pitch, o, row, g->other_row[i].step[2],
                       g->width);
        at_row += natten_cpu_rows(o) * g->pitch;
    }
    if (p->owner_is_key)
        hollow_out(g, to, g->pitch, g->width);
}

/* The slot of a partner row, packed if it holds another one. */
static int slot_of(group *g, int z, int y, int f)
{
    const natten_cpu_strips *s = &g->pass->strips;
    int slot = (z % s->depth * s->high + y % s->high) * s->fan + f % s->fan;
    tag *k = &g->tags[slot];
    if (k->z != z || k->y != y || k->f != f) {
        if (g->ns > 0 && k->epoch == g->epoch)
            flush(g); /* the listed segments still need what lies there */
        pack_strip(g, g->strips + slot * g->strip_elements, z, y, f);
        *k = (tag){z, y, f, g->epoch};
    }
    return slot;
}

/* Extra tokens m .. m + n - 1 as partners. */
static void pack_extras(group *g, int64_t m, int n)
{
    const natten_cpu_pass *p = g->pass;
    natten_dtype dtype = dtype_of(g);
    int64_t bytes = (int64_t)natten_dtype_bytes(dtype);
    real *to = g->extra_strips;
    for (int i = 0; i < 2; i++) {
        const natten_cpu_operand *o = &p->extra[i];
        const natten_view *v = &o->view;
        int64_t offset =
            g->batch * v->batch + m * v->axis[2] + g->head / p->share * v->head;
        tokens t = {(const char *)v->data + offset * bytes,
                    v->axis[2] * bytes,
                    v->item,
                    o->dim,
                    dtype,
                    n};
        pack(to, p->extra_pitch, &t, (real)o->factor);
        pack_extra_row(to + o->dim * p->extra_pitch, o, NULL, 0, n);
        to += natten_cpu_rows(o) * p->extra_pitch;
    }
}

/* ---- the list -------------------------------------------------------------------- */

/* Owners that see position p, the first position where that changes, and how many
 * scores they have room for. */
typedef struct cut {
    int lo, hi, next, room;
} cut;

static cut cut_at(const group *g, int p, const int *from, const int *end)
{
    cut c = {-1, 0, INT_MAX, NATTEN_CPU_SLOTS};
    for (int q = 0; q < g->nq; q++) {
        if (from[q] <= p && p < end[q]) {
            c.lo = c.lo < 0 ? q : c.lo;
            c.hi = q + 1;
            c.next = natten_min(c.next, end[q]);
            c.room = natten_min(c.room, NATTEN_CPU_SLOTS - g->used[q]);
        } else if (from[q] > p && end[q] > from[q]) {
            c.next = natten_min(c.next, from[q]);
        }
    }
    return c;
}

/* Owner q sees partners from[q] .. end[q] - 1 of row (z, y) of head f: list them, cut
 * where the set of owners changes. Forward never runs out of room in here (cpu_tile.c):
 * there a flush is a step of the softmax, and its place decides bits. */
static void list_row(group *g, int z, int y, int f, const int *from, const int *end)
{
    int p = INT_MAX;
    for (int q = 0; q < g->nq; q++)
        if (end[q] > from[q])
            p = natten_min(p, from[q]);
    if (p == INT_MAX)
        return;
    int slot = slot_of(g, z, y, f);
    while (p < INT_MAX) {
        cut c = cut_at(g, p, from, end);
        if (c.lo >= 0) {
            if (c.room == 0 || g->ns == NATTEN_CPU_SEGMENTS) {
                flush(g);
                continue;
            }
            c.next = natten_min(c.next, p + c.room);
            segment *s = &g->list[g->ns++];
            *s = (segment){
                slot * g->strip_elements + p, c.next - p, c.lo, c.hi, p, z, y, f, {0}};
            for (int q = c.lo; q < c.hi; q++) {
                s->slot[q] = g->used[q];
                g->used[q] += c.next - p;
            }
            g->tags[slot].epoch = g->epoch;
        }
        p = c.next;
    }
}

/* ---- products over the list ------------------------------------------------------ */

/* Scores of lanes whose window has ended. */
static void mask_scores(group *g, const segment *s, real *const *to, real value)
{
    int t = s->x - g->run->base;
    vec count = v_load(g->run->count);
    for (int q = s->lo; q < s->hi; q++)
        for (int r = natten_max(0, g->run->least - t); r < s->n; r++) {
            real *x = to[q] + (ptrdiff_t)(s->slot[q] + r) * LANES;
            v_store(x, v_if_more(count, v_all((real)(t + r)), v_load(x), v_all(value)));
        }
}

/* Panel `which` times strip `which` for all that is listed, added to what `to` holds or
 * not; lanes past their window get `masked`. */
static void logits(group *g, int which, real *const *to, bool add, real masked)
{
    kernel *const(*table)[BLOCK] =
        g->run->plain ? logits_plain_table : logits_pick_table;
    int rows = (int)natten_cpu_rows(&g->pass->own[which]);
    for (int k = 0; k < g->ns; k++) {
        const segment *s = &g->list[k];
        int nq = s->hi - s->lo, step = block_columns(s->n, nq);
        for (int p = 0; p < s->n; p += step) {
            segment one = {.b = s->b + p, .n = rows, .hi = nq};
            real *c[OWNERS];
            for (int q = 0; q < nq; q++)
                c[q] = to[s->lo + q] + (ptrdiff_t)(s->slot[s->lo + q] + p) * LANES;
            const operands o = {
                &one,        1,        (const real *const *)g->a[which] + s->lo,
                g->b[which], g->pitch, c,
                add,         g->run};
            table[nq - 1][natten_min(step, s->n - p) - 1](&o);
        }
        if (g->run->ragged)
            mask_scores(g, s, to, masked);
    }
}

/* Weights times strip `which`, added to the sums `to`. */
static void values(group *g, real *const *weights, int which, real *const *to)
{
    int64_t dim = g->pass->own[which].dim;
    if (g->pass->kind == NATTEN_CPU_FORWARD)
        dim = g->pass->other[which].dim;
    int step = block_columns(dim, g->nq);
    kernel *const(*table)[BLOCK] = g->run->plain    ? values_plain_table
                                   : g->run->ragged ? values_mask_table
                                                    : values_pick_table;
    for (int64_t d = 0; d < dim; d += step) {
        real *c[OWNERS];
        for (int q = 0; q < g->nq; q++)
            c[q] = to[q] + d * LANES;
        const operands o = {g->list,
                            g->ns,
                            (const real *const *)weights,
                            g->b[which] + d * g->pitch,
                            g->pitch,
                            c,
                            !g->first,
                            g->run};
        table[g->nq - 1][(dim - d < step ? dim - d : step) - 1](&o);
    }
}

#endif
