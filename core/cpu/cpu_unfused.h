/* SPDX-License-Identifier: MIT
 *
 * The unfused pair and its gradients, row by row: lanes lie along the head dim, and a
 * row of attn is read or written once.  Two sums do everything: dots of the owner with
 * its partners, into attn, and sums of partners weighted by attn.  Each result has one
 * row that computes it, so there is nothing to merge.
 *
 * Steps, by operation (natten_cpu_step): of queries, of keys, of extra tokens, of the
 * bias. Rows are numbered row-major: [b, z, y, x, h], [b, z, y, x, hkv], [b, m, hkv],
 * [h, oz, oy]. */
#ifndef NATTEN_CPU_UNFUSED_H
#define NATTEN_CPU_UNFUSED_H

/* A row and where it is: a query or a key. */
typedef struct place {
    const natten_task *task;
    int64_t batch, head;
    int32_t index[3], position[3]; /* along the tensor's axes; in the residue class */
    natten_class axis[3];
    natten_span span[3];     /* of its partners */
    real *own, *other, *sum; /* scratch of a head dim each */
} place;

static place find_row(const natten_task *task, bool of_keys, int64_t row, real *scratch)
{
    place p = {.task = task};
    int64_t heads = of_keys ? task->heads_kv : task->heads;
    int64_t dim = task->dim > task->dim_v ? task->dim : task->dim_v;
    p.own = scratch;
    p.other = scratch + dim;
    p.sum = scratch + 2 * dim;
    p.head = row % heads;
    row /= heads;
    for (int a = 2; a >= 0; a--) {
        const natten_axis *x = &task->axis[a];
        int32_t count = of_keys ? x->key_count : x->query_count;
        p.index[a] = (int32_t)(row % count);
        row /= count;
        int32_t token = p.index[a] + (of_keys ? x->key_begin : x->query_begin);
        p.axis[a] = natten_axis_class(x, token % x->dilation);
        p.position[a] = token / x->dilation;
        p.span[a] = of_keys ? natten_class_queries(&p.axis[a], p.position[a])
                            : natten_class_keys(&p.axis[a], p.position[a]);
    }
    p.batch = row;
    return p;
}

/* Where a position lies along an axis of the tensors. */
static int32_t key_index(const place *p, int a, int32_t position)
{
    const natten_class *c = &p->axis[a];
    return c->key_index + (position - c->keys.begin) * p->task->axis[a].dilation;
}

static int32_t query_index(const place *p, int a, int32_t position)
{
    const natten_class *c = &p->axis[a];
    return c->query_index + (position - c->queries.begin) * p->task->axis[a].dilation;
}

static const natten_view *view_of(const place *p, natten_role role)
{
    return &p->task->view[role];
}

static char *address(const place *p, natten_role role, const int32_t index[3],
                     int64_t head)
{
    int64_t bytes = (int64_t)natten_dtype_bytes(p->task->dtype);
    return natten_view_at(view_of(p, role), bytes, p->batch, index, head);
}

/* A token's vector as reals: where it is, or widened into `buffer`. */
static const real *vector_at(const place *p, const char *from, int64_t item,
                             int64_t dim, real *buffer)
{
    if (format_of(p->task->dtype, item) == DIRECT)
        return (const real *)(const void *)from;
    for (int64_t d = 0; d < dim; d++)
        buffer[d] = load_element(p->task->dtype, from, d * item);
    return buffer;
}

static real dot(const real *a, const real *b, int64_t dim)
{
    vec s0 = v_zero(), s1 = v_zero();
    int64_t d = 0;
    for (; d + 2 * LANES <= dim; d += 2 * LANES) {
        s0 = v_fma(v_load(a + d), v_load(b + d), s0);
        s1 = v_fma(v_load(a + d + LANES), v_load(b + d + LANES), s1);
    }
    real sum = v_sum(v_add(s0, s1));
    for (; d < dim; d++)
        sum += a[d] * b[d];
    return sum;
}

static void add_scaled(real *sum, real weight, const real *b, int64_t dim)
{
    vec w = v_all(weight);
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES)
        v_store(sum + d, v_fma(w, v_load(b + d), v_load(sum + d)));
    for (; d < dim; d++)
        sum[d] += weight * b[d];
}

/* ---- what is done to a row of attn ----------------------------------------------- */

/* Partners n apart by `step` bytes from `from`; their slots lie in attn one after
 * another. */
