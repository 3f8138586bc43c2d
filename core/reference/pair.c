/* SPDX-License-Identifier: MIT
 *
 * The walks of pair.h, straight from the definition: positions and spans come from
 * geometry/axis.h, everything else is addresses. */
#include "reference/pair.h"

static int32_t residue_of(const natten_axis *axis, int64_t token)
{
    return (int32_t)(token % axis->dilation);
}

/* Fill in what follows from the two positions: places in the tensors, bias entry and
 * slot. */
static void settle(natten_pair *pair)
{
    pair->extra = false;
    pair->slot = 0;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &pair->task->axis[a];
        int32_t i = pair->query_position[a], j = pair->key_position[a];
        const natten_class *c = &pair->axis[a];
        pair->query[a] = c->query_index + (i - c->queries.begin) * axis->dilation;
        pair->key[a] = c->key_index + (j - c->keys.begin) * axis->dilation;
        pair->bias[a] = j - i + axis->window - 1;
        pair->slot = pair->slot * axis->window + j - natten_class_window(c, i).begin;
    }
}

static int64_t window_slots(const natten_task *task)
{
    int64_t slots = 1;
    for (int a = 0; a < 3; a++)
        slots *= task->axis[a].window;
    return slots;
}

/* Step `at` through the box of spans, last axis fastest; false at its end. The state
 * before the first step has at[2] one before its span. */
static bool step(int32_t at[3], const natten_span span[3])
{
    for (int a = 0; a < 3; a++)
        if (span[a].begin >= span[a].end)
            return false;
    for (int a = 2; a >= 0; a--) {
        if (++at[a] < span[a].end)
            return true;
        at[a] = span[a].begin;
    }
    return false;
}

/* Take index (batch, axes, heads) apart, heads fastest. */
static void decode(natten_pair *pair, int64_t index, int64_t heads, bool of_keys)
{
    const natten_task *task = pair->task;
    pair->head = index % heads;
    index /= heads;
    for (int a = 2; a >= 0; a--) {
        const natten_axis *axis = &task->axis[a];
        int32_t count = of_keys ? axis->key_count : axis->query_count;
        int32_t begin = of_keys ? axis->key_begin : axis->query_begin;
        int64_t token = begin + index % count;
        index /= count;
        pair->axis[a] = natten_axis_class(axis, residue_of(axis, token));
        int32_t position = (int32_t)(token / axis->dilation);
        (of_keys ? pair->key_position : pair->query_position)[a] = position;
        (of_keys ? pair->key : pair->query)[a] = (int32_t)(token - begin);
    }
    pair->batch = index;
}

int64_t natten_pair_rows(const natten_task *task)
{
    int64_t rows = task->batch * task->heads;
    for (int a = 0; a < 3; a++)
        rows *= task->axis[a].query_count;
    return rows;
}

int64_t natten_pair_columns(const natten_task *task)
{
    int64_t columns = task->batch * task->heads_kv;
    for (int a = 0; a < 3; a++)
        columns *= task->axis[a].key_count;
    return columns;
}

natten_pair natten_pair_row(const natten_task *task, int64_t index)
{
    natten_pair pair = {.task = task};
    decode(&pair, index, task->heads, false);
    for (int a = 0; a < 3; a++) {
        pair.span[a] = natten_class_keys(&pair.axis[a], pair.query_position[a]);
        pair.key_position[a] = pair.span[a].begin;
    }
    pair.key_position[2]--;
    return pair;
}

bool natten_pair_next_key(natten_pair *pair)
{
    int32_t which = 0;
    if (!pair->extra) {
        if (step(pair->key_position, pair->span)) {
            settle(pair);
            return true;
        }
    } else {
        which = pair->key[2] + 1;
    }
    if (which >= pair->task->extras)
        return false;
    natten_pair_at_extra(pair, which);
    return true;
}

natten_pair natten_pair_column(const natten_task *task, int64_t index)
{
    natten_pair pair = {.task = task};
    decode(&pair, index, task->heads_kv, true);
    pair.head *= task->heads / task->heads_kv;
    for (int a = 0; a < 3; a++) {
        pair.span[a] = natten_class_queries(&pair.axis[a], pair.key_position[a]);
        pair.query_position[a] = pair.span[a].begin;
    }
    pair.query_position[2]--;
    return pair;
}

