/* SPDX-License-Identifier: MIT
 *
 * From a task to the fused passes, or the steps of the unfused pair, and the
 * workspace. */
#include "cpu/cpu_job.h"

#include "base/parallel.h"
#include "cpu/cpu_tile.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

typedef natten_cpu_job job;

enum {
    MOST_SLICES = 256,
    ALIGNMENT = 64,
    SHARED_BYTES = 64 << 20, /* of sums of narrow gradients, or one unit */
    ITEMS_BYTES = 16 << 20   /* of the slices of grad_bias, one for each item */
};

/* Multiply-adds of an item of the unfused pair: a few milliseconds. */
static const double unfused_work = 4e6;

static size_t up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool has(const natten_task *task, natten_role role)
{
    return task->view[role].data;
}

static int64_t query_tokens(const natten_task *task)
{
    int64_t n = task->batch;
    for (int a = 0; a < 3; a++)
        n *= task->axis[a].query_count;
    return n;
}

/* Threads that have enough to do; a token by itself costs about eight partners. */
static int64_t busy_threads(const job *j)
{
    const natten_task *t = j->task;
    double partners = 1;
    for (int a = 0; a < 3; a++)
        partners *= t->axis[a].window;
    partners += (double)t->extras + 8;
    double work = (double)query_tokens(t) * (double)t->heads * partners;
    work *= (double)(t->dim + t->dim_v) * (t->operation == NATTEN_FORWARD ? 1 : 2.5);
    double threads = work / ((double)j->machine->thread_work * j->kernels->lanes);
    return threads < NATTEN_MAX_THREADS ? (int64_t)threads : NATTEN_MAX_THREADS;
}

int64_t natten_cpu_job_bias_entries(const natten_task *task)
{
    int64_t n = 1;
    for (int a = 0; a < 3; a++)
        n *= 2 * (int64_t)task->axis[a].window - 1;
    return n;
}

static natten_cpu_pass *add_pass(job *j, natten_cpu_kind kind)
{
    natten_cpu_pass *p = &j->pass[j->passes++];
    natten_cpu_pass_make(p, j->task, kind, j->kernels, j->machine);
    if (!p->fits)
        return p;
    if (p->layout.bytes > j->scratch_bytes)
        j->scratch_bytes = up(p->layout.bytes);
    /* Sums of grad_bias lie at the end. */
    size_t others = p->layout.bias_sums > 0 ? p->layout.bias_sums : p->layout.bytes;
    if (others > j->other_bytes)
        j->other_bytes = up(others);
    j->most_items = most(j->most_items, p->heads * p->combos);
    return p;
}

/* What a thread's scratch leaves of the promise, in reals; the same whether grad_bias
 * is wanted or not, and so are the slices of the extra tokens. */
static int64_t spare(const job *j)
{
    size_t promise = natten_cpu_tile_promise(j->task) - NATTEN_CPU_BIAS_BYTES;
    return promise < j->other_bytes
               ? 0
               : (int64_t)((promise - j->other_bytes) / j->kernels->real_bytes);
}

static void need_sums(job *j, int64_t elements)
{
    size_t bytes = up((size_t)elements * j->kernels->real_bytes);
    if (bytes > j->sums_bytes)
        j->sums_bytes = bytes;
}

/* A slice of grad_bias holds all entries of a head, in the order of the task's axes. */
static void shape_slice(natten_cpu_pass *p)
{
    const natten_task *t = p->task;
    int64_t step[3] = {1, 1, 1};
    for (int a = 1; a >= 0; a--)
        step[a] = step[a + 1] * (2 * (int64_t)t->axis[a + 1].window - 1);
    for (int a = 0; a < 3; a++)
        p->sums.axis[a] = step[p->order[a]];
}

/* Slices of grad_bias: enough for many threads. Where there is no room for more than
 * one, it is grad_bias itself. */
static void slice_bias(job *j, natten_cpu_pass *p)
{
    const natten_task *t = j->task;
    p->slice_elements = natten_cpu_job_bias_entries(t);
    p->slices = least(least(p->combos, MOST_SLICES / t->heads),
                      spare(j) / t->heads / p->slice_elements);
    p->wants_sums = true;
    if (p->slices < 2) {
        p->slices = 1;
        return;
    }
    p->sums = (natten_view){.batch = p->slice_elements};
    p->sums.head = p->slices * p->slice_elements;
    shape_slice(p);
    need_sums(j, t->heads * p->sums.head);
}

/* GRAD_ALL: reals of the slices that the items of a unit have, lines of their own each;
 * too many for a number of 64 bits are more than there is room for, too. */
static double unit_slices(const job *j, const natten_cpu_pass *p)
{
    int64_t line = ALIGNMENT / (int64_t)j->kernels->real_bytes;
    double items = (double)p->share * (double)(p->combos / j->task->batch);
    double lines = ceil((double)natten_cpu_job_bias_entries(j->task) / (double)line);
    return items * lines * (double)line;
}

static bool has_room_for_slices(const job *j, const natten_cpu_pass *p)
{
    return unit_slices(j, p) * (double)j->kernels->real_bytes <= ITEMS_BYTES;
}

