/* SPDX-License-Identifier: MIT
 *
 * natten_merge() and its gradient (definition.md, section 9), row by row: a row is a
 * query and head, lanes lie along the head dim, and what a row gives depends on it
 * alone.  The weights, one per partial and row, are made in double; sums along the head
 * dim and over partials are in the accumulator's type, where they fit.  A partial with
 * lse -inf saw nothing; its out is not read and its gradients are 0. */
#ifndef NATTEN_CPU_MERGE_H
#define NATTEN_CPU_MERGE_H

/* Partials of which views and weights are kept; they are made anew for more. */
enum { MERGE_KEPT = 16 };
/* Elements of a row that are summed at once, on the stack. */
enum { MERGE_STRIP = 256 };

/* Where a row is, and what is the same for all rows. */
typedef struct merge_place {
    const natten_merge_task *task;
    int64_t batch, head;
    int32_t at[3];
    natten_view outputs[MERGE_KEPT], lses[MERGE_KEPT];
} merge_place;

static merge_place merge_find(const natten_merge_task *task, int64_t row)
{
    merge_place m = {.task = task, .head = row % task->heads};
    row /= task->heads;
    for (int a = 2; a >= 0; a--) {
        m.at[a] = (int32_t)(row % task->extent[a]);
        row /= task->extent[a];
    }
    m.batch = row;
    for (int64_t n = 0; n < task->count && n < MERGE_KEPT; n++) {
        m.outputs[n] = natten_merge_view(&task->outputs[n], true);
        m.lses[n] = natten_merge_view(&task->lses[n], false);
    }
    return m;
}

static void merge_next(merge_place *m)
{
    if (++m->head < m->task->heads)
        return;
    m->head = 0;
    for (int a = 2; a >= 0; a--) {
        if (++m->at[a] < m->task->extent[a])
            return;
        m->at[a] = 0;
    }
    m->batch++;
}

/* The present row of a tensor, as the one token that pack and unpack know. */
static tokens merge_row(const merge_place *m, const natten_view *v)
{
    int64_t bytes = (int64_t)natten_dtype_bytes(m->task->dtype);
    return (tokens){.data = natten_view_at(v, bytes, m->batch, m->at, m->head),
                    .item = v->item,
                    .dim = m->task->dim_v,
                    .dtype = m->task->dtype,
                    .n = 1};
}

static tokens merge_output(const merge_place *m, int64_t n)
{
    if (n < MERGE_KEPT)
        return merge_row(m, &m->outputs[n]);
    natten_view v = natten_merge_view(&m->task->outputs[n], true);
    return merge_row(m, &v);
}

/* The scalar of the present row. */
static real *merge_scalar(const merge_place *m, const natten_view *v)
{
    return natten_view_at(v, sizeof(real), m->batch, m->at, m->head);
}

static double merge_lse(const merge_place *m, int64_t n)
{
    if (n < MERGE_KEPT)
        return (double)*merge_scalar(m, &m->lses[n]);
    natten_view v = natten_merge_view(&m->task->lses[n], false);
    return (double)*merge_scalar(m, &v);
}

/* How both of two rows can be read. */
static enum format merge_format(const tokens *a, const tokens *b)
{
    enum format format = format_of(a->dtype, a->item);
    return format == format_of(b->dtype, b->item) ? format : ANYHOW;
}

/* ---- sums along a row ------------------------------------------------------------ */

/* How many elements from d on are a vector's, or the last ones. */
static int merge_lanes(const tokens *t, int64_t d)
{
    return (int)(t->dim - d < LANES ? t->dim - d : LANES);
}

/* Elements from d on, zeros after the last. */
INLINE vec merge_load(const enum format format, const tokens *t, int64_t d)
{
    if (format != ANYHOW && d + LANES <= t->dim)
        return load_lanes(format, t->data, d);
    return load_some(t->dtype, t->item, t->data, d, merge_lanes(t, d));
}

INLINE void merge_store(const enum format format, const tokens *t, char *to, int64_t d,
                        vec a)
{
    if (format != ANYHOW && d + LANES <= t->dim)
        store_lanes(format, to, d, a);
    else
        store_some(t->dtype, t->item, to, d, a, merge_lanes(t, d));
}

/* Call a function with the format as a constant in front. */
#if NATTEN_REAL == 32
#define NARROW_CASES(function, ...)  \
    case BF16:                       \
        function(BF16, __VA_ARGS__); \
        break;                       \
    case FP16:                       \
        function(FP16, __VA_ARGS__); \
        break;
#else
#define NARROW_CASES(function, ...)
#endif
#define CALL_WITH(format, function, ...)    \
    switch (format) {                       \
    case DIRECT:                            \
        function(DIRECT, __VA_ARGS__);      \
        break;                              \
        NARROW_CASES(function, __VA_ARGS__) \
    default:                                \
        function(ANYHOW, __VA_ARGS__);      \
    }

/* sum[0 .. end - begin) += weight * elements [begin, end). */
INLINE void merge_add(const enum format format, real *sum, vec weight, const tokens *t,
                      int64_t begin, int64_t end)
{
    for (int64_t d = begin; d < end; d += LANES, sum += LANES)
        v_store(sum, v_fma(weight, merge_load(format, t, d), v_load(sum)));
}

/* Elements [begin, end) = sum. */
INLINE void merge_put(const enum format format, const tokens *t, char *to,
                      const real *sum, int64_t begin, int64_t end)
{
    for (int64_t d = begin; d < end; d += LANES, sum += LANES)
        merge_store(format, t, to, d, v_load(sum));
}