typedef struct stretch {
    const char *from;
    int64_t step, item;
    char *attn;
    int64_t slot;
    const real *bias; /* NULL: none */
    int64_t bias_step;
    int n;
} stretch;

typedef void stretch_body(const place *p, natten_role attn, const stretch *s,
                          int64_t dim);

/* attn = scale <own, partner> + bias; without the scale for the gradient of attn. */
static void write_dots(const place *p, natten_role attn, const stretch *s, int64_t dim)
{
    real scale = attn == NATTEN_ATTN ? (real)p->task->scale : 1;
    for (int k = 0; k < s->n; k++) {
        const real *b = vector_at(p, s->from + k * s->step, s->item, dim, p->other);
        real x = scale * dot(p->own, b, dim);
        if (s->bias)
            x += s->bias[k * s->bias_step];
        store_element(p->task->dtype, s->attn, (s->slot + k) * view_of(p, attn)->item,
                      x);
    }
}

static void add_weighted(const place *p, natten_role attn, const stretch *s,
                         int64_t dim)
{
    for (int k = 0; k < s->n; k++) {
        const real *b = vector_at(p, s->from + k * s->step, s->item, dim, p->other);
        real w = load_element(p->task->dtype, s->attn,
                              (s->slot + k) * view_of(p, attn)->item);
        add_scaled(p->sum, w, b, dim);
    }
}

/* The keys of a query, a stretch along x at a time, then the extra tokens. */
static void visit_keys(const place *p, natten_role attn, natten_role key,
                       natten_role extra, int64_t dim, stretch_body *body)
{
    const natten_task *t = p->task;
    int64_t bytes = (int64_t)natten_dtype_bytes(t->dtype);
    int64_t head = p->head / (t->heads / t->heads_kv);
    const natten_view *v = view_of(p, key), *bias = view_of(p, NATTEN_BIAS);
    stretch s = {.step = v->axis[2] * t->axis[2].dilation * bytes,
                 .item = v->item,
                 .attn = address(p, attn, p->index, p->head),
                 .bias_step = bias->axis[2],
                 .n = p->span[2].end - p->span[2].begin};
    int32_t begin[3], at_key[3], offset[3];
    for (int a = 0; a < 3; a++)
        begin[a] = natten_class_window(&p->axis[a], p->position[a]).begin;
    for (int z = p->span[0].begin; z < p->span[0].end; z++)
        for (int y = p->span[1].begin; y < p->span[1].end && s.n > 0; y++) {
            const int32_t position[3] = {z, y, p->span[2].begin};
            for (int a = 0; a < 3; a++) {
                at_key[a] = key_index(p, a, position[a]);
                offset[a] = position[a] - p->position[a] + t->axis[a].window - 1;
            }
            s.from = natten_view_at(v, bytes, p->batch, at_key, head);
            s.slot = ((int64_t)(z - begin[0]) * t->axis[1].window + y - begin[1]) *
                         t->axis[2].window +
                     p->span[2].begin - begin[2];
            s.bias = bias->data ? natten_view_at(bias, sizeof(real), 0, offset, p->head)
                                : NULL;
            body(p, attn, &s, dim);
        }
    const natten_view *e = view_of(p, extra);
    for (int64_t m = 0; m < t->extras; m++) {
        s.from = (const char *)e->data +
                 (p->batch * e->batch + m * e->axis[2] + head * e->head) * bytes;
        s.item = e->item;
        s.slot = natten_task_slots(t) - t->extras + m;
        s.bias = NULL;
        s.n = 1;
        body(p, attn, &s, dim);
    }
}

/* Slots that no visible key fills. */
static void fill_empty(const place *p, natten_role attn, real value)
{
    int64_t seen = 1, slots = natten_task_slots(p->task);
    for (int a = 0; a < 3; a++)
        seen *= p->span[a].end - p->span[a].begin;
    char *to = address(p, attn, p->index, p->head);
    if (seen < slots - p->task->extras)
        for (int64_t k = 0; k < slots; k++)
            store_element(p->task->dtype, to, k * view_of(p, attn)->item, value);
}

static void begin_sum(const place *p, int64_t dim)
{
    for (int64_t d = 0; d < dim; d++)
        p->sum[d] = 0;
}

static void store_sum(const place *p, char *to, int64_t item, int64_t dim, real factor)
{
    for (int64_t d = 0; d < dim; d++)
        store_element(p->task->dtype, to, d * item, factor * p->sum[d]);
}

/* ---- the steps ------------------------------------------------------------------- */

