/* SPDX-License-Identifier: MIT
 *
 * The judge on merge, see judge_merge.h. With w_n = exp(lse_n - lse) in the place of p
 * and the rounding of lse_n - lse as the only error of its exponent, the bounds are
 * those of forward and backward. */
#include "support/judge_merge.h"

#include "support/court.h"

#include <math.h>

/* What the weights of a row's partials are and how far off they may be. */
typedef struct row_weights {
    natten_dtype accumulator;
    double u, g;     /* roundoff; growth over the partials */
    double all;      /* E */
    long double lse; /* -inf: all partials are empty */
} row_weights;

static double exponent_error(const row_weights *w, double lse)
{
    return 6 * w->u * fabs(lse);
}

static row_weights weigh(const merge_inputs *in, int64_t row, const double *given)
{
    row_weights w = {.accumulator = in->lses[0].dtype, .lse = -HUGE_VALL};
    w.u = court_roundoff(w.accumulator);
    w.g = (6 * sqrt((double)in->count) + 8) * w.u;
    long double largest = -HUGE_VALL, sum = 0;
    bool empty = true;
    for (int n = 0; n < in->count; n++) {
        double lse = array_get(&in->lses[n], row);
        empty = empty && lse == -HUGE_VAL;
        if (lse > largest)
            largest = lse;
    }
    if (empty)
        return w;
    for (int n = 0; n < in->count; n++)
        sum += expl(array_get(&in->lses[n], row) - largest);
    w.lse = given != NULL ? *given : largest + logl(sum);
    for (int n = 0; n < in->count; n++) {
        double lse = array_get(&in->lses[n], row);
        if (lse != -HUGE_VAL)
            w.all += (double)expl(lse - w.lse) * exponent_error(&w, lse);
    }
    return w;
}

static double relative(const row_weights *w, double lse)
{
    return expm1(exponent_error(w, lse) + w->all) + w->g;
}

/* Rounding to the stored type, and underflow in `terms` products. */
static double rounding(natten_dtype dtype, natten_dtype accumulator, long double value,
                       int terms)
{
    return court_roundoff(dtype) * (double)fabsl(value) + court_subnormal(dtype) +
           (terms + 4) * court_subnormal(accumulator);
}

static void put(verdict *v, int64_t i, long double value, double bound)
{
    v->value[i] = value;
    v->bound[i] = isfinite(value) ? bound : HUGE_VAL;
}

void judge_merge(const merge_inputs *in, verdict *out, verdict *lse)
{
    const array *first = &in->outputs[0];
    int64_t rows = array_count(&in->lses[0]), width = array_count(first) / rows;
    judge_verdict_make(out, first->dtype, rows * width);
    judge_verdict_make(lse, in->lses[0].dtype, rows);
    for (int64_t row = 0; row < rows; row++) {
        row_weights w = weigh(in, row, NULL);
        lse->value[row] = w.lse;
        if (!isfinite(
                w.lse)) { /* exactly this; out is then NaN, or 0 where all is empty */
            for (int64_t d = 0; d < width && isnan(w.lse); d++)
                out->value[row * width + d] = w.lse;
            continue;
        }
        lse->bound[row] = w.all + w.g + 4 * w.u * (double)fabsl(w.lse) + w.u;
        for (int64_t d = 0; d < width; d++) {
            long double value = 0;
            double error = 0,
                   lost = court_subnormal(w.accumulator) + court_flush(w.accumulator);
            for (int n = 0; n < in->count; n++) {
                double partial = array_get(&in->lses[n], row);
                if (partial == -HUGE_VAL)
                    continue;
                double x = array_get(&in->outputs[n], row * width + d);
                long double weight = expl(partial - w.lse);
                value += weight * x;
                error +=
                    fabs(x) * ((double)weight * (relative(&w, partial) + w.g) + lost);
            }
            put(out, row * width + d, value,
                error + rounding(out->dtype, w.accumulator, value, in->count));
        }
    }
}

/* <a, b> of a row and the sum of its absolute terms. */
static long double dot(const array *a, const array *b, int64_t row, int64_t width,
                       double *size)
{
    long double sum = 0;
    *size = 0;
    for (int64_t i = row * width; i < (row + 1) * width; i++) {
        double x = array_get(a, i), y = array_get(b, i);
        sum += (long double)x * y;
        *size += fabs(x * y);
    }
    return sum;
}

static void backward_partial(const merge_inputs *in, int64_t row, int n,
                             verdict *grad_out, verdict *grad_lse)
{
    int64_t width = grad_out->count / grad_lse->count;
    double given = array_get(in->lse, row), partial = array_get(&in->lses[n], row);
    if (partial == -HUGE_VAL || given == -HUGE_VAL)
        return; /* zero gradients */
    row_weights w = weigh(in, row, &given);
    long double weight = expl(partial - w.lse);
    double r = relative(&w, partial), size_n, size;
    double lost = court_subnormal(w.accumulator) + court_flush(w.accumulator);
    double g = (6 * sqrt((double)width) + 8) * w.u;
    long double along = dot(in->grad_out, &in->outputs[n], row, width, &size_n);
    long double delta = dot(in->grad_out, in->out, row, width, &size);
    double extra = in->grad_lse != NULL ? array_get(in->grad_lse, row) : 0;
    long double ds = weight * (along - delta + extra);
    double parts = (double)(fabsl(along) + fabsl(delta)) + fabs(extra);
    double error = (double)fabsl(ds) * (r + 2 * w.u) +
                   (double)weight * (g * (size_n + size) + w.u * parts) + lost * parts;
    put(grad_lse, row, ds, error + rounding(grad_lse->dtype, w.accumulator, ds, 1));
    for (int64_t i = row * width; i < (row + 1) * width; i++) {
        double x = array_get(in->grad_out, i);
        put(grad_out, i, weight * x,
            fabs(x) * ((double)weight * r + lost) +
                rounding(grad_out->dtype, w.accumulator, weight * x, 1));
    }
}

void judge_merge_backward(const merge_inputs *in, verdict *grad_outputs,
                          verdict *grad_lses)
{
    for (int n = 0; n < in->count; n++) {
        judge_verdict_make(&grad_outputs[n], in->outputs[n].dtype,
                           array_count(&in->outputs[n]));
        judge_verdict_make(&grad_lses[n], in->lses[n].dtype, array_count(&in->lses[n]));
        for (int64_t row = 0; row < grad_lses[n].count; row++)
            backward_partial(in, row, n, &grad_outputs[n], &grad_lses[n]);
    }
}
