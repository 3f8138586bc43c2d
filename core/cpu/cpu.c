/* SPDX-License-Identifier: MIT
 *
 * The CPU backend's choose and run: choose says how large a job's workspace is, run
 * schedules the items of its passes.
 *
 * Sums that many items add to (grad_bias, extra tokens) are made in slices: partial
 * sums, their number fixed by the problem, each of which gets its items one after
 * another.  A run of the scheduler gives every slice one item, so no two items of a run
 * share a sum, and the order within a slice is fixed: the bits don't depend on threads.
 * Items of GRAD_ALL, which have an order of their own (cpu_share.h), have a slice of
 * grad_bias each, for as many of them as there is room for at a time. */
#include "cpu/cpu.h"

#include "base/parallel.h"
#include "base/status.h"
#include "cpu/cpu_job.h"
#include "cpu/cpu_tile.h"
#include "cpu/cpu_work.h"

#include <stddef.h>
#include <string.h>

typedef natten_cpu_job job;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- choose ---------------------------------------------------------------------- */

static natten_status choose(const natten_task *task, const natten_machine *machine,
                            natten_choice *choice)
{
    enum { LONGEST_EXACT = 1 << 24 }; /* of slots counted in a float */
    if (task->accumulator == NATTEN_FP32 && task->axis[2].window > LONGEST_EXACT)
        return natten_status_fail(
            NATTEN_ERR_UNSUPPORTED,
            "the cpu backend takes kernel_size up to %d on the last "
            "axis in fp32, not %d",
            LONGEST_EXACT, task->axis[2].window);
    natten_variant variant = machine->variant;
    const natten_cpu_kernels *kernels;
    while (!(kernels = natten_cpu_pass_kernels(variant, task->accumulator)))
        variant--; /* the scalar ones always exist */
    memset(choice, 0, offsetof(natten_choice, job));
    choice->variant = variant;
    choice->tile[0] = choice->tile[1] = choice->tile[2] = choice->threads = 1;
    choice->work = 1;
    if (task->batch == 0)
        return NATTEN_OK;
    job j;
    natten_cpu_job_make(&j, task, kernels, machine);
    natten_cpu_job_keep(&j, choice);
    choice->items = most(1, j.items);
    choice->threads = j.threads;
    choice->workspace_bytes = j.delta_bytes + j.sums_bytes + j.shared_bytes +
                              j.progress_bytes +
                              (size_t)choice->threads * j.scratch_bytes;
    if (j.passes > 0) {
        for (int a = 0; a < 3; a++)
            choice->tile[j.pass[0].order[a]] = j.pass[0].tile[a];
        if (task->sketch)
            choice->work = natten_cpu_work_share(&j.pass[0], j.kernels);
    }
    return NATTEN_OK;
}

/* ---- run ------------------------------------------------------------------------- */

static void *scratch_of(const job *j, int thread)
{
    return j->scratch + (size_t)thread * j->scratch_bytes;
}

/* Threads take items in turn, so that a thread's next is likely as many items on as
 * there are threads. */
static int64_t next_of(const job *j, int64_t item)
{
    return item + j->threads;
}

static natten_cpu_item item_at(const job *j, int64_t item)
{
    return (natten_cpu_item){.head = item % j->now->heads,
                             .combo = item / j->now->heads};
}

static void one_item(void *context, int64_t item, int thread)
{
    const job *j = context;
    natten_cpu_item at = item_at(j, item), next = item_at(j, next_of(j, item));
    if (next_of(j, item) < j->now->heads * j->now->combos)
        at.next = &next;
    j->kernels->walk(j->now, &at, scratch_of(j, thread));
}

/* GRAD_ALL: where an item sums the gradient of the bias. */
static char *item_slice(const job *j, int64_t slice)
{
    return (char *)j->now->sums.data +
           slice * j->now->slice_elements * (int64_t)j->kernels->real_bytes;
}