/* For so many units at a time as there is room for. */
static void slice_items(job *j, natten_cpu_pass *p)
{
    int64_t unit = (int64_t)unit_slices(j, p);
    int64_t room = ITEMS_BYTES / (int64_t)j->kernels->real_bytes;
    p->slice_elements = unit / (p->share * (p->combos / j->task->batch));
    j->units_at_a_time = least(j->units_at_a_time, room / unit);
    p->wants_sums = true;
    p->sums = (natten_view){.data = NULL};
    shape_slice(p);
    need_sums(j, j->units_at_a_time * unit);
}

int64_t natten_cpu_job_extra_elements(const job *j)
{
    return natten_cpu_padded(j->task->dim, j->kernels->lanes) +
           natten_cpu_padded(j->task->dim_v, j->kernels->lanes);
}

/* Slices of the extra tokens' gradients, and how many tokens and sums have room at a
 * time. Their number must not depend on the batch, and so not on the tiles of the other
 * passes: an item has the same bits alone as in any batch. How many sums there are at a
 * time changes no bit. */
static void slice_extras(job *j, natten_cpu_pass *p)
{
    const natten_task *t = j->task;
    int64_t lanes = j->kernels->lanes, rows = natten_cpu_job_extra_elements(j);
    int64_t vectors = (t->extras + lanes - 1) / lanes;
    int64_t sure = NATTEN_CPU_SUMS_BYTES / (int64_t)j->kernels->real_bytes;
    int64_t room = most(1, least(sure, spare(j)) / (lanes * rows)); /* owner vectors */
    p->extra_tokens = least(vectors, least(room, 4 * j->kernels->owners)) * lanes;
    p->slice_elements = p->extra_tokens * rows;
    p->slices = least(p->combos / t->batch, room * lanes / p->extra_tokens);
    p->slices = most(1, least(p->slices, MOST_SLICES / t->heads_kv));
    j->sums_at_a_time = most(
        1, least(t->batch * t->heads_kv, spare(j) / p->slice_elements / p->slices));
    need_sums(j, j->sums_at_a_time * p->slices * p->slice_elements);
}

/* A pass, NULL if it is not to run. natten_workspace_size() is not told what is wanted,
 * so there all passes count for the scratch and the threads; and so they do where
 * slices of sums take what the scratch leaves, or these would grow. */
static natten_cpu_pass *add_if(job *j, bool wanted, natten_cpu_kind kind)
{
    const natten_task *t = j->task;
    if (!wanted && !t->sketch && !has(t, NATTEN_GRAD_BIAS) && t->extras == 0)
        return NULL;
    natten_cpu_pass *p = add_pass(j, kind);
    if (wanted && p->fits)
        return p;
    j->passes--;
    return NULL;
}

/* Units of the sums of narrow gradients that are made at a time: all, where none are
 * kept; and how far each item has come, where several give to a key. */
static void share_units(job *j, const natten_cpu_pass *p)
{
    if (natten_cpu_share_meets(p))
        j->progress_bytes = up((size_t)(p->heads * p->combos) * sizeof *p->progress);
    int64_t bytes = p->unit_elements * (int64_t)j->kernels->real_bytes;
    j->units_at_a_time = j->task->batch * j->task->heads_kv;
    if (bytes == 0 || p->at_once)
        return;
    j->units_at_a_time = least(j->units_at_a_time, most(1, SHARED_BYTES / bytes));
    j->shared_bytes = up((size_t)(j->units_at_a_time * bytes));
}

/* GRAD_ALL, NULL if it is not to run: sums of a tile, or slices of grad_bias, may have
 * no room. */
static natten_cpu_pass *add_together(job *j, bool wanted)
{
    const natten_task *t = j->task;
    bool bias = has(t, NATTEN_GRAD_BIAS);
    natten_cpu_pass *p = add_if(j, wanted, NATTEN_CPU_GRAD_ALL);
    if (p && bias && !has_room_for_slices(j, p)) {
        j->passes--;
        p = NULL;
    }
    if (p || (t->sketch && j->pass[0].fits))
        share_units(j, &j->pass[0]);
    if (p && bias)
        slice_items(j, p);
    return p;
}

/* All in one pass, five products, or the gradients of queries and of keys by
 * themselves, seven; the gradient of the bias by the same pass, and so with the same
 * bits, whether those of keys are wanted or not. Delta is made by the first pass. */
static void make_backward(job *j)
{
    const natten_task *t = j->task;
    bool keys = has(t, NATTEN_GRAD_KEY) || has(t, NATTEN_GRAD_VALUE);
    bool extras =
        has(t, NATTEN_GRAD_ADDITIONAL_KEYS) || has(t, NATTEN_GRAD_ADDITIONAL_VALUES);
    j->delta_bytes = up((size_t)(query_tokens(t) * t->heads) * j->kernels->real_bytes);
    bool bias = has(t, NATTEN_GRAD_BIAS);
    natten_cpu_pass *extra = NULL;
    natten_cpu_pass *together = add_together(j, keys || bias);
    natten_cpu_pass *query = add_if(j, !together, NATTEN_CPU_GRAD_QUERY);
    if (query)
        query->only_delta = !query->wants[0] && !bias;
    add_if(j, keys && !together, NATTEN_CPU_GRAD_KEY);
    if (t->extras > 0)
        extra = add_if(j, extras, NATTEN_CPU_GRAD_EXTRA);
    if (bias && query)
        slice_bias(j, query);
    if (extra)
        slice_extras(j, extra);
}