/* Row `to` = weight * row `from`. */
INLINE void merge_scale(const enum format format, const tokens *t, char *to, vec weight,
                        const tokens *from)
{
    for (int64_t d = 0; d < t->dim; d += LANES)
        merge_store(format, t, to, d, v_mul(weight, merge_load(format, from, d)));
}

/* *product = <a, b>. */
INLINE void merge_dot(const enum format format, const tokens *a, const tokens *b,
                      double *product)
{
    vec even = v_zero(), odd = v_zero();
    for (int64_t d = 0; d < a->dim; d += 2 * LANES) {
        even = v_fma(merge_load(format, a, d), merge_load(format, b, d), even);
        if (d + LANES < a->dim)
            odd = v_fma(merge_load(format, a, d + LANES),
                        merge_load(format, b, d + LANES), odd);
    }
    *product = (double)v_sum(v_add(even, odd));
}

/* <a, b>: products of two large numbers have room in double only. */
static double merge_product(const tokens *a, const tokens *b)
{
    double product;
    CALL_WITH(merge_format(a, b), merge_dot, a, b, &product);
    if (isfinite(product))
        return product;
    product = 0;
    for (int64_t d = 0; d < a->dim; d++)
        product += natten_dtype_load(a->dtype, a->data, d * a->item) *
                   natten_dtype_load(b->dtype, b->data, d * b->item);
    return product;
}

/* ---- rows ------------------------------------------------------------------------ */

static void merge_forward(const merge_place *m)
{
    const natten_merge_task *t = m->task;
    double largest = -HUGE_VAL, sum = 0, kept[MERGE_KEPT];
    bool empty = true;
    /* A NaN never is the largest, but makes the sum NaN. */
    for (int64_t n = 0; n < t->count; n++) {
        double lse = merge_lse(m, n);
        empty = empty && lse == -HUGE_VAL;
        largest = lse > largest ? lse : largest;
    }
    for (int64_t n = 0; n < t->count && !empty; n++) {
        double e = exp(merge_lse(m, n) - largest);
        sum += e;
        if (n < MERGE_KEPT)
            kept[n] = e;
    }
    if (t->lse.data != NULL)
        *merge_scalar(m, &t->lse) = (real)(empty ? -HUGE_VAL : largest + log(sum));

    tokens out = merge_row(m, &t->out);
    char *to = natten_view_at(&t->out, (int64_t)natten_dtype_bytes(t->dtype), m->batch,
                              m->at, m->head);
    for (int64_t d = 0; d < t->dim_v; d += MERGE_STRIP) {
        int64_t end = t->dim_v - d < MERGE_STRIP ? t->dim_v : d + MERGE_STRIP;
        real strip[MERGE_STRIP];
        memset(strip, 0, (size_t)natten_cpu_padded(end - d, LANES) * sizeof(real));
        for (int64_t n = 0; n < t->count; n++) {
            double lse = merge_lse(m, n);
            if (lse == -HUGE_VAL)
                continue;
            double e = n < MERGE_KEPT ? kept[n] : exp(lse - largest);
            tokens from = merge_output(m, n);
            CALL_WITH(format_of(from.dtype, from.item), merge_add, strip,
                      v_all((real)(e / sum)), &from, d, end);
        }
        CALL_WITH(format_of(out.dtype, out.item), merge_put, &out, to, strip, d, end);
    }
}

/* With w = exp(lse_n - lse): grad_out_n = w grad_out and
 * grad_lse_n = w (<grad_out, out_n - out> + grad_lse). */
static void merge_backward(const merge_place *m)
{
    const natten_merge_task *t = m->task;
    int64_t bytes = (int64_t)natten_dtype_bytes(t->dtype);
    tokens out = merge_row(m, &t->out), grad = merge_row(m, &t->grad_out);
    double lse = (double)*merge_scalar(m, &t->lse), extra = 0;
    double delta = merge_product(&grad, &out);
    if (t->grad_lse.data != NULL)
        extra = (double)*merge_scalar(m, &t->grad_lse);
    for (int64_t n = 0; n < t->count; n++) {
        double partial = merge_lse(m, n);
        bool empty = partial == -HUGE_VAL || lse == -HUGE_VAL;
        double weight = exp(partial - lse);
        natten_view scalars = natten_merge_view(&t->grad_lses[n], false);
        natten_view rows = natten_merge_view(&t->grad_outputs[n], true);
        real *grad_lse = merge_scalar(m, &scalars);
        tokens to = merge_row(m, &rows), from = merge_output(m, n);
        char *data = natten_view_at(&rows, bytes, m->batch, m->at, m->head);
        if (empty) {
            *grad_lse = 0;
            for (int64_t d = 0; d < to.dim; d++)
                store_element(to.dtype, data, d * to.item, 0);
            continue;
        }
        *grad_lse = (real)(weight * (merge_product(&grad, &from) - delta + extra));
        CALL_WITH(merge_format(&grad, &to), merge_scale, &to, data, v_all((real)weight),
                  &grad);
    }
}

static void merge(const natten_merge_task *task, int64_t begin, int64_t end)
{
    merge_place m = merge_find(task, begin);
    for (int64_t row = begin; row < end; row++, merge_next(&m))
        if (task->backward)
            merge_backward(&m);
        else
            merge_forward(&m);
}

#endif
