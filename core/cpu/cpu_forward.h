/* SPDX-License-Identifier: MIT
 *
 * Forward: a chunk of scores becomes weights by one step of the online softmax, lane by
 * lane; then the sums are rescaled and the weighted values added.
 *
 * The largest score starts at -inf.  While it is -inf, every score so far was exactly
 * -inf (or there was none) and 0 is subtracted instead: exp(-inf) = 0 and no NaN.  A
 * NaN score makes its weight, and so the sum and all of the row, NaN. */
#ifndef NATTEN_CPU_FORWARD_H
#define NATTEN_CPU_FORWARD_H

static vec largest(const real *s, int n, vec top)
{
    vec m0 = top, m1 = top, m2 = top, m3 = top;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        m0 = v_max(v_load(s + i * LANES), m0);
        m1 = v_max(v_load(s + (i + 1) * LANES), m1);
        m2 = v_max(v_load(s + (i + 2) * LANES), m2);
        m3 = v_max(v_load(s + (i + 3) * LANES), m3);
    }
    for (; i < n; i++)
        m0 = v_max(v_load(s + i * LANES), m0);
    return v_max(v_max(m0, m1), v_max(m2, m3));
}

/* Scores become weights, and these a sum, in one chain: a masked slot adds 0 and leaves
 * no trace, whoever shares the run. */
static vec weights_of(real *s, int n, vec shift)
{
    vec sum = v_zero();
    for (int i = 0; i < n; i++) {
        vec e = v_exp_down(v_sub(v_load(s + i * LANES), shift));
        v_store(s + i * LANES, e);
        sum = v_add(sum, e);
    }
    return sum;
}

/* The same of the first half of the lanes, two slots in a register: the same bits. The
 * other half gets what it may. */
#if HALF_LANES
static vec half_largest(const real *s, int n, vec top)
{
    hvec m0 = v_low(top), m1 = m0;
    int i = 0;
    for (; i + 2 <= n; i += 2) {
        m0 = h_max(h_load(s + i * LANES), m0);
        m1 = h_max(h_load(s + (i + 1) * LANES), m1);
    }
    if (i < n)
        m0 = h_max(h_load(s + i * LANES), m0);
    m0 = h_max(m0, m1);
    return v_both(m0, m0);
}

static vec half_weights_of(real *s, int n, vec shift)
{
    hvec sum = h_zero();
    int i = 0;
    for (; i + 2 <= n; i += 2) {
        vec x = v_both(h_load(s + i * LANES), h_load(s + (i + 1) * LANES));
        vec e = v_exp_down(v_sub(x, shift));
        h_store(s + i * LANES, v_low(e));
        h_store(s + (i + 1) * LANES, v_high(e));
        sum = h_add(h_add(sum, v_low(e)), v_high(e));
    }
    if (i < n) {
        vec x = v_both(h_load(s + i * LANES), h_load(s + i * LANES));
        vec e = v_exp_down(v_sub(x, shift));
        h_store(s + i * LANES, v_low(e));
        sum = h_add(sum, v_low(e));
    }
    return v_both(sum, sum);
}
#else
#define half_largest    largest
#define half_weights_of weights_of
#endif

/* One step of the softmax of owner q over the scores listed. */
static void softmax(group *g, int q)
{
    real *s = g->s[q];
    int n = g->used[q];
    bool small = g->small && !g->in_extras;
    if (n == 0)
        return;
    vec none = v_all(-(real)INFINITY);
    vec m = small ? half_largest(s, n, g->top[q]) : largest(s, n, g->top[q]);
    vec shift = v_if_more(m, none, m, v_zero());
    vec old = v_exp_down(v_sub(g->top[q], shift));
    vec sum = small ? half_weights_of(s, n, shift) : weights_of(s, n, shift);
    g->sum[q] = v_fma(g->sum[q], old, sum);
    g->top[q] = m;
    if (g->first)
        return;
    int64_t padded = natten_cpu_padded(g->pass->other[1].dim, LANES);
    real factor[LANES], *c = g->c[0][q];
    v_store(factor, old);
    for (int i = 0; i < g->own_run[q]->n; i++, c += padded)
        for (int64_t d = 0; d < padded; d += LANES)
            v_store(c + d, v_mul(v_all(factor[i]), v_load(c + d)));
}

/* What the sums are multiplied with: NaN stays, a sum of 0 becomes 1. */
static vec factor_of(const group *g, int q)
{
    return v_div(v_all(1), v_max(v_all(1), g->sum[q]));
}

/* May sums go to the result as whole vectors, as many lanes of each owner? */
static bool is_direct(const group *g)
{
    const natten_cpu_pass *p = g->pass;
    bool direct = format_of(dtype_of(g), p->result[0].item) == DIRECT;
    for (int q = 1; q < g->nq; q++)
        direct = direct && g->own_run[q]->n == g->own_run[0]->n;
    return direct && p->other[1].dim % LANES == 0;
}

static void flush_forward(group *g)
{
    logits(g, 0, g->s, -(real)INFINITY);
    for (int q = 0; q < g->nq; q++)
        softmax(g, q);
    destination result = {.step = g->result[0].step[2], .streams = g->streams[0]};
    g->stored = g->last && is_direct(g);
    for (int q = 0; q < g->nq && g->stored; q++) {
        result.row[q] = at(&g->result[0], g->z[q], g->y, g->own_run[q]->x);
        v_store(result.factor[q], factor_of(g, q));
    }
    values(g, g->s, 1, g->c[0], g->stored ? &result : NULL);
}

/* out and lse of owner q. */
static void finish_forward(group *g, int q)
{
    const natten_cpu_pass *p = g->pass;
    const run *r = g->own_run[q];
    natten_dtype dtype = dtype_of(g);
    int64_t dim = p->other[1].dim, padded = natten_cpu_padded(dim, LANES);
    char *to = at(&g->result[0], g->z[q], g->y, r->x);
    real sum[LANES], lse[LANES], factor[LANES], *c = g->c[0][q];
    v_store(sum, g->sum[q]);
    v_store(lse, v_add(g->top[q], v_log(v_max(v_all(1), g->sum[q]))));
    v_store(factor, factor_of(g, q));
    bool empty = false;
    for (int i = 0; i < r->n; i++)
        empty = empty || sum[i] == 0;
    for (int i = 0; i < r->n && empty; i++)
        if (sum[i] == 0) { /* every logit was -inf: even infinite values give 0 */
            lse[i] = -(real)INFINITY;
            if (g->stored)
                memset(to + i * g->result[0].step[2], 0, (size_t)dim * sizeof(real));
            else
                memset(c + i * padded, 0, (size_t)padded * sizeof(real));
        }
    tokens t = {.step = g->result[0].step[2],
                .item = p->result[0].item,
                .dim = dim,
                .dtype = dtype,
                .n = r->n};
    if (!g->stored)
        unpack(&t, to, c, factor);
    char *row = g->lse.data ? at(&g->lse, g->z[q], g->y, r->x) : NULL;
    for (int i = 0; i < r->n && row; i++, row += g->lse.step[2])
        *(real *)(void *)row = lse[i];
}

#endif
