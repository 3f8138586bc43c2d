/* SPDX-License-Identifier: MIT
 *
 * The unfused pair of the reference and its gradients (definition.md, section 8).  A
 * slot that no visible key fills is written with its constant and never read. */
#include "reference/operations.h"

#include "base/parallel.h"
#include "base/status.h"
#include "reference/gradients.h"

#include <math.h>

/* The value of a visible pair's slot. */
typedef double slot_value(const natten_pair *pair);

/* Write all rows of attn or grad_attn: `empty` in empty slots, `value` in the others.
 */
static natten_status write_slots(const natten_task *task, natten_role role,
                                 double empty, slot_value *value)
{
    int64_t slots = natten_task_slots(task);
    for (int64_t i = 0; i < natten_pair_rows(task); i++) {
        NATTEN_TRY(natten_parallel_poll());
        natten_pair pair = natten_pair_row(task, i);
        natten_pair_vector row = natten_pair_at_query(&pair, role);
        for (int64_t t = 0; t < slots; t++)
            natten_dtype_store(task->dtype, row.data, t * row.item, empty);
        while (natten_pair_next_key(&pair))
            natten_dtype_store(task->dtype, row.data, pair.slot * row.item,
                               value(&pair));
    }
    return NATTEN_OK;
}

static double load_slot(const natten_pair *pair, natten_role role)
{
    natten_pair_vector row = natten_pair_at_query(pair, role);
    return natten_dtype_load(pair->task->dtype, row.data, pair->slot * row.item);
}

static bool weigh_attn(const natten_pair *pair, double *weight)
{
    *weight = load_slot(pair, NATTEN_ATTN);
    return true;
}

static bool weigh_grad_attn(const natten_pair *pair, double *weight)
{
    *weight = load_slot(pair, NATTEN_GRAD_ATTN);
    return true;
}

static double grad_times_value(const natten_pair *pair)
{
    return natten_pair_dot(
        pair->task, natten_pair_at_query(pair, NATTEN_GRAD_OUT),
        natten_pair_at_key(pair, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES),
        pair->task->dim_v);
}

natten_status natten_reference_qk(const natten_task *task, double *sum)
{
    (void)sum;
    return write_slots(task, NATTEN_ATTN, -HUGE_VAL, natten_pair_logit);
}

natten_status natten_reference_qk_backward(const natten_task *task, double *sum)
{
    const natten_view *view = task->view;
    natten_gradients_target key = natten_gradients_key(task, weigh_grad_attn);
    if (view[NATTEN_GRAD_QUERY].data != NULL)
        NATTEN_TRY(natten_gradients_query(task, weigh_grad_attn, sum));
    if (view[NATTEN_GRAD_KEY].data != NULL)
        NATTEN_TRY(natten_gradients_tokens(task, &key, sum));
    if (view[NATTEN_GRAD_BIAS].data != NULL)
        NATTEN_TRY(natten_gradients_bias(task, weigh_grad_attn));
    if (view[NATTEN_GRAD_ADDITIONAL_KEYS].data != NULL)
        NATTEN_TRY(natten_gradients_extras(task, &key, sum));
    return NATTEN_OK;
}

natten_status natten_reference_av(const natten_task *task, double *sum)
{
    for (int64_t i = 0; i < natten_pair_rows(task); i++) {
        NATTEN_TRY(natten_parallel_poll());
        for (int64_t d = 0; d < task->dim_v; d++)
            sum[d] = 0;
        natten_pair pair = natten_pair_row(task, i);
        while (natten_pair_next_key(&pair))
            natten_pair_add(
                task, sum, load_slot(&pair, NATTEN_ATTN),
                natten_pair_at_key(&pair, NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES),
                task->dim_v);
        natten_pair_store(task, sum, natten_pair_at_query(&pair, NATTEN_OUT),
                          task->dim_v);
    }
    return NATTEN_OK;
}

natten_status natten_reference_av_backward(const natten_task *task, double *sum)
{
    const natten_view *view = task->view;
    natten_gradients_target value = natten_gradients_value(task, weigh_attn);
    if (view[NATTEN_GRAD_ATTN].data != NULL)
        NATTEN_TRY(write_slots(task, NATTEN_GRAD_ATTN, 0, grad_times_value));
    if (view[NATTEN_GRAD_VALUE].data != NULL)
        NATTEN_TRY(natten_gradients_tokens(task, &value, sum));
    if (view[NATTEN_GRAD_ADDITIONAL_VALUES].data != NULL)
        NATTEN_TRY(natten_gradients_extras(task, &value, sum));
    return NATTEN_OK;
}
