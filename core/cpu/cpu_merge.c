/* SPDX-License-Identifier: MIT
 *
 * natten_merge() and its gradient (definition.md, section 9), the same for every
 * backend on the CPU: a row is a query and head, its result depends on it alone, and
 * threads share out runs of rows.  Sums are in double for every type: the work is one
 * pass over memory, so narrower ones would save nothing.  A partial with lse -inf saw
 * nothing; its out is not read and its gradients are 0. */
#include "cpu/cpu.h"

#include "base/parallel.h"

#include <math.h>

/* Rows of one item of work: enough to make fetching it cheap. */
enum { ITEM_ROWS = 64 };
/* Elements of a row that are summed at once, on the stack. */
enum { STRIP = 64 };

/* Where a row is. */
typedef struct row {
    int64_t batch, head;
    int32_t at[3];
} row;

static row row_of(const natten_merge_task *task, int64_t index)
{
    row r = {.head = index % task->heads};
    index /= task->heads;
    for (int a = 2; a >= 0; a--) {
        r.at[a] = (int32_t)(index % task->extent[a]);
        index /= task->extent[a];
    }
    r.batch = index;
    return r;
}

static void *at_row(natten_view view, natten_dtype dtype, const row *r)
{
    return natten_view_at(&view, (int64_t)natten_dtype_bytes(dtype), r->batch, r->at,
                          r->head);
}

static double lse_of(const natten_merge_task *task, int64_t n, const row *r)
{
    natten_view view = natten_merge_view(&task->lses[n], false);
    return natten_dtype_load(task->accumulator, at_row(view, task->accumulator, r), 0);
}

static void forward_row(const natten_merge_task *task, const row *r)
{
    /* A NaN never is the largest, but makes the sum NaN. */
    double largest = -HUGE_VAL, sum = 0;
    bool empty = true;
    for (int64_t n = 0; n < task->count; n++) {
        double lse = lse_of(task, n, r);
        empty = empty && lse == -HUGE_VAL;
        largest = lse > largest ? lse : largest;
    }
    for (int64_t n = 0; n < task->count && !empty; n++)
        sum += exp(lse_of(task, n, r) - largest);
    double lse = empty ? -HUGE_VAL : largest + log(sum);
    if (task->lse.data != NULL)
        natten_dtype_store(task->accumulator, at_row(task->lse, task->accumulator, r),
                           0, lse);

    void *out = at_row(task->out, task->dtype, r);
    for (int64_t d0 = 0; d0 < task->dim_v; d0 += STRIP) {
        int64_t width = task->dim_v - d0 < STRIP ? task->dim_v - d0 : STRIP;
        double strip[STRIP] = {0};
        for (int64_t n = 0; n < task->count; n++) {
            double partial = lse_of(task, n, r);
            if (partial == -HUGE_VAL)
                continue;
            double weight = exp(partial - largest) / sum;
            natten_view view = natten_merge_view(&task->outputs[n], true);
            const void *from = at_row(view, task->dtype, r);
            for (int64_t d = 0; d < width; d++)
                strip[d] +=
                    weight * natten_dtype_load(task->dtype, from, (d0 + d) * view.item);
        }
        for (int64_t d = 0; d < width; d++)
            natten_dtype_store(task->dtype, out, (d0 + d) * task->out.item, strip[d]);
    }
}

/* <a, b> of a row. */
static double dot(const natten_merge_task *task, natten_view a, natten_view b,
                  const row *r)
{
    const void *x = at_row(a, task->dtype, r), *y = at_row(b, task->dtype, r);
    double sum = 0;
    for (int64_t d = 0; d < task->dim_v; d++)
        sum += natten_dtype_load(task->dtype, x, d * a.item) *
               natten_dtype_load(task->dtype, y, d * b.item);
    return sum;
}

/* With w = exp(lse_n - lse): grad_out_n = w grad_out and
 * grad_lse_n = w (<grad_out, out_n - out> + grad_lse). */
static void backward_row(const natten_merge_task *task, const row *r)
{
    natten_dtype accumulator = task->accumulator;
    double lse = natten_dtype_load(accumulator, at_row(task->lse, accumulator, r), 0);
    double grad_lse = 0;
    if (task->grad_lse.data != NULL)
        grad_lse =
            natten_dtype_load(accumulator, at_row(task->grad_lse, accumulator, r), 0);
    double delta = dot(task, task->grad_out, task->out, r);
    const void *grad_out = at_row(task->grad_out, task->dtype, r);
    for (int64_t n = 0; n < task->count; n++) {
        double partial = lse_of(task, n, r);
        bool empty = partial == -HUGE_VAL || lse == -HUGE_VAL;
        double weight = exp(partial - lse), along = 0;
        if (!empty)
            along = dot(task, task->grad_out,
                        natten_merge_view(&task->outputs[n], true), r);
        natten_view view = natten_merge_view(&task->grad_lses[n], false);
        natten_dtype_store(accumulator, at_row(view, accumulator, r), 0,
                           empty ? 0 : weight * (along - delta + grad_lse));
        view = natten_merge_view(&task->grad_outputs[n], true);
        void *to = at_row(view, task->dtype, r);
        for (int64_t d = 0; d < task->dim_v; d++) {
            double g =
                natten_dtype_load(task->dtype, grad_out, d * task->grad_out.item);
            natten_dtype_store(task->dtype, to, d * view.item, empty ? 0 : weight * g);
        }
    }
}

static int64_t rows_of(const natten_merge_task *task)
{
    return task->batch * task->extent[0] * task->extent[1] * task->extent[2] *
           task->heads;
}

static void run_item(void *context, int64_t item, int thread)
{
    (void)thread;
    const natten_merge_task *task = context;
    int64_t rows = rows_of(task), end = (item + 1) * ITEM_ROWS;
    for (int64_t i = item * ITEM_ROWS; i < (end < rows ? end : rows); i++) {
        row r = row_of(task, i);
        if (task->backward)
            backward_row(task, &r);
        else
            forward_row(task, &r);
    }
}

natten_status natten_cpu_merge(const natten_merge_task *task, int threads)
{
    natten_merge_task copy = *task; /* the pool's context is not const */
    return natten_parallel_run(threads, (rows_of(task) + ITEM_ROWS - 1) / ITEM_ROWS,
                               run_item, &copy);
}
