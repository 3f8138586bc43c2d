/* SPDX-License-Identifier: MIT
 *
 * The sums of gradients.h.  Every element of a gradient is one sum in double over its
 * own pairs, so nothing is scattered, no large scratch exists and the order of each sum
 * is fixed. */
#include "reference/gradients.h"

#include "base/parallel.h"
#include "base/status.h"

static void clear(double *sum, int64_t count)
{
    for (int64_t d = 0; d < count; d++)
        sum[d] = 0;
}

natten_status natten_gradients_query(const natten_task *task,
                                     natten_gradients_weight *weight, double *sum)
{
    for (int64_t i = 0; i < natten_pair_rows(task); i++) {
        NATTEN_TRY(natten_parallel_poll());
        clear(sum, task->dim);
        double w;
        natten_pair pair = natten_pair_row(task, i);
        while (natten_pair_next_key(&pair))
            if (weight(&pair, &w))
                natten_pair_add(
                    task, sum, task->scale * w,
                    natten_pair_at_key(&pair, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS),
                    task->dim);
        natten_pair_store(task, sum, natten_pair_at_query(&pair, NATTEN_GRAD_QUERY),
                          task->dim);
    }
    return NATTEN_OK;
}

natten_gradients_target natten_gradients_key(const natten_task *task,
                                             natten_gradients_weight *weight)
{
    return (natten_gradients_target){
        NATTEN_GRAD_KEY, NATTEN_GRAD_ADDITIONAL_KEYS,
        NATTEN_QUERY,    task->dim,
        task->scale,     weight,
    };
}

natten_gradients_target natten_gradients_value(const natten_task *task,
                                               natten_gradients_weight *weight)
{
    return (natten_gradients_target){
        NATTEN_GRAD_VALUE,
        NATTEN_GRAD_ADDITIONAL_VALUES,
        NATTEN_GRAD_OUT,
        task->dim_v,
        1,
        weight,
    };
}

static void add_share(const natten_pair *pair, const natten_gradients_target *target,
                      double *sum)
{
    double w;
    if (target->weight(pair, &w))
        natten_pair_add(pair->task, sum, target->factor * w,
                        natten_pair_at_query(pair, target->source), target->count);
}

natten_status natten_gradients_tokens(const natten_task *task,
                                      const natten_gradients_target *target,
                                      double *sum)
{
    for (int64_t j = 0; j < natten_pair_columns(task); j++) {
        NATTEN_TRY(natten_parallel_poll());
        clear(sum, target->count);
        natten_pair pair = natten_pair_column(task, j);
        natten_pair_vector result =
            natten_pair_at_key(&pair, target->grad, target->grad);
        while (natten_pair_next_query(&pair))
            add_share(&pair, target, sum);
        natten_pair_store(task, sum, result, target->count);
    }
    return NATTEN_OK;
}

natten_status natten_gradients_extras(const natten_task *task,
                                      const natten_gradients_target *target,
                                      double *sum)
{
    int64_t group = task->heads / task->heads_kv;
    for (int64_t n = 0; n < task->batch * task->extras * task->heads_kv; n++) {
        int64_t head = n % task->heads_kv * group;
        int64_t rest = n / task->heads_kv, batch = rest / task->extras;
        natten_pair pair = {.task = task, .batch = batch, .head = head};
        natten_pair_at_extra(&pair, (int32_t)(rest % task->extras));
        natten_pair_vector result =
            natten_pair_at_key(&pair, target->grad_extra, target->grad_extra);
        clear(sum, target->count);
        int64_t rows = natten_pair_rows(task) / task->batch;
        for (int64_t i = batch * rows; i < (batch + 1) * rows; i++) {
            NATTEN_TRY(natten_parallel_poll());
            natten_pair row = natten_pair_row(task, i);
            natten_pair_at_extra(&row, pair.key[2]);
            if (row.head >= head && row.head < head + group)
                add_share(&row, target, sum);
        }
        natten_pair_store(task, sum, result, target->count);
    }
    return NATTEN_OK;
}

natten_status natten_gradients_bias(const natten_task *task,
                                    natten_gradients_weight *weight)
{
    const natten_view *bias = &task->view[NATTEN_GRAD_BIAS];
    int64_t bytes = (int64_t)natten_dtype_bytes(task->accumulator);
    int64_t entries = task->heads;
    for (int a = 0; a < 3; a++)
        entries *= 2 * (int64_t)task->axis[a].window - 1;
    for (int64_t n = 0; n < entries; n++) {
        int64_t head = n % task->heads, rest = n / task->heads;
        int32_t entry[3];
        for (int a = 2; a >= 0; a--) {
            int64_t size = 2 * (int64_t)task->axis[a].window - 1;
            entry[a] = (int32_t)(rest % size);
            rest /= size;
        }
        double sum = 0, w;
        for (int64_t i = head; i < natten_pair_rows(task); i += task->heads) {
            NATTEN_TRY(natten_parallel_poll());
            natten_pair pair = natten_pair_row(task, i);
            if (natten_pair_at_bias(&pair, entry) && weight(&pair, &w))
                sum += w;
        }
        natten_dtype_store(task->accumulator,
                           natten_view_at(bias, bytes, 0, entry, head), 0, sum);
    }
    return NATTEN_OK;
}
