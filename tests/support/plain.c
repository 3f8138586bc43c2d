/* SPDX-License-Identifier: MIT
 *
 * The plain 16-bit computation, see plain.h. */
#include "support/plain.h"

#include "support/court.h"

#include <stdlib.h>

/* Round to the trial's type. */
static float rounded(const court *c, float x)
{
    uint16_t bits;
    natten_dtype_store(c->t->spec.dtype, &bits, 0, (double)x);
    return (float)natten_dtype_load(c->t->spec.dtype, &bits, 0);
}

static float dot(const double *a, const double *b, int64_t count)
{
    float sum = 0;
    for (int64_t d = 0; d < count; d++)
        sum += (float)a[d] * (float)b[d];
    return sum;
}

/* S of every key of a row. */
static void logits(const court *c, int64_t row, float *s)
{
    int64_t dim = c->t->spec.dim;
    for (int64_t n = 0; n < c->key_count; n++) {
        const seen_key *key = &c->keys[n];
        float x =
            (float)c->scale *
            dot(c->in[NATTEN_QUERY] + row * dim,
                court_vector(c, key, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS, dim), dim);
        if (c->in[NATTEN_BIAS] != NULL && !key->extra)
            x += (float)c->in[NATTEN_BIAS][key->bias];
        s[n] = rounded(c, x);
    }
}

static void add(float *sum, float weight, const double *x, int64_t count)
{
    for (int64_t d = 0; d < count; d++)
        sum[d] += weight * (float)x[d];
}

static float *take(int64_t count)
{
    float *memory = calloc((size_t)(count > 0 ? count : 1), sizeof *memory);
    if (memory == NULL)
        abort();
    return memory;
}

static void store(array *a, const float *values)
{
    for (int64_t i = 0; i < array_count(a); i++)
        array_set(a, i, (double)values[i]);
}

static void forward(court *c, array *to)
{
    int64_t dim_v = c->t->spec.dim_v;
    float *out = take(array_count(to)), *s = take(c->slots);
    for (int64_t row = 0; row < c->rows; row++) {
        court_see(c, row);
        logits(c, row, s);
        float largest = -HUGE_VALF, sum = 0;
        for (int64_t n = 0; n < c->key_count; n++)
            largest = s[n] > largest ? s[n] : largest;
        for (int64_t n = 0; n < c->key_count; n++)
            sum += expf(s[n] - largest);
        for (int64_t n = 0; n < c->key_count; n++)
            add(out + row * dim_v, rounded(c, expf(s[n] - largest) / sum),
                court_vector(c, &c->keys[n], NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES,
                             dim_v),
                dim_v);
    }
    store(to, out);
    free(out);
    free(s);
}

static void backward(court *c, trial *t)
{
    const natten_role roles[3] = {NATTEN_GRAD_QUERY, NATTEN_GRAD_KEY,
                                  NATTEN_GRAD_VALUE};
    int64_t dim = t->spec.dim, dim_v = t->spec.dim_v;
    float *grad[3], *s = take(c->slots), scale = (float)c->scale;
    for (int r = 0; r < 3; r++)
        grad[r] = take(array_count(&t->array[roles[r]]));
    for (int64_t row = 0; row < c->rows; row++) {
        court_see(c, row);
        logits(c, row, s);
        const double *grad_out = c->in[NATTEN_GRAD_OUT] + row * dim_v;
        const double *grad_lse = c->in[NATTEN_GRAD_LSE];
        float delta = dot(grad_out, c->in[NATTEN_OUT] + row * dim_v, dim_v);
        if (grad_lse != NULL)
            delta -= (float)grad_lse[row];
        for (int64_t n = 0; n < c->key_count; n++) {
            const seen_key *key = &c->keys[n];
            const double *k =
                court_vector(c, key, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS, dim);
            const double *v =
                court_vector(c, key, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES, dim_v);
            float p = rounded(c, expf(s[n] - (float)c->in[NATTEN_LSE][row]));
            float ds = rounded(c, p * (rounded(c, dot(grad_out, v, dim_v)) - delta));
            add(grad[0] + row * dim, scale * ds, k, dim);
            if (key->extra)
                continue;
            add(grad[1] + key->row * dim, scale * ds, c->in[NATTEN_QUERY] + row * dim,
                dim);
            add(grad[2] + key->row * dim_v, p, grad_out, dim_v);
        }
    }
    for (int r = 0; r < 3; r++) {
        store(&t->array[roles[r]], grad[r]);
        free(grad[r]);
    }
    free(s);
}

void plain_run(trial *t)
{
    court c;
    court_open(&c, t);
    if (t->spec.operation == NATTEN_FORWARD)
        forward(&c, &t->array[NATTEN_OUT]);
    else
        backward(&c, t);
    court_close(&c);
}