static void one_item_of_run(void *context, int64_t item, int thread)
{
    const job *j = context;
    natten_cpu_item at = natten_cpu_share_item(j->now, &j->share, item), next;
    if (j->now->wants_sums) {
        at.sums = item_slice(j, natten_cpu_share_slice(j->now, &j->share, &at));
        memset(at.sums, 0, (size_t)j->now->slice_elements * j->kernels->real_bytes);
    }
    if (next_of(j, item) < natten_cpu_share_items(j->now, &j->share)) {
        next = natten_cpu_share_item(j->now, &j->share, next_of(j, item));
        at.next = &next;
    }
    j->kernels->walk(j->now, &at, scratch_of(j, thread));
}

static void clear_piece(void *context, int64_t item, int thread)
{
    (void)thread;
    const job *j = context;
    natten_cpu_share_clear(j->now, item, (int64_t)j->kernels->real_bytes);
}

static void round_piece(void *context, int64_t item, int thread)
{
    (void)thread;
    const job *j = context;
    natten_cpu_share_round(j->now, &j->share, item, j->kernels);
}

/* Entry i of the bias, in the order of the axes. */
static void bias_entry_at(const natten_task *task, int64_t i, int32_t at[3])
{
    for (int a = 2; a >= 0; a--) {
        int64_t extent = 2 * (int64_t)task->axis[a].window - 1;
        at[a] = (int32_t)(i % extent);
        i /= extent;
    }
}

static void *bias_at(const job *j, int64_t i, int64_t head)
{
    int32_t at[3];
    bias_entry_at(j->task, i, at);
    return natten_view_at(&j->task->view[NATTEN_GRAD_BIAS],
                          (int64_t)j->kernels->real_bytes, 0, at, head);
}

enum { ENTRIES_IN_PIECE = 256 };

static int64_t bias_pieces(const job *j)
{
    int64_t entries = natten_cpu_job_bias_entries(j->task);
    return (entries + ENTRIES_IN_PIECE - 1) / ENTRIES_IN_PIECE;
}

/* Some entries of a head become the sums of its slices, which follow one another from
 * `from` on, in their order, added to what is there or not. */
static void merge_slices(const job *j, int64_t head, int64_t piece, const char *from,
                         int64_t slices, bool add)
{
    natten_dtype type = j->task->accumulator;
    int64_t bytes = j->now->slice_elements * (int64_t)j->kernels->real_bytes;
    int64_t begin = piece * ENTRIES_IN_PIECE;
    int64_t n = least(ENTRIES_IN_PIECE, natten_cpu_job_bias_entries(j->task) - begin);
    double sum[ENTRIES_IN_PIECE] = {0};
    for (int64_t i = 0; i < n && add; i++)
        sum[i] = natten_dtype_load(type, bias_at(j, begin + i, head), 0);
    for (int64_t s = 0; s < slices; s++, from += bytes)
        for (int64_t i = 0; i < n; i++)
            sum[i] += natten_dtype_load(type, from, begin + i);
    for (int64_t i = 0; i < n; i++)
        natten_dtype_store(type, bias_at(j, begin + i, head), 0, sum[i]);
}

/* What a head's items of a run have summed; the first run has its first batch item. */
static void merge_items(void *context, int64_t item, int thread)
{
    (void)thread;
    const job *j = context;
    const natten_cpu_pass *p = j->now;
    natten_cpu_heads h = natten_cpu_share_heads(p, &j->share);
    int64_t head = item / bias_pieces(j);
    bool is_first = j->share.first * p->share < p->heads;
    merge_slices(j, h.first + head, item % bias_pieces(j),
                 item_slice(j, head * h.items), h.items, !is_first);
}