/* A row of attn or of its gradient: dots of `own` with the keys. */
static void attn_row(place *p, natten_role attn, natten_role own, natten_role key,
                     natten_role extra)
{
    int64_t dim = attn == NATTEN_ATTN ? p->task->dim : p->task->dim_v;
    for (int64_t d = 0; d < dim; d++)
        p->own[d] = load_element(p->task->dtype, address(p, own, p->index, p->head),
                                 d * view_of(p, own)->item);
    fill_empty(p, attn, attn == NATTEN_ATTN ? -(real)INFINITY : 0);
    visit_keys(p, attn, key, extra, dim, write_dots);
}

/* A row of a query's sum over its keys. */
static void query_row(place *p, natten_role attn, natten_role to, natten_role key,
                      natten_role extra)
{
    int64_t dim = to == NATTEN_OUT ? p->task->dim_v : p->task->dim;
    begin_sum(p, dim);
    visit_keys(p, attn, key, extra, dim, add_weighted);
    store_sum(p, address(p, to, p->index, p->head), view_of(p, to)->item, dim,
              to == NATTEN_OUT ? 1 : (real)p->task->scale);
}

/* A row of a key's sum over the queries, of all heads of the group, that see it. */
static void key_row(place *p, natten_role attn, natten_role to, natten_role query)
{
    const natten_task *t = p->task;
    int64_t dim = query == NATTEN_QUERY ? t->dim : t->dim_v,
            share = t->heads / t->heads_kv;
    int32_t at_query[3];
    begin_sum(p, dim);
    for (int z = p->span[0].begin; z < p->span[0].end; z++)
        for (int y = p->span[1].begin; y < p->span[1].end; y++)
            for (int x = p->span[2].begin; x < p->span[2].end; x++) {
                const int32_t position[3] = {z, y, x};
                int64_t slot = 0;
                for (int a = 0; a < 3; a++) {
                    at_query[a] = query_index(p, a, position[a]);
                    slot = slot * t->axis[a].window + p->position[a] -
                           natten_class_window(&p->axis[a], position[a]).begin;
                }
                for (int64_t h = p->head * share; h < (p->head + 1) * share; h++) {
                    stretch s = {.from = address(p, query, at_query, h),
                                 .item = view_of(p, query)->item,
                                 .attn = address(p, attn, at_query, h),
                                 .slot = slot,
                                 .n = 1};
                    add_weighted(p, attn, &s, dim);
                }
            }
    store_sum(p, address(p, to, p->index, p->head), view_of(p, to)->item, dim,
              query == NATTEN_QUERY ? (real)t->scale : 1);
}

/* A row of an extra token's sum over all queries of its heads. */
static void extra_row(const natten_task *t, int64_t row, natten_role attn,
                      natten_role to, natten_role query, real *scratch)
{
    int64_t dim = query == NATTEN_QUERY ? t->dim : t->dim_v,
            share = t->heads / t->heads_kv;
    int64_t largest_dim = t->dim > t->dim_v ? t->dim : t->dim_v;
    place p = {.task = t,
               .head = row % t->heads_kv,
               .other = scratch + largest_dim,
               .sum = scratch + 2 * largest_dim};
    int64_t m = row / t->heads_kv % t->extras;
    p.batch = row / t->heads_kv / t->extras;
    begin_sum(&p, dim);
    for (p.index[0] = 0; p.index[0] < t->axis[0].query_count; p.index[0]++)
        for (p.index[1] = 0; p.index[1] < t->axis[1].query_count; p.index[1]++)
            for (p.index[2] = 0; p.index[2] < t->axis[2].query_count; p.index[2]++)
                for (int64_t h = p.head * share; h < (p.head + 1) * share; h++) {
                    stretch s = {.from = address(&p, query, p.index, h),
                                 .item = view_of(&p, query)->item,
                                 .attn = address(&p, attn, p.index, h),
                                 .slot = natten_task_slots(t) - t->extras + m,
                                 .n = 1};
                    add_weighted(&p, attn, &s, dim);
                }
    const natten_view *v = &t->view[to];
    int64_t bytes = (int64_t)natten_dtype_bytes(t->dtype);
    int64_t offset = p.batch * v->batch + m * v->axis[2] + p.head * v->head;
    store_sum(&p, (char *)v->data + offset * bytes, v->item, dim,
              query == NATTEN_QUERY ? (real)t->scale : 1);
}

