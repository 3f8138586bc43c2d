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

/* The list of a group that needed one flush alone: the next group of the row sees the
 * same partner rows, each as long, from another position on. */
typedef struct listed {
    int segments, nq, most; /* 0: there is none; owners; their windows */
    int used[OWNERS];
} listed;

typedef struct group {
    const natten_cpu_pass *pass;
    const struct group *next; /* where the next item lies, no more; NULL: unknown */
    int groups, group;        /* of this item, and which of them is under way */
    int64_t batch, head;
    real *sums; /* the item's slice of a sum, NULL: none */
    int64_t unit_bytes;
    natten_class axis[3];
    int lo[3], hi[3]; /* owners of the tile */
    /* GRAD_ALL: partners to whose gradients no item has given before this one, */
    natten_span fresh[3], alone[3]; /* and those that no other item gives to; */
    natten_cpu_place place;         /* who the others are, */
    int awaited;                    /* and the first plane that may not be given to */
    int origin, width;              /* partners of the strips along x */
    cursor own[2], own_row[2], other[2], other_row[2], result[2], shared[2], narrow[2];
    cursor out, lse, grad_lse, delta;   /* of queries as owners */
    bool streams[2], shared_streams[2]; /* results go past the caches */

    real *strips, *extra_strips;
    tag *tags;
    char *given; /* GRAD_ALL: has the item given to a row? [z, y] of its tile */
    int32_t epoch;
    run *runs,
        everyone; /* everyone: partners that each lane sees alike, the extra tokens */
    int run_count;
    char *bias_sums; /* of each pattern of runs that has some: cpu_bias.h */
    const run *patterns[NATTEN_CPU_PATTERNS];
    int pattern_count;

    int nq, ns, used[OWNERS], z[OWNERS], y;
    listed listed;
    const run *own_run[OWNERS], *run; /* run: whose idx the kernels use */
    const natten_cpu_strip *strip;    /* the form of the strips in use, */
    const real *columns[2], *rows[2]; /* and what the first of them holds */
    bool small;                       /* half of the lanes hold each owner vector */
    bool in_extras;                   /* the partners listed are extra tokens */
    bool extras_packed;               /* all of them, for this item */
    bool first;                       /* the sums hold nothing yet */
    bool last;                        /* no partner comes after those listed */
    bool split;                       /* of a row perhaps not all is listed */
    bool stored;                      /* values() has stored the results */
    bool stopped; /* by the cancel callback: the item is left undone */
    bool hollow;  /* some query has lse = -inf: no gradient comes from it */
    real *a[2][OWNERS], *s[OWNERS], *t[OWNERS], *c[2][OWNERS];
    real *own_rows[2][OWNERS]; /* GRAD_ALL: the panels' tokens as [lane][head dim] */
    reach reach;
    wishes wishes;
    vec top[OWNERS], sum[OWNERS];
    segment *list;
} group;

_Static_assert(sizeof(segment) <= NATTEN_CPU_SEGMENT_BYTES,
               "cpu_tile.c counts with it");

/* Most partners of a segment, and the rows of a stretch of the list: more than the
 * nearest cache holds, for with each stretch the sums of all lanes come and go, which
 * costs more than rows from the second one (bench/results, Zen 4); no more pieces than
 * the stack is to hold. */
enum { PIECE = 64, STRETCH_BYTES = 64 << 10, STRETCH_PIECES = 64 };

_Static_assert((int)PIECE + (int)LANES <= (int)MOST_REACH,
               "cpu_scatter.h has room for the partners of all lanes");

static void flush(group *g);
static bool is_biased(const group *g); /* cpu_bias.h */
static void put_bias(group *g);
static const real *entry_of(const group *g, const segment *s, int q);
static ptrdiff_t entry_step(const group *g);
static void give_sums(group *g, int slot); /* cpu_give.h */
static void clear_sums(group *g, int slot);
static bool values_of_near(group *g, real *const *weights, int which, real *const *to,
                           const destination *result); /* cpu_near.h, cpu_line.h */

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

