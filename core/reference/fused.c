/* SPDX-License-Identifier: MIT
 *
 * Forward and backward of the reference (definition.md, sections 6 and 7). Logits are
 * computed anew wherever one is needed, so a row needs no scratch that grows with the
 * window.      */
#include "reference/operations.h"

#include "base/parallel.h"
#include "base/status.h"
#include "reference/gradients.h"

#include <math.h>

/* Sums of one row: largest logit, sum of exp(logit - largest), and that times the
 * values. */
typedef struct row_sums {
    double largest, weights;
    bool saw_nothing; /* every logit is exactly -inf, or there is none */
} row_sums;

static row_sums sum_row(const natten_task *task, int64_t index, double *values)
{
    /* A NaN logit never is the largest, but makes the sums below NaN. */
    row_sums row = {-HUGE_VAL, 0, true};
    natten_pair pair = natten_pair_row(task, index);
    while (natten_pair_next_key(&pair)) {
        double logit = natten_pair_logit(&pair);
        row.saw_nothing = row.saw_nothing && logit == -HUGE_VAL;
        row.largest = logit > row.largest ? logit : row.largest;
    }
    for (int64_t d = 0; d < task->dim_v; d++)
        values[d] = 0;
    if (row.saw_nothing)
        return row;
    pair = natten_pair_row(task, index);
    while (natten_pair_next_key(&pair)) {
        double weight = exp(natten_pair_logit(&pair) - row.largest);
        row.weights += weight;
        natten_pair_add(
            task, values, weight,
            natten_pair_at_key(&pair, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES),
            task->dim_v);
    }
    return row;
}

natten_status natten_reference_forward(const natten_task *task, double *sum)
{
    const natten_view *lse = &task->view[NATTEN_LSE];
    int64_t bytes = (int64_t)natten_dtype_bytes(task->accumulator);
    for (int64_t i = 0; i < natten_pair_rows(task); i++) {
        NATTEN_TRY(natten_parallel_poll());
        row_sums row = sum_row(task, i, sum);
        for (int64_t d = 0; d < task->dim_v && !row.saw_nothing; d++)
            sum[d] /= row.weights;
        natten_pair pair = natten_pair_row(task, i);
        natten_pair_store(task, sum, natten_pair_at_query(&pair, NATTEN_OUT),
                          task->dim_v);
        if (lse->data != NULL)
            natten_dtype_store(
                task->accumulator,
                natten_view_at(lse, bytes, pair.batch, pair.query, pair.head), 0,
                row.saw_nothing ? -HUGE_VAL : row.largest + log(row.weights));
    }
    return NATTEN_OK;
}

/* P of a pair, by the lse that was passed in; a row that saw nothing has no gradient.
 */
static bool weigh_p(const natten_pair *pair, double *p)
{
    double lse = natten_pair_scalar(pair, NATTEN_LSE, 0);
    if (lse == -HUGE_VAL)
        return false;
    *p = exp(natten_pair_logit(pair) - lse);
    return true;
}

static bool weigh_ds(const natten_pair *pair, double *ds)
{
    double p;
    if (!weigh_p(pair, &p))
        return false;
    const natten_task *task = pair->task;
    natten_pair_vector grad = natten_pair_at_query(pair, NATTEN_GRAD_OUT);
    natten_pair_vector out = natten_pair_at_query(pair, NATTEN_OUT);
    natten_pair_vector value =
        natten_pair_at_key(pair, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES);
    double dp = natten_pair_dot(task, grad, value, task->dim_v);
    double delta = natten_pair_dot(task, grad, out, task->dim_v);
    *ds = p * (dp - delta + natten_pair_scalar(pair, NATTEN_GRAD_LSE, 0));
    return true;
}

natten_status natten_reference_backward(const natten_task *task, double *sum)
{
    const natten_view *view = task->view;
    natten_gradients_target key = natten_gradients_key(task, weigh_ds);
    natten_gradients_target value = natten_gradients_value(task, weigh_p);
    if (view[NATTEN_GRAD_QUERY].data != NULL)
        NATTEN_TRY(natten_gradients_query(task, weigh_ds, sum));
    if (view[NATTEN_GRAD_KEY].data != NULL)
        NATTEN_TRY(natten_gradients_tokens(task, &key, sum));
    if (view[NATTEN_GRAD_VALUE].data != NULL)
        NATTEN_TRY(natten_gradients_tokens(task, &value, sum));
    if (view[NATTEN_GRAD_BIAS].data != NULL)
        NATTEN_TRY(natten_gradients_bias(task, weigh_ds));
    if (view[NATTEN_GRAD_ADDITIONAL_KEYS].data != NULL)
        NATTEN_TRY(natten_gradients_extras(task, &key, sum));
    if (view[NATTEN_GRAD_ADDITIONAL_VALUES].data != NULL)
        NATTEN_TRY(natten_gradients_extras(task, &value, sum));
    return NATTEN_OK;
}