/* The slot of the query's first key at bias entries entry[0] and entry[1] of the first
 * two axes; -1 if it sees none there. */
static int64_t slot_at_bias(const place *p, const int32_t entry[2])
{
    int64_t slot = 0;
    for (int a = 0; a < 2; a++) {
        int32_t window = p->task->axis[a].window;
        int32_t key = p->position[a] + entry[a] - (window - 1);
        if (key < p->span[a].begin || key >= p->span[a].end)
            return -1;
        slot = slot * window + key -
               natten_class_window(&p->axis[a], p->position[a]).begin;
    }
    return slot * p->task->axis[2].window + p->span[2].begin -
           natten_class_window(&p->axis[2], p->position[2]).begin;
}

/* The gradient of the bias of one head along the last axis: all pairs with these
 * offsets on the others, of all batch items. The sums are scratch. */
static void bias_row(const natten_task *t, int64_t row, real *sum, real *scratch)
{
    const natten_view *v = &t->view[NATTEN_GRAD_BIAS];
    int32_t window = t->axis[2].window, entry[3] = {0, 0, 0};
    int64_t queries = t->batch * t->axis[2].query_count;
    for (int a = 1; a >= 0; a--) {
        int64_t extent = 2 * (int64_t)t->axis[a].window - 1;
        entry[a] = (int32_t)(row % extent);
        row /= extent;
        queries *= t->axis[a].query_count;
    }
    for (int32_t x = 0; x < 2 * window - 1; x++)
        sum[x] = 0;
    for (int64_t i = 0; i < queries; i++) {
        place p = find_row(t, false, i * t->heads + row, scratch);
        int64_t slot = slot_at_bias(&p, entry), item = t->view[NATTEN_GRAD_ATTN].item;
        const char *attn = address(&p, NATTEN_GRAD_ATTN, p.index, p.head);
        int32_t first = p.span[2].begin - p.position[2] + window - 1;
        for (int32_t x = 0; slot >= 0 && x < p.span[2].end - p.span[2].begin; x++)
            sum[first + x] += load_element(t->dtype, attn, (slot + x) * item);
    }
    for (entry[2] = 0; entry[2] < 2 * window - 1; entry[2]++)
        *(real *)natten_view_at(v, sizeof(real), 0, entry, row) = sum[entry[2]];
}

static void one_row(const natten_task *t, natten_cpu_step step, int64_t row,
                    real *scratch)
{
    bool qk = t->operation == NATTEN_QK || t->operation == NATTEN_QK_BACKWARD;
    natten_role attn = qk ? NATTEN_GRAD_ATTN : NATTEN_ATTN;
    if (step == NATTEN_CPU_STEP_BIAS) {
        bias_row(t, row, scratch + 3 * (t->dim > t->dim_v ? t->dim : t->dim_v),
                 scratch);
        return;
    }
    if (step == NATTEN_CPU_STEP_EXTRA) {
        extra_row(t, row, attn,
                  qk ? NATTEN_GRAD_ADDITIONAL_KEYS : NATTEN_GRAD_ADDITIONAL_VALUES,
                  qk ? NATTEN_QUERY : NATTEN_GRAD_OUT, scratch);
        return;
    }
    place p = find_row(t, step == NATTEN_CPU_STEP_KEY, row, scratch);
    if (step == NATTEN_CPU_STEP_KEY)
        key_row(&p, attn, qk ? NATTEN_GRAD_KEY : NATTEN_GRAD_VALUE,
                qk ? NATTEN_QUERY : NATTEN_GRAD_OUT);
    else if (t->operation == NATTEN_QK)
        attn_row(&p, NATTEN_ATTN, NATTEN_QUERY, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS);
    else if (t->operation == NATTEN_AV_BACKWARD)
        attn_row(&p, NATTEN_GRAD_ATTN, NATTEN_GRAD_OUT, NATTEN_VALUE,
                 NATTEN_ADDITIONAL_VALUES);
    else if (t->operation == NATTEN_AV)
        query_row(&p, NATTEN_ATTN, NATTEN_OUT, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES);
    else
        query_row(&p, NATTEN_GRAD_ATTN, NATTEN_GRAD_QUERY, NATTEN_KEY,
                  NATTEN_ADDITIONAL_KEYS);
}

static void unfused(const natten_task *task, natten_cpu_step step, int64_t begin,
                    int64_t end, void *scratch)
{
    for (int64_t row = begin; row < end; row++)
        one_row(task, step, row, scratch);
}

#endif