bool natten_pair_next_query(natten_pair *pair)
{
    int64_t group = pair->task->heads / pair->task->heads_kv;
    while (!step(pair->query_position, pair->span)) {
        pair->head++;
        pair->query_position[2]--; /* step left it at the first position */
        bool empty = false;
        for (int a = 0; a < 3; a++)
            empty = empty || pair->span[a].begin >= pair->span[a].end;
        if (empty || pair->head % group == 0)
            return false;
    }
    settle(pair);
    return true;
}

bool natten_pair_at_bias(natten_pair *pair, const int32_t entry[3])
{
    for (int a = 0; a < 3; a++) {
        int32_t window = pair->task->axis[a].window;
        int32_t j = pair->query_position[a] + entry[a] - (window - 1);
        if (j < pair->span[a].begin || j >= pair->span[a].end)
            return false;
        pair->key_position[a] = j;
    }
    settle(pair);
    return true;
}

void natten_pair_at_extra(natten_pair *pair, int32_t which)
{
    pair->extra = true;
    pair->key[0] = pair->key[1] = 0;
    pair->key[2] = which;
    pair->slot = window_slots(pair->task) + which;
}

natten_pair_vector natten_pair_at_query(const natten_pair *pair, natten_role role)
{
    const natten_view *view = &pair->task->view[role];
    int64_t bytes = (int64_t)natten_dtype_bytes(pair->task->dtype);
    return (natten_pair_vector){
        natten_view_at(view, bytes, pair->batch, pair->query, pair->head), view->item};
}

natten_pair_vector natten_pair_at_key(const natten_pair *pair, natten_role grid,
                                      natten_role extra)
{
    const natten_task *task = pair->task;
    const natten_view *view = &task->view[pair->extra ? extra : grid];
    int64_t bytes = (int64_t)natten_dtype_bytes(task->dtype);
    int64_t head = pair->head / (task->heads / task->heads_kv);
    return (natten_pair_vector){
        natten_view_at(view, bytes, pair->batch, pair->key, head), view->item};
}

double natten_pair_scalar(const natten_pair *pair, natten_role role, double otherwise)
{
    const natten_view *view = &pair->task->view[role];
    if (view->data == NULL)
        return otherwise;
    natten_dtype dtype = pair->task->accumulator;
    return natten_dtype_load(dtype,
                             natten_view_at(view, (int64_t)natten_dtype_bytes(dtype),
                                            pair->batch, pair->query, pair->head),
                             0);
}

double natten_pair_dot(const natten_task *task, natten_pair_vector a,
                       natten_pair_vector b, int64_t count)
{
    double sum = 0;
    for (int64_t d = 0; d < count; d++)
        sum += natten_dtype_load(task->dtype, a.data, d * a.item) *
               natten_dtype_load(task->dtype, b.data, d * b.item);
    return sum;
}

void natten_pair_add(const natten_task *task, double *sum, double factor,
                     natten_pair_vector vector, int64_t count)
{
    for (int64_t d = 0; d < count; d++)
        sum[d] += factor * natten_dtype_load(task->dtype, vector.data, d * vector.item);
}

void natten_pair_store(const natten_task *task, const double *sum,
                       natten_pair_vector vector, int64_t count)
{
    for (int64_t d = 0; d < count; d++)
        natten_dtype_store(task->dtype, vector.data, d * vector.item, sum[d]);
}

double natten_pair_logit(const natten_pair *pair)
{
    const natten_task *task = pair->task;
    natten_pair_vector query = natten_pair_at_query(pair, NATTEN_QUERY);
    natten_pair_vector key =
        natten_pair_at_key(pair, NATTEN_KEY, NATTEN_ADDITIONAL_KEYS);
    double logit = task->scale * natten_pair_dot(task, query, key, task->dim);
    const natten_view *bias = &task->view[NATTEN_BIAS];
    if (bias->data == NULL || pair->extra)
        return logit;
    int64_t bytes = (int64_t)natten_dtype_bytes(task->accumulator);
    return logit +
           natten_dtype_load(task->accumulator,
                             natten_view_at(bias, bytes, 0, pair->bias, pair->head), 0);
}
