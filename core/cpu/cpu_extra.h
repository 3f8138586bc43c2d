/* SPDX-License-Identifier: MIT
 *
 * Gradients of the extra tokens: lanes are extra tokens, partners are all queries of
 * all heads of the group.  An item is a piece of a row of queries; what it adds goes to
 * the partial sum of its slice, kept as the sums that the kernel works on: for each
 * owner vector [LANES][D], then [LANES][Dv], head dims padded to whole vectors. */
#ifndef NATTEN_CPU_EXTRA_H
#define NATTEN_CPU_EXTRA_H

/* Queries as they lie in the tensor: every extra token sees all of them, so residue
 * classes play no part. */
static void place_queries(group *g, int64_t combo, int at_token[3])
{
    const natten_cpu_pass *p = g->pass;
    int64_t pieces = p->tiles[2];
    for (int a = 2; a >= 0; a--) {
        int64_t count = a == 2 ? pieces : p->axis[a].query_count;
        at_token[a] = (int)(combo % count) * p->tile[a];
        combo /= count;
        g->axis[a] = (natten_class){.queries = {0, p->axis[a].query_count}};
    }
    g->batch = combo;
    g->origin = at_token[2];
    g->width = natten_min(p->tile[2], p->axis[2].query_count - at_token[2]);
    size_t bytes = natten_dtype_bytes(dtype_of(g));
    for (int i = 0; i < 2; i++) {
        g->other[i] = make_cursor(g, &p->other[i].view, bytes, g->head * p->fan, false);
        g->other_row[i] =
            make_cursor(g, &p->other[i].row, sizeof(real), g->head * p->fan, false);
        /* Token by token, not by positions of a class. */
        for (int a = 0; a < 3; a++) {
            g->other[i].step[a] = p->other[i].view.axis[a] * (int64_t)bytes;
            g->other_row[i].step[a] = p->other[i].row.axis[a] * (int64_t)sizeof(real);
        }
    }
}

/* Extra tokens m .. m + LANES - 1 as owner q. */
static void pack_extra_owner(group *g, int q, int64_t m)
{
    const natten_cpu_pass *p = g->pass;
    int64_t bytes = (int64_t)natten_dtype_bytes(dtype_of(g)),
            left = p->task->extras - m;
    int n = (int)(left < LANES ? left : LANES);
    for (int i = 0; i < 2; i++) {
        const natten_cpu_operand *o = &p->own[i];
        const natten_view *v = &o->view;
        int64_t offset = g->batch * v->batch + m * v->axis[2] + g->head * v->head;
        tokens t = {(const char *)v->data + offset * bytes,
                    v->axis[2] * bytes,
                    v->item,
                    o->dim,
                    dtype_of(g),
                    n};
        pack(g->a[i][q], LANES, NULL, &t, (real)o->factor);
        v_store(g->a[i][q] + o->dim * LANES, v_all(1));
    }
}

static void extra(const natten_cpu_pass *p, const natten_cpu_item *item, void *scratch)
{
    group g;
    int token[3];
    g.pass = p;
    g.head = item->head;
    g.sums = item->sums;
    g.hollow = false;
    g.stopped = false;
    place_queries(&g, item->combo, token);
    find_memory(&g, scratch);
    g.everyone = make_everyone();
    g.run = &g.everyone;
    g.small = false;
    use_strips(&g, g.strips, &p->strips.strip);
    g.in_extras = true;
    g.first = g.split = false;
    g.ns = 0;
    int64_t dim = natten_cpu_padded(p->own[0].dim, LANES);
    int64_t elements = dim + natten_cpu_padded(p->own[1].dim, LANES);
    int64_t m = item->extra_begin, end = m + p->extra_tokens;
    if (end > p->task->extras)
        end = p->task->extras;
    for (int f = 0; f < p->fan; f++) {
        pack_strip(&g, g.strips, token[0], token[1], f);
        for (int64_t k = m; k < end; k += (int64_t)p->owners * LANES) {
            for (g.nq = 0; g.nq < p->owners && k + g.nq * LANES < end; g.nq++) {
                g.own_run[g.nq] = &g.everyone;
                pack_extra_owner(&g, g.nq, k + g.nq * LANES);
                g.c[0][g.nq] = g.sums + (k - m + g.nq * LANES) * elements;
                g.c[1][g.nq] = g.c[0][g.nq] + dim * LANES;
                g.used[g.nq] = g.width;
            }
            g.list[g.ns++] = (segment){.n = g.width, .hi = g.nq};
            flush(&g);
        }
    }
}

#endif
