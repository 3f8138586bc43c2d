/* SPDX-License-Identifier: MIT
 *
 * One loop per index and no tricks: the compiler alone makes them fast, with the flags
 * that configure was given (-O3 unless told otherwise).  Tensors are compact; tokens
 * are numbered row by row over the three axes. */
#include "loops.h"

#include "base/parallel.h"
#include "base/status.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What is computed at a time. */
typedef struct head {
    const natten_task *task;
    int64_t b, h, kv;   /* batch item, head of queries, head of keys */
    int64_t *key;       /* tokens that the present query sees */
    float *weight;      /* of each of them */
    int64_t count;      /* how many there are */
    int64_t query, end; /* the present query; how many there are */
    int64_t keys;       /* how many there are of keys */
} head;

typedef struct job {
    const natten_task *task;
    atomic_bool failed;
} job;

static float *of_query(const head *h, natten_role role, int64_t dim)
{
    int64_t row = (h->b * h->end + h->query) * h->task->heads + h->h;
    return (float *)h->task->view[role].data + row * dim;
}

static float *of_key(const head *h, natten_role role, int64_t key, int64_t dim)
{
    int64_t row = (h->b * h->keys + key) * h->task->heads_kv + h->kv;
    return (float *)h->task->view[role].data + row * dim;
}

/* How many keys the query sees on one axis: every dilation-th from *begin. */
static int64_t see(const natten_axis *axis, int32_t query, int64_t *begin)
{
    int32_t place = query + axis->query_begin;
    natten_class c = natten_axis_class(axis, place % axis->dilation);
    natten_span keys = natten_class_keys(&c, place / axis->dilation);
    *begin = c.key_index + (int64_t)(keys.begin - c.keys.begin) * axis->dilation;
    return keys.end - keys.begin;
}

static void list_keys(head *h, const int32_t at[3])
{
    int64_t begin[3], count[3];
    const natten_axis *axis = h->task->axis;
    for (int a = 0; a < 3; a++)
        count[a] = see(&axis[a], at[a], &begin[a]);
    h->count = 0;
    for (int64_t z = 0; z < count[0]; z++)
        for (int64_t y = 0; y < count[1]; y++)
            for (int64_t x = 0; x < count[2]; x++)
                h->key[h->count++] =
                    ((begin[0] + z * axis[0].dilation) * axis[1].key_count + begin[1] +
                     y * axis[1].dilation) *
                        axis[2].key_count +
                    begin[2] + x * axis[2].dilation;
}

static float dot(const float *a, const float *b, int64_t count)
{
    float sum = 0;
    for (int64_t d = 0; d < count; d++)
        sum += a[d] * b[d];
    return sum;
}

static void add(float *to, float factor, const float *x, int64_t count)
{
    for (int64_t d = 0; d < count; d++)
        to[d] += factor * x[d];
}

static void forward(head *h)
{
    int64_t dim = h->task->dim, dim_v = h->task->dim_v;
    const float *q = of_query(h, NATTEN_QUERY, dim);
    float *out = of_query(h, NATTEN_OUT, dim_v), largest = -HUGE_VALF, sum = 0;
    for (int64_t n = 0; n < h->count; n++) {
        const float *k = of_key(h, NATTEN_KEY, h->key[n], dim);
        h->weight[n] = (float)h->task->scale * dot(q, k, dim);
        if (h->weight[n] > largest)
            largest = h->weight[n];
    }
    for (int64_t n = 0; n < h->count; n++) {
        h->weight[n] = expf(h->weight[n] - largest);
        sum += h->weight[n];
    }
    memset(out, 0, sizeof(float) * (size_t)dim_v);
    for (int64_t n = 0; n < h->count; n++)
        add(out, h->weight[n] / sum, of_key(h, NATTEN_VALUE, h->key[n], dim_v), dim_v);
    *of_query(h, NATTEN_LSE, 1) = largest + logf(sum);
}

