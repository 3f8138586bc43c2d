/* SPDX-License-Identifier: MIT
 *
 * Backward: scores come out of the products as logit - lse and dP - delta, so P =
 * exp(score) and dS = P (dP - delta) are left to do.  The same for all passes;
 * only the products that follow differ. */
#ifndef NATTEN_CPU_BACKWARD_H
#define NATTEN_CPU_BACKWARD_H

/* delta = <grad_out, out> - grad_lse of owner q, a query: to the workspace, for the
 * passes that have queries as partners, and to the panel of grad_out, as one more
 * row. */
static void make_delta(group *g, int q)
{
    const natten_cpu_pass *p = g->pass;
    const run *r = g->own_run[q];
    int64_t dim = p->own[1].dim;
    real *grad = g->a[1][q], *out = g->c[0][q], delta[LANES];
    tokens t = {at(&g->out, g->z[q], g->y, r->x),
                g->out.step[2],
                p->out.item,
                dim,
                dtype_of(g),
                r->n};
    pack(out, LANES, NULL, &t, 1);
    vec sum = v_zero();
    for (int64_t d = 0; d < dim; d++)
        sum = v_fma(v_load(grad + d * LANES), v_load(out + d * LANES), sum);
    v_store(delta, sum);
    for (int i = 0; i < r->n; i++) {
        if (g->grad_lse.data)
            delta[i] -= *(real *)(void *)at(&g->grad_lse, g->z[q], g->y, r->x + i);
        *(real *)(void *)at(&g->delta, g->z[q], g->y, r->x + i) = delta[i];
    }
    v_store(grad + dim * LANES, v_sub(v_zero(), v_load(delta)));
}

/* Does lane i, or the partner at element b that it sees, have lse = -inf? */
static bool is_hollow(const group *g, int q, ptrdiff_t b, int i)
{
    const natten_cpu_pass *p = g->pass;
    const real *row = g->a[0][q] + p->own[0].dim * LANES + i;
    if (p->owner_is_key)
        row = g->columns[0] + p->other[0].dim * g->strip->pitch + b + g->run->idx[i];
    return *row == (real)INFINITY;
}

/* Queries that saw nothing: logit - lse becomes -inf, dP - delta 0. */
static void silence(group *g)
{
    for (int k = 0; k < g->ns; k++) {
        const segment *s = &g->list[k];
        for (int q = s->lo; q < s->hi; q++)
            for (int r = 0; r < s->n; r++)
                for (int i = 0; i < LANES; i++)
                    if (is_hollow(g, q, s->strip + s->x + r, i)) {
                        g->s[q][(s->slot[q] + r) * LANES + i] = -(real)INFINITY;
                        g->t[q][(s->slot[q] + r) * LANES + i] = 0;
                    }
    }
}

/* Scores become P and dS. */
static void weigh(group *g)
{
    for (int q = 0; q < g->nq; q++)
        for (int i = 0; i < g->used[q] * LANES; i += LANES) {
            vec e = v_exp(v_load(g->s[q] + i));
            v_store(g->s[q] + i, e);
            v_store(g->t[q] + i, v_mul(e, v_load(g->t[q] + i)));
        }
}

/* Add weights times own rows `which` to the sums of the partners listed. */
static void scatter(group *g, real *const *weights, int which)
{
    const natten_cpu_pass *p = g->pass;
    int64_t dim = p->other[which].dim, padded = natten_cpu_padded(dim, LANES);
    int vectors = (int)(padded / LANES);
    int parts = (vectors + GIVEN_COLUMNS - 1) / GIVEN_COLUMNS;
    int step = (vectors + parts - 1) / parts;
    real *sums = g->strips + g->strip->sums[which];
    int lanes = 0;
    scatter_block o = {.pitch = dim, .c_pitch = padded, .skew = g->run->skew};
    for (int q = 0; q < g->nq; q++)
        lanes = natten_max(lanes, g->own_run[q]->n);
    for (int k = 0; k < g->ns; k++) {
        const segment *s = &g->list[k];
        find_reach(&g->reach, g->run, s, lanes);
        o.owners = s->hi - s->lo;
        for (int d = 0; d < vectors; d += step) {
            scatter_kernel *kernel = scatter_table[natten_min(step, vectors - d) - 1];
            o.c = sums + s->strip + s->x * padded + d * LANES;
            for (int q = 0; q < o.owners; q++) {
                o.w[q] = weights[s->lo + q] + (ptrdiff_t)s->slot[s->lo + q] * LANES;
                o.rows[q] = g->own_rows[which][s->lo + q] + d * LANES;
                o.lanes[q] = g->own_run[s->lo + q]->n;
                o.even = (q == 0 || o.even) && o.lanes[q] == lanes;
            }
            for (int b = 0; b < g->reach.blocks; b++) {
                o.stretch = g->reach.stretch + g->reach.begin[b];
                o.stretches = g->reach.begin[b + 1] - g->reach.begin[b];
                o.slope = &g->reach.slope[b];
                kernel(&o);
                o.c += GIVEN * padded;
                for (int q = 0; q < o.owners; q++)
                    o.w[q] += GIVEN * LANES;
            }
        }
    }
}

static void flush_backward(group *g)
{
    const natten_cpu_pass *p = g->pass;
    logits(g, 0, g->s, -(real)INFINITY);
    logits(g, 1, g->t, 0);
    if (g->hollow)
        silence(g);
    weigh(g);
    if (p->wants_sums && !g->in_extras)
        add_to_bias(g);
    if (p->wants[0])
        values(g, g->t, 0, g->c[0], NULL);
    if (p->wants[1])
        values(g, g->s, 1, g->c[1], NULL);
    for (int i = 0; i < 2 && !g->in_extras; i++)
        if (p->shared[i].data)
            scatter(g, i == 0 ? g->t : g->s, i);
}

static void compute(group *g)
{
    if (g->pass->kind == NATTEN_CPU_FORWARD)
        flush_forward(g);
    else
        flush_backward(g);
}

static void flush(group *g)
{
    if (g->ns == 0)
        return;
    /* A window of many chunks can take minutes; items of one chunk are short. */
    g->stopped = g->stopped || (!g->first && natten_parallel_cancelled());
    if (!g->stopped)
        compute(g);
    g->ns = 0;
    g->first = g->split = false;
    g->epoch++;
    for (int q = 0; q < g->nq; q++)
        g->used[q] = 0;
}

/* The gradients of owner q. */
static void finish_backward(group *g, int q)
{
    const natten_cpu_pass *p = g->pass;
    const run *r = g->own_run[q];
    real factor[LANES];
    if (g->hollow && !p->owner_is_key) {
        int64_t padded = natten_cpu_padded(p->own[0].dim, LANES);
        for (int i = 0; i < r->n; i++)
            if (g->a[0][q][p->own[0].dim * LANES + i] == (real)INFINITY)
                memset(g->c[0][q] + i * padded, 0, (size_t)padded * sizeof(real));
    }
    for (int i = 0; i < 2; i++) {
        if (!p->wants[i])
            continue;
        tokens t = {.step = g->result[i].step[2],
                    .item = p->result[i].item,
                    .dim = p->own[i].dim,
                    .dtype = dtype_of(g),
                    .n = r->n};
        v_store(factor, v_all((real)p->result_factor[i]));
        char *to = at(&g->result[i], g->z[q], g->y, r->x);
        if (g->streams[i])
            stream_rows(&t, to, g->c[i][q], factor);
        else
            unpack(&t, to, g->c[i][q], factor);
    }
}

#endif
