/* SPDX-License-Identifier: MIT
 *
 * The judge on qk, av and their gradients (section 8): each result is one plain sum. */
#include "support/court.h"

#include <math.h>

void court_qk(court *c, judgement *j)
{
    (void)j;
    const trial *t = c->t;
    for (int64_t row = 0; row < c->rows; row++) {
        court_see(c, row);
        const double *q = c->in[NATTEN_QUERY] + row * t->spec.dim;
        cell *attn = c->sum[NATTEN_ATTN] + row * c->slots;
        for (int64_t s = 0; s < c->slots; s++)
            attn[s] = (cell){.value = -HUGE_VALL, .exact = true};
        for (int64_t n = 0; n < c->key_count; n++) {
            const seen_key *key = &c->keys[n];
            const double *k =
                court_vector(c, key, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS, t->spec.dim);
            cell x = {.exact = true};
            for (int64_t d = 0; d < t->spec.dim; d++)
                court_add(&x, (long double)c->scale * q[d], 0, &k[d], 1);
            if (c->in[NATTEN_BIAS] != NULL && !key->extra)
                x.value += c->in[NATTEN_BIAS][key->bias];
            /* Rounding scale <q, k> and the sum with the bias. */
            x.error += 2 * c->u * (double)fabsl(x.value);
            attn[key->slot] = x;
        }
    }
}

void court_qk_backward(court *c, judgement *j)
{
    (void)j;
    const trial *t = c->t;
    static const double one = 1;
    for (int64_t row = 0; row < c->rows; row++) {
        court_see(c, row);
        const double *q = c->in[NATTEN_QUERY] + row * t->spec.dim;
        for (int64_t n = 0; n < c->key_count; n++) {
            const seen_key *key = &c->keys[n];
            const double *k =
                court_vector(c, key, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS, t->spec.dim);
            double grad = c->in[NATTEN_GRAD_ATTN][row * c->slots + key->slot];
            long double weight = (long double)c->scale * grad;
            court_add(c->sum[NATTEN_GRAD_QUERY] + row * t->spec.dim, weight, 0, k,
                      t->spec.dim);
            court_add(court_cells(c, key, NATTEN_GRAD_KEY, NATTEN_GRAD_ADDITIONAL_KEYS,
                                  t->spec.dim),
                      weight, 0, q, t->spec.dim);
            if (c->sum[NATTEN_GRAD_BIAS] != NULL && !key->extra)
                court_add(c->sum[NATTEN_GRAD_BIAS] + key->bias, grad, 0, &one, 1);
        }
    }
}

void court_av(court *c, judgement *j)
{
    (void)j;
    const trial *t = c->t;
    for (int64_t row = 0; row < c->rows; row++) {
        court_see(c, row);
        for (int64_t n = 0; n < c->key_count; n++) {
            const seen_key *key = &c->keys[n];
            court_add(c->sum[NATTEN_OUT] + row * t->spec.dim_v,
                      c->in[NATTEN_ATTN][row * c->slots + key->slot], 0,
                      court_vector(c, key, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES,
                                   t->spec.dim_v),
                      t->spec.dim_v);
        }
    }
}

void court_av_backward(court *c, judgement *j)
{
    (void)j;
    const trial *t = c->t;
    for (int64_t row = 0; row < c->rows; row++) {
        court_see(c, row);
        const double *grad = c->in[NATTEN_GRAD_OUT] + row * t->spec.dim_v;
        for (int64_t n = 0; n < c->key_count; n++) {
            const seen_key *key = &c->keys[n];
            const double *value = court_vector(c, key, NATTEN_VALUE,
                                               NATTEN_ADDITIONAL_VALUES, t->spec.dim_v);
            cell *slot = c->sum[NATTEN_GRAD_ATTN] + row * c->slots + key->slot;
            for (int64_t d = 0; d < t->spec.dim_v; d++)
                court_add(slot, grad[d], 0, &value[d], 1);
            court_add(court_cells(c, key, NATTEN_GRAD_VALUE,
                                  NATTEN_GRAD_ADDITIONAL_VALUES, t->spec.dim_v),
                      c->in[NATTEN_ATTN][row * c->slots + key->slot], 0, grad,
                      t->spec.dim_v);
        }
    }
}