/* A run of GRAD_ALL for so many units as there is room for. */
static natten_status run_all(job *j)
{
    const natten_cpu_pass *p = j->now;
    int64_t units = p->task->batch * p->task->heads_kv;
    if (p->progress)
        memset(p->progress, 0, j->progress_bytes);
    for (int64_t first = 0; first < units; first += j->share.units) {
        natten_cpu_share_take(p, &j->share, first, j->units_at_a_time);
        int64_t pieces = natten_cpu_share_pieces(p, &j->share);
        /* Sums in the workspace are a run's own, tensors all runs'. */
        if (!p->stores && (first == 0 || p->unit_elements > 0))
            NATTEN_TRY(natten_parallel_run(j->threads, pieces, clear_piece, j));
        int64_t items = natten_cpu_share_items(p, &j->share);
        NATTEN_TRY(natten_parallel_run(j->threads, items, one_item_of_run, j));
        if (p->wants_sums)
            NATTEN_TRY(natten_parallel_run(
                j->threads, natten_cpu_share_heads(p, &j->share).count * bias_pieces(j),
                merge_items, j));
        if (p->unit_elements > 0 && !p->at_once)
            NATTEN_TRY(natten_parallel_run(j->threads, pieces, round_piece, j));
    }
    return NATTEN_OK;
}

/* The next item of a slice; false if it has no more. `sum` counts heads, or batch items
 * and heads of extra tokens. */
static bool next_item(const job *j, int64_t sum, int64_t slice, natten_cpu_item *item)
{
    int64_t combo = slice * j->rounds + j->round;
    *item = (natten_cpu_item){.head = sum % j->now->heads,
                              .combo = sum / j->now->heads * j->combos + combo};
    return combo < j->combos;
}

/* Where the gradient of the bias is summed: slice and head. */
static char *bias_slice(const job *j, int64_t slice, int64_t head)
{
    const natten_view *v = &j->now->sums;
    return (char *)v->data +
           (slice * v->batch + head * v->head) * (int64_t)j->kernels->real_bytes;
}

static void one_bias_slice(void *context, int64_t item, int thread)
{
    const job *j = context;
    int64_t slice = item % j->now->slices, head = item / j->now->slices;
    natten_cpu_item at;
    if (!next_item(j, head, slice, &at))
        return;
    at.sums = bias_slice(j, slice, head);
    j->kernels->walk(j->now, &at, scratch_of(j, thread));
}

static char *extra_slice(const job *j, int64_t slice, int64_t sum)
{
    const natten_cpu_pass *p = j->now;
    int64_t index = (sum - j->first_sum) * p->slices + slice;
    return j->sums + (size_t)(index * p->slice_elements) * j->kernels->real_bytes;
}

static void one_extra_slice(void *context, int64_t item, int thread)
{
    const job *j = context;
    int64_t slice = item % j->now->slices, sum = j->first_sum + item / j->now->slices;
    natten_cpu_item at;
    if (!next_item(j, sum, slice, &at))
        return;
    at.sums = extra_slice(j, slice, sum);
    at.extra_begin = j->first_extra;
    j->kernels->extra(j->now, &at, scratch_of(j, thread));
}

static void clear_bias(void *context, int64_t head, int thread)
{
    (void)thread;
    const job *j = context;
    for (int64_t i = 0; i < j->now->slice_elements; i++)
        natten_dtype_store(j->task->accumulator, bias_at(j, i, head), 0, 0);
}

static void merge_bias(void *context, int64_t item, int thread)
{
    (void)thread;
    const job *j = context;
    int64_t head = item / bias_pieces(j);
    merge_slices(j, head, item % bias_pieces(j), bias_slice(j, 0, head), j->now->slices,
                 false);
}

static natten_status run_bias(job *j)
{
    const natten_cpu_pass *p = j->now;
    bool direct = p->slices == 1;
    j->combos = p->combos;
    j->rounds = (j->combos + p->slices - 1) / p->slices;
    if (direct)
        NATTEN_TRY(natten_parallel_run(j->threads, p->heads, clear_bias, j));
    else
        memset(j->sums, 0, j->sums_bytes);
    for (j->round = 0; j->round < j->rounds; j->round++)
        NATTEN_TRY(
            natten_parallel_run(j->threads, p->heads * p->slices, one_bias_slice, j));
    return direct ? NATTEN_OK
                  : natten_parallel_run(j->threads, p->heads * bias_pieces(j),
                                        merge_bias, j);
}