static void make_unfused(job *j)
{
    const natten_task *t = j->task;
    bool qk = t->operation == NATTEN_QK || t->operation == NATTEN_QK_BACKWARD;
    bool back =
        t->operation == NATTEN_QK_BACKWARD || t->operation == NATTEN_AV_BACKWARD;
    int64_t keys = t->batch * t->heads_kv, dim = most(t->dim, t->dim_v);
    int64_t line = 2 * (int64_t)t->axis[2].window - 1;
    double volume = (double)(t->heads / t->heads_kv);
    for (int a = 0; a < 3; a++) {
        keys *= t->axis[a].key_count;
        volume *= t->axis[a].window;
    }
    if (!back || has(t, qk ? NATTEN_GRAD_QUERY : NATTEN_GRAD_ATTN))
        j->step_rows[NATTEN_CPU_STEP_QUERY] = query_tokens(t) * t->heads;
    if (back && has(t, qk ? NATTEN_GRAD_KEY : NATTEN_GRAD_VALUE))
        j->step_rows[NATTEN_CPU_STEP_KEY] = keys;
    if (back && t->extras > 0 &&
        has(t, qk ? NATTEN_GRAD_ADDITIONAL_KEYS : NATTEN_GRAD_ADDITIONAL_VALUES))
        j->step_rows[NATTEN_CPU_STEP_EXTRA] = t->batch * t->extras * t->heads_kv;
    if (back && qk && has(t, NATTEN_GRAD_BIAS))
        j->step_rows[NATTEN_CPU_STEP_BIAS] =
            t->heads * natten_cpu_job_bias_entries(t) / line;
    int64_t rows_per_item = 1 + (int64_t)(unfused_work / (volume * (double)dim));
    for (int s = 0; s < NATTEN_CPU_STEPS; s++) {
        /* A row of an extra token or of the bias sums over all queries. */
        bool long_rows = s == NATTEN_CPU_STEP_EXTRA || s == NATTEN_CPU_STEP_BIAS;
        int64_t rows = long_rows ? 1 : rows_per_item;
        j->step_rows_per_item[s] = rows;
        j->step_items[s] = (j->step_rows[s] + rows - 1) / rows;
        j->items = most(j->items, j->step_items[s]);
    }
    j->most_items = j->items;
    j->scratch_bytes = up((size_t)(3 * dim + line) * j->kernels->real_bytes);
}

void natten_cpu_job_make(job *j, const natten_task *task,
                         const natten_cpu_kernels *kernels,
                         const natten_machine *machine)
{
    memset(j, 0, offsetof(job, pass));
    j->task = task;
    j->kernels = kernels;
    j->machine = machine;
    if (task->operation == NATTEN_FORWARD)
        add_pass(j, NATTEN_CPU_FORWARD);
    else if (task->operation == NATTEN_BACKWARD)
        make_backward(j);
    else
        make_unfused(j);
    for (int i = 0; i < j->passes; i++)
        j->items = most(j->items, j->pass[i].heads * j->pass[i].combos);
    j->threads =
        (int)most(1, least(least(machine->threads, j->most_items), busy_threads(j)));
    j->machine = NULL;
}

void natten_cpu_job_keep(const job *j, natten_choice *choice)
{
    memcpy(choice->job, j,
           (size_t)((const char *)&j->pass[j->passes] - (const char *)j));
}

void natten_cpu_job_resume(job *j, const natten_plan *plan, char *workspace)
{
    const natten_task *t = &plan->task;
    memcpy(j, plan->choice.job, offsetof(job, pass));
    memcpy(j->pass, plan->choice.job + offsetof(job, pass),
           (size_t)j->passes * sizeof j->pass[0]);
    j->task = t;
    j->sums = workspace + j->delta_bytes;
    char *shared = j->sums + j->sums_bytes;
    char *progress = shared + j->shared_bytes;
    j->scratch = progress + j->progress_bytes;
    for (int i = 0; i < j->passes; i++) {
        natten_cpu_pass *p = &j->pass[i];
        natten_cpu_pass_place(p, t, workspace, shared);
        /* One thread takes items one after the other. */
        if (p->kind == NATTEN_CPU_GRAD_ALL && j->progress_bytes > 0 && j->threads > 1)
            p->progress = (atomic_int *)(void *)progress;
        if (p->wants_sums)
            p->sums.data = p->kind == NATTEN_CPU_GRAD_ALL || p->slices > 1
                               ? j->sums
                               : t->view[NATTEN_GRAD_BIAS].data;
    }
}
