/* SPDX-License-Identifier: MIT
 *
 * The judge on forward and backward: section 6 and 7 with the bounds of section 12. */
#include "support/court.h"

#include <math.h>
#include <stdlib.h>

/* A query's view of one key. */
typedef struct logit {
    long double s; /* scale <q, k> + bias */
    double e;      /* how far off it may be */
    long double p;
} logit;

static logit *take_logits(const court *c)
{
    logit *l = malloc((size_t)(c->slots > 0 ? c->slots : 1) * sizeof *l);
    if (l == NULL)
        abort();
    return l;
}

/* Logits of the present query, their errors; false if all are exactly -inf. */
static bool weigh_logits(const court *c, int64_t row, logit *l)
{
    int64_t dim = c->t->spec.dim;
    const double *q = c->in[NATTEN_QUERY] + row * dim;
    bool any = false;
    for (int64_t n = 0; n < c->key_count; n++) {
        const seen_key *key = &c->keys[n];
        const double *k = court_vector(c, key, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS, dim);
        long double dot = 0;
        double size = 0;
        for (int64_t d = 0; d < dim; d++) {
            dot += (long double)q[d] * k[d];
            size += fabs(q[d] * k[d]);
        }
        l[n].s = c->scale * dot;
        if (c->in[NATTEN_BIAS] != NULL && !key->extra)
            l[n].s += c->in[NATTEN_BIAS][key->bias];
        l[n].e = 0; /* an exact -inf has no error */
        if (l[n].s != -HUGE_VAL) {
            any = true;
            l[n].e = (court_growth(c, dim) + c->u_logit) * fabs(c->scale) * size +
                     6 * c->u * (double)fabsl(l[n].s);
        }
    }
    return any;
}

/* p_j from an lse, and E_i. */
static double weigh_errors(const court *c, logit *l, long double lse)
{
    double all = 0;
    for (int64_t n = 0; n < c->key_count; n++) {
        l[n].p = expl(l[n].s - lse);
        if (l[n].e > 0)
            all += (double)l[n].p * l[n].e;
    }
    return all;
}

/* r_ij. */
static double relative(const court *c, const logit *l, double all)
{
    return expm1(l->e + all) + court_growth(c, c->key_count);
}

static long double lse_of(const court *c, const logit *l)
{
    long double largest = -HUGE_VALL, sum = 0;
    for (int64_t n = 0; n < c->key_count; n++)
        if (l[n].s > largest)
            largest = l[n].s;
    for (int64_t n = 0; n < c->key_count; n++)
        sum += expl(l[n].s - largest);
    return largest + logl(sum);
}

static void forward_row(court *c, judgement *j, int64_t row, logit *l)
{
    const trial *t = c->t;
    court_see(c, row);
    verdict *v = &j->of[NATTEN_LSE];
    cell *out = c->sum[NATTEN_OUT] + row * t->spec.dim_v;
    if (!weigh_logits(c, row, l)) {
        v->value[row] = -HUGE_VALL;
        return;
    }
    long double lse = lse_of(c, l);
    v->value[row] = lse;
    if (isnan(lse)) {
        for (int64_t d = 0; d < t->spec.dim_v; d++)
            out[d] = (cell){.value = lse, .exact = true};
        return;
    }
    double all = weigh_errors(c, l, lse), g = court_growth(c, c->key_count);
    v->bound[row] = all + g + 4 * c->u * (double)fabsl(lse) + c->u;
    for (int64_t n = 0; n < c->key_count; n++) {
        const double *value = court_vector(c, &c->keys[n], NATTEN_VALUE,
                                           NATTEN_ADDITIONAL_VALUES, t->spec.dim_v);
        double error = (double)l[n].p * (relative(c, &l[n], all) + c->u_p[NATTEN_OUT]) +
                       c->eta + c->eta_p[NATTEN_OUT] + c->flush;
        court_add(out, l[n].p, error, value, t->spec.dim_v);
    }
}

void court_forward(court *c, judgement *j)
{
    logit *l = take_logits(c);
    for (int64_t row = 0; row < c->rows; row++)
        forward_row(c, j, row, l);
    free(l);
}

/* <a, b> and the sum of its absolute terms. */
static long double dot(const double *a, const double *b, int64_t count, double *size)
{
    long double sum = 0;
    *size = 0;
    for (int64_t d = 0; d < count; d++) {
        sum += (long double)a[d] * b[d];
        *size += fabs(a[d] * b[d]);
    }
    return sum;
}