static void backward(head *h)
{
    int64_t dim = h->task->dim, dim_v = h->task->dim_v;
    const float *q = of_query(h, NATTEN_QUERY, dim);
    const float *g = of_query(h, NATTEN_GRAD_OUT, dim_v);
    float *grad_q = of_query(h, NATTEN_GRAD_QUERY, dim);
    float scale = (float)h->task->scale, lse = *of_query(h, NATTEN_LSE, 1);
    float delta = dot(g, of_query(h, NATTEN_OUT, dim_v), dim_v);
    memset(grad_q, 0, sizeof(float) * (size_t)dim);
    for (int64_t n = 0; n < h->count; n++) {
        const float *k = of_key(h, NATTEN_KEY, h->key[n], dim);
        float p = expf(scale * dot(q, k, dim) - lse);
        float dp = dot(g, of_key(h, NATTEN_VALUE, h->key[n], dim_v), dim_v);
        float ds = scale * p * (dp - delta);
        add(of_key(h, NATTEN_GRAD_VALUE, h->key[n], dim_v), p, g, dim_v);
        add(of_key(h, NATTEN_GRAD_KEY, h->key[n], dim), ds, q, dim);
        add(grad_q, ds, k, dim);
    }
}

/* The gradients of this head of keys are sums: they start at 0. */
static void clear(const head *h)
{
    int64_t dim = h->task->dim, dim_v = h->task->dim_v;
    for (int64_t key = 0; key < h->keys; key++) {
        memset(of_key(h, NATTEN_GRAD_KEY, key, dim), 0, sizeof(float) * (size_t)dim);
        memset(of_key(h, NATTEN_GRAD_VALUE, key, dim_v), 0,
               sizeof(float) * (size_t)dim_v);
    }
}

static void all_queries(head *h)
{
    const natten_axis *axis = h->task->axis;
    int32_t at[3];
    h->query = 0;
    for (at[0] = 0; at[0] < axis[0].query_count; at[0]++)
        for (at[1] = 0; at[1] < axis[1].query_count; at[1]++)
            for (at[2] = 0; at[2] < axis[2].query_count; at[2]++) {
                list_keys(h, at);
                if (h->task->operation == NATTEN_FORWARD)
                    forward(h);
                else
                    backward(h);
                h->query++;
            }
}

/* A batch item and head of keys, with its heads of queries. */
static void head_of_keys(void *context, int64_t item, int thread)
{
    job *j = context;
    const natten_task *t = j->task;
    size_t slots = (size_t)natten_task_slots(t);
    int64_t group = t->heads / t->heads_kv;
    head h = {.task = t, .b = item / t->heads_kv, .kv = item % t->heads_kv};
    (void)thread;
    h.end = h.keys = 1;
    for (int a = 0; a < 3; a++) {
        h.end *= t->axis[a].query_count;
        h.keys *= t->axis[a].key_count;
    }
    h.key = malloc(slots * sizeof *h.key);
    h.weight = malloc(slots * sizeof *h.weight);
    if (!h.key || !h.weight) {
        atomic_store(&j->failed, true);
    } else {
        if (t->operation == NATTEN_BACKWARD)
            clear(&h);
        for (h.h = h.kv * group; h.h < (h.kv + 1) * group; h.h++)
            all_queries(&h);
    }
    free(h.key);
    free(h.weight);
}

bool loops_can(const subject *s)
{
    return s->spec.dtype == NATTEN_FP32 && !s->spec.has_bias && !s->spec.extras &&
           !s->spec.has_grad_lse;
}

natten_status loops_run(const subject *s, int threads)
{
    job j = {.task = &s->task};
    NATTEN_TRY(natten_parallel_run(threads, s->task.batch * s->task.heads_kv,
                                   head_of_keys, &j));
    return atomic_load(&j.failed)
               ? natten_status_fail(NATTEN_ERR_MEMORY, "no memory for the loops")
               : NATTEN_OK;
}