/* From the panels of cpu_extra.h to the tensors: extra token `m` of a sum. */
static void merge_token(const job *j, int64_t sum, int64_t m)
{
    const natten_task *t = j->task;
    const natten_cpu_pass *p = j->now;
    int64_t lanes = j->kernels->lanes, k = m - j->first_extra, lane = k % lanes;
    int64_t panel = (k - lane) * natten_cpu_job_extra_elements(j),
            dims[2] = {t->dim, t->dim_v};
    for (int i = 0; i < 2; i++) {
        int64_t padded = natten_cpu_padded(dims[i], lanes);
        const natten_view *v = &p->result[i];
        for (int64_t d = 0; d < dims[i] && p->wants[i]; d++) {
            double total = 0;
            for (int64_t s = 0; s < p->slices; s++)
                total += natten_dtype_load(t->accumulator, extra_slice(j, s, sum),
                                           panel + lane * padded + d);
            int64_t to = sum / p->heads * v->batch + sum % p->heads * v->head +
                         m * v->axis[2] + d * v->item;
            natten_dtype_store(t->dtype, v->data, to, total * p->result_factor[i]);
        }
        panel += padded * lanes;
    }
}

static void merge_extra(void *context, int64_t item, int thread)
{
    (void)thread;
    const job *j = context;
    int64_t end = least(j->task->extras, j->first_extra + j->now->extra_tokens);
    for (int64_t m = j->first_extra; m < end; m++)
        merge_token(j, j->first_sum + item, m);
}

static natten_status run_extras(job *j)
{
    const natten_cpu_pass *p = j->now;
    int64_t sums = p->heads * j->task->batch;
    j->combos = p->combos / j->task->batch;
    j->rounds = (j->combos + p->slices - 1) / p->slices;
    for (j->first_extra = 0; j->first_extra < j->task->extras;
         j->first_extra += p->extra_tokens)
        for (j->first_sum = 0; j->first_sum < sums; j->first_sum += j->sums_at_a_time) {
            int64_t now = least(j->sums_at_a_time, sums - j->first_sum);
            memset(j->sums, 0,
                   (size_t)(now * p->slices * p->slice_elements) *
                       j->kernels->real_bytes);
            for (j->round = 0; j->round < j->rounds; j->round++)
                NATTEN_TRY(natten_parallel_run(j->threads, now * p->slices,
                                               one_extra_slice, j));
            NATTEN_TRY(natten_parallel_run(j->threads, now, merge_extra, j));
        }
    return NATTEN_OK;
}

static void some_rows(void *context, int64_t item, int thread)
{
    const job *j = context;
    int64_t unit = j->step_rows_per_item[j->step], begin = item * unit;
    j->kernels->unfused(j->task, j->step, begin,
                        least(j->step_rows[j->step], begin + unit),
                        scratch_of(j, thread));
}

static natten_status run_unfused(job *j)
{
    for (int s = 0; s < NATTEN_CPU_STEPS; s++) {
        j->step = (natten_cpu_step)s;
        NATTEN_TRY(natten_parallel_run(j->threads, j->step_items[s], some_rows, j));
    }
    return NATTEN_OK;
}

static natten_status run(const natten_plan *plan, void *workspace, void *stream)
{
    (void)stream;
    if (plan->task.batch == 0)
        return NATTEN_OK;
    job j;
    natten_cpu_job_resume(&j, plan, workspace);
    if (j.passes == 0)
        return run_unfused(&j);
    for (int i = 0; i < j.passes; i++) {
        j.now = &j.pass[i];
        if (j.now->kind == NATTEN_CPU_GRAD_EXTRA)
            NATTEN_TRY(run_extras(&j));
        else if (j.now->kind == NATTEN_CPU_GRAD_ALL)
            NATTEN_TRY(run_all(&j));
        else if (j.now->wants_sums)
            NATTEN_TRY(run_bias(&j));
        else
            NATTEN_TRY(natten_parallel_run(j.threads, j.now->heads * j.now->combos,
                                           one_item, &j));
    }
    return NATTEN_OK;
}

const natten_backend_entry natten_cpu_backend = {
    .name = "cpu",
    .id = NATTEN_BACKEND_CPU,
    .choose = choose,
    .run = run,
};