/* What E_i lacks where keys that lse was made of are not in the part.
 *
 * Backward takes lse as given and computes exp(s_j - lse).  Beyond what e_ij has for
 * s_j, rounding lse log2 e and the subtraction err by u |lse| each.  Let P = sum p_j
 * and H = sum -p_j ln p_j.  As s_j = lse + ln p_j, sum p_j s_j = P lse - H, so
 * P |lse| <= sum p_j |s_j| + |H|.  The first is in E_i six times.  H is P times the
 * entropy of the p_j / P, which is in [0, ln n_i], less P ln P.  Where P <= 1, that is
 * in [0, ln n_i + 1].  Where rounding lse has made P a little more than 1, H may be
 * negative, but |H| <= P max(ln n_i, ln P).  Twice u of either is in g(n_i).
 *
 * The share max(0, 1 - P) |lse| of the keys that aren't there is in neither.  In a row
 * that has all its keys P is 1, in one with P > 1 |lse| <= P |lse|: nothing is lacking.
 */
static double missing_errors(const court *c, const logit *l, long double lse)
{
    long double missing = 1;
    for (int64_t n = 0; n < c->key_count; n++)
        missing -= l[n].p;
    return missing > 0 ? 2 * c->u * (double)(missing * fabsl(lse)) : 0;
}

/* Error of scale dS as a factor of a result's terms. */
static double scaled_error(const court *c, natten_role role, long double ds,
                           double ds_error)
{
    double rounding = c->u_p[role] * (double)fabsl(ds) + c->eta_p[role];
    return fabs(c->scale) * (ds_error + rounding);
}

static void backward_row(court *c, int64_t row, logit *l)
{
    const trial *t = c->t;
    double lse = c->in[NATTEN_LSE][row];
    if (lse == -HUGE_VAL)
        return; /* the row saw nothing: zero gradients */
    court_see(c, row);
    weigh_logits(c, row, l);
    double u = c->u, size, all = weigh_errors(c, l, lse);
    all += missing_errors(c, l, lse);
    const double *q = c->in[NATTEN_QUERY] + row * t->spec.dim;
    const double *grad = c->in[NATTEN_GRAD_OUT] + row * t->spec.dim_v;
    long double delta =
        dot(grad, c->in[NATTEN_OUT] + row * t->spec.dim_v, t->spec.dim_v, &size);
    double delta_error = court_growth(c, t->spec.dim_v) * size;
    double grad_lse = c->in[NATTEN_GRAD_LSE] ? c->in[NATTEN_GRAD_LSE][row] : 0;
    for (int64_t n = 0; n < c->key_count; n++) {
        const seen_key *key = &c->keys[n];
        const double *k =
            court_vector(c, key, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS, t->spec.dim);
        const double *value =
            court_vector(c, key, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES, t->spec.dim_v);
        double p = (double)l[n].p, r = relative(c, &l[n], all);
        double p_flush = c->eta + c->flush;
        long double dp = dot(grad, value, t->spec.dim_v, &size);
        double dp_error = court_growth(c, t->spec.dim_v) * size;
        long double ds = l[n].p * (dp - delta + grad_lse);
        double parts = (double)(fabsl(dp) + fabsl(delta)) + fabs(grad_lse);
        double ds_error = (double)fabsl(ds) * (r + 2 * u) +
                          p * (dp_error + delta_error + u * parts) + p_flush * parts +
                          4 * c->eta;
        court_add(c->sum[NATTEN_GRAD_QUERY] + row * t->spec.dim, c->scale * ds,
                  scaled_error(c, NATTEN_GRAD_QUERY, ds, ds_error), k, t->spec.dim);
        court_add(court_cells(c, key, NATTEN_GRAD_KEY, NATTEN_GRAD_ADDITIONAL_KEYS,
                              t->spec.dim),
                  c->scale * ds, scaled_error(c, NATTEN_GRAD_KEY, ds, ds_error), q,
                  t->spec.dim);
        court_add(court_cells(c, key, NATTEN_GRAD_VALUE, NATTEN_GRAD_ADDITIONAL_VALUES,
                              t->spec.dim_v),
                  l[n].p,
                  p * (r + c->u_p[NATTEN_GRAD_VALUE]) + p_flush +
                      c->eta_p[NATTEN_GRAD_VALUE],
                  grad, t->spec.dim_v);
        static const double one = 1;
        double bias_rounding =
            c->u_p[NATTEN_GRAD_BIAS] * (double)fabsl(ds) + c->eta_p[NATTEN_GRAD_BIAS];
        if (c->sum[NATTEN_GRAD_BIAS] != NULL && !key->extra)
            court_add(c->sum[NATTEN_GRAD_BIAS] + key->bias, ds,
                      ds_error + bias_rounding, &one, 1);
    }
}

void court_backward(court *c, judgement *j)
{
    (void)j;
    logit *l = take_logits(c);
    for (int64_t row = 0; row < c->rows; row++)
        backward_row(c, row, l);
    free(l);
}