/* A query with lse = -inf gives no gradient: its columns become 0, its rows too if they
 * are there, and flush() its scores. */
static void hollow_out(group *g, real *const columns[2], ptrdiff_t pitch,
                       real *const rows[2], int n)
{
    const natten_cpu_operand *query =
        g->pass->owner_is_key ? g->pass->other : g->pass->own;
    const real *row = columns[0] + query[0].dim * pitch;
    for (int x = 0; x < n; x++) {
        if (row[x] != (real)INFINITY)
            continue;
        g->hollow = true;
        for (int i = 0; i < 2; i++) {
            for (int64_t d = 0; d < query[i].dim; d++)
                columns[i][d * pitch + x] = 0;
            for (int64_t d = 0; rows && d < query[i].dim; d++)
                rows[i][x * query[i].dim + d] = 0;
        }
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

/* Where operand i lies in a strip, as columns and as rows; NULL: it does not. */
static real *columns_of(real *strip, const natten_cpu_operand *o,
                        const natten_cpu_strip *form, int i)
{
    return o[i].as_columns ? strip + form->columns[i] : NULL;
}

static real *rows_of(real *strip, const natten_cpu_operand *o,
                     const natten_cpu_strip *form, int i)
{
    return o[i].as_rows ? strip + form->rows[i] : NULL;
}

/* The strip of partner row (z, y) of head f. */
static void pack_strip(group *g, real *strip, int z, int y, int f)
{
    const natten_cpu_pass *p = g->pass;
    const natten_cpu_strip *form = &p->strips.strip;
    int64_t bytes = (int64_t)natten_dtype_bytes(dtype_of(g));
    real *columns[2], *rows[2];
    for (int i = 0; i < 2; i++) {
        const natten_cpu_operand *o = &p->other[i];
        columns[i] = columns_of(strip, p->other, form, i);
        rows[i] = rows_of(strip, p->other, form, i);
        tokens t = {at(&g->other[i], z, y, g->origin) + f * o->view.head * bytes,
                    g->other[i].step[2],
                    o->view.item,
                    o->dim,
                    dtype_of(g),
                    g->width};
        pack(columns[i], form->pitch, rows[i], &t, (real)o->factor);
        const char *row = NULL;
        if (o->row.data)
            row = at(&g->other_row[i], z, y, g->origin) +
                  f * o->row.head * (int64_t)sizeof(real);
        if (columns[i])
            pack_extra_row(columns[i] + o->dim * form->pitch, o, row,
                           g->other_row[i].step[2], g->width);
    }
    if (p->owner_is_key)
        hollow_out(g, columns, form->pitch, rows, g->width);
}

/* The slot for a partner row. */
static int slot_for(const natten_cpu_strips *s, int z, int y, int f)
{
    return (z % s->depth * s->high + y % s->high) * s->fan + f % s->fan;
}

/* The same, packed if it holds another one. */
static int slot_of(group *g, int z, int y, int f)
{
    const natten_cpu_strips *s = &g->pass->strips;
    int slot = slot_for(s, z, y, f);
    tag *k = &g->tags[slot];
    if (k->z != z || k->y != y || k->f != f) {
        if (g->ns > 0 && k->epoch == g->epoch)
            flush(g); /* the listed segments still need what lies there */
        give_sums(g, slot);
        pack_strip(g, g->strips + slot * s->strip.elements, z, y, f);
        clear_sums(g, slot);
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
        real *columns = columns_of(g->extra_strips, p->extra, &p->extra_strip, i);
        pack(columns, p->extra_strip.pitch,
             rows_of(g->extra_strips, p->extra, &p->extra_strip, i), &t,
             (real)o->factor);
        if (columns)
            pack_extra_row(columns + o->dim * p->extra_strip.pitch, o, NULL, 0, n);
    }
}

/* Strips of this form are what is listed from now on. */
static void use_strips(group *g, const real *strips, const natten_cpu_strip *form)
{
    g->strip = form;
    for (int i = 0; i < 2; i++) {
        g->columns[i] = strips + form->columns[i];
        g->rows[i] = strips + form->rows[i];
    }
}

/* ---- the list -------------------------------------------------------------------- */

/* Partners x .. x + n - 1 of a row, whose strip is in `slot`, for owners lo .. hi - 1:
 * cut where the scores are full, and into pieces short enough for values to go over
 * them lane by lane, stretch by stretch. Forward never runs out of room in here
 * (cpu_tile.c): there a flush is a step of the softmax, and its place decides bits. */
static void list_piece(group *g, int slot, tag row, int x, int n, int lo, int hi)
{
    while (n > 0) {
        int room = NATTEN_CPU_SLOTS;
        for (int q = lo; q < hi; q++)
            room = natten_min(room, NATTEN_CPU_SLOTS - g->used[q]);
        if (room == 0 || g->ns == NATTEN_CPU_SEGMENTS) {
            g->split = true;
            flush(g);
            g->split = true;
            continue;
        }
        int now = natten_min(n, natten_min(room, PIECE));
        segment *s = &g->list[g->ns++];
        s->strip = slot * g->strip->elements;
        s->x = x;
        s->n = now;
        s->lo = lo;
        s->hi = hi;
        s->z = row.z;
        s->y = row.y;
        s->f = row.f;
        for (int q = lo; q < hi; q++) {
            s->slot[q] = g->used[q];
            g->used[q] += now;
        }
        g->tags[slot].epoch = g->epoch;
        x += now;
        n -= now;
    }
}

/* Owners that see position p, and the first position where that changes. */
typedef struct cut {
    int lo, hi, next;
} cut;

static cut cut_at(const group *g, int p, const int *from, const int *end)
{
    cut c = {-1, 0, INT_MAX};
    for (int q = 0; q < g->nq; q++) {
        if (from[q] <= p && p < end[q]) {
            c.lo = c.lo < 0 ? q : c.lo;
            c.hi = q + 1;
            c.next = natten_min(c.next, end[q]);
        } else if (from[q] > p && end[q] > from[q]) {
            c.next = natten_min(c.next, from[q]);
        }
    }
    return c;
}

/* Owner q sees partners from[q] .. end[q] - 1 of the row: list them, cut where the set
 * of owners changes. */
static void list_cuts(group *g, int slot, tag row, const int *from, const int *end)
{
    int p = INT_MAX;
    for (int q = 0; q < g->nq; q++)
        p = end[q] > from[q] ? natten_min(p, from[q]) : p;
    while (p < INT_MAX) {
        cut c = cut_at(g, p, from, end);
        if (c.lo >= 0)
            list_piece(g, slot, row, p, c.next - p, c.lo, c.hi);
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

static logits_kernel *const (*table_for(enum reading how, bool small))[BLOCK]
{
    if (small)
        return how == PLAIN ? half_plain_table : half_pick_table;
    return how == PLAIN     ? logits_plain_table
           : how == CLAMPED ? logits_clamp_table
                            : logits_pick_table;
}

/* Panels `which` times columns `which` for all that is listed, with the bias if these
 * are the scores; lanes past their window get `masked`. */
static void logits(group *g, int which, real *const *to, real masked)
{
    const run *r = g->run;
    bool small = g->small && !g->in_extras, biased = which == 0 && is_biased(g);
    bool entries = biased && r->how == PLAIN;
    if (biased && !entries)
        put_bias(g);
    logits_kernel *const(*table)[BLOCK] = table_for(r->how, small);
    logits_block o = {.pitch = g->strip->pitch,
                      .rows = (int)natten_cpu_rows(&g->pass->own[which]),
                      .add = biased && !entries,
                      .entry_step = entries ? entry_step(g) : 0,
                      .idx = r->idx,
                      .slide = r->slide,
                      .still = r->still,
                      .moves = r->moves};
    for (int k = 0; k < g->ns; k++) {
        const segment *s = &g->list[k];
        int nq = s->hi - s->lo;
        cutting c = cut_columns(s->n, nq, r->how == PLAIN ? BUDGET : PICK_BUDGET);
        o.b = g->columns[which] + s->strip + s->x;
        for (int q = 0; q < nq; q++) {
            o.a[q] = g->a[which][s->lo + q];
            o.c[q] = to[s->lo + q] + (ptrdiff_t)s->slot[s->lo + q] * LANES;
            o.entry[q] = entries ? entry_of(g, s, s->lo + q) : NULL;
        }
        while (c.n > 0) {
            int now = next_columns(&c);
            table[nq - 1][now - 1](&o);
            ask(&g->wishes, now);
            o.b += now;
            for (int q = 0; q < nq; q++) {
                o.c[q] += (ptrdiff_t)now * LANES;
                if (entries && c.n > 0)
                    o.entry[q] += now * o.entry_step;
            }
        }
        if (r->ragged)
            mask_scores(g, s, to, masked);
    }
}

/* The end of a stretch of the list, from segment k on, whose rows stay near while the
 * lanes go over them. */
static int stretch_end(const group *g, int k, int64_t block_bytes)
{
    int64_t bytes = 0;
    int most = natten_min(g->ns, k + STRETCH_PIECES);
    while (k < most && bytes < STRETCH_BYTES)
        bytes += (g->list[k++].n + LANES) * block_bytes;
    return k;
}

/* `pitch` elements from one partner's row to the next. */
static values_piece piece_of(const segment *s, int64_t pitch)
{
    values_piece p = {
        .row = s->strip + s->x * pitch, .n = s->n, .x = s->x, .lo = s->lo, .hi = s->hi};
    for (int q = s->lo; q < s->hi; q++)
        p.at[q] = (ptrdiff_t)s->slot[q] * LANES;
    return p;
}

/* Weights times rows `which`, added to the sums `to`, and these, if they are complete,
 * stored where they belong: while the processor multiplies, to write costs less. Where
 * the head dim is no multiple of LANES, the last vector of a row reaches into what lies
 * behind it, the last row of all into other scratch: its lanes there are sums that
 * nobody looks at. */
static void values(group *g, real *const *weights, int which, real *const *to,
                   const destination *result)
{
    int64_t dim = g->pass->other[which].dim, padded = natten_cpu_padded(dim, LANES);
    int64_t vectors = padded / LANES;
    if (values_of_near(g, weights, which, to, result))
        return;
    cutting even = cut_columns((int)vectors, g->nq, BUDGET);
    int step = next_columns(&even);
    values_block o = {.pitch = dim, .c_pitch = padded, .run = g->run};
    values_piece list[STRETCH_PIECES];
    o.list = list;
    for (int q = 0; q < g->nq; q++) {
        o.w[q] = weights[q];
        o.lanes = natten_max(o.lanes, g->own_run[q]->n);
    }
    for (int k = 0, end; k < g->ns; k = end) {
        end = stretch_end(g, k, step * LANES * (int64_t)sizeof(real));
        o.count = end - k;
        for (int i = k; i < end; i++)
            list[i - k] = piece_of(&g->list[i], dim);
        o.add = !g->first || k > 0;
        for (int64_t d = 0; d < vectors; d += step) {
            o.b = g->rows[which] + d * LANES;
            for (int q = 0; q < g->nq; q++)
                o.c[q] = to[q] + d * LANES;
            for (int q = 0; result && end == g->ns && q < g->nq; q++) {
                o.result[q] = result->row[q] + d * LANES * (int64_t)sizeof(real);
                o.factor[q] = result->factor[q];
                o.step = result->step;
                o.streams =
                    result->streams && step * LANES * sizeof(real) % CACHE_LINE == 0;
            }
            values_table[g->nq - 1][(vectors - d < step ? vectors - d : step) - 1](&o);
        }
    }
}

#endif
