/* SPDX-License-Identifier: MIT
 *
 * The CPU backend's choose and run: which variant, which passes in which order, what the
 * workspace holds, and the scheduling of items.
 *
 *     workspace   delta | partial sums of grad_bias | of the extras' gradients | scratch of
 *                 each thread
 *
 * Sums that many items add to (grad_bias, extra tokens) are made in slices: partial sums,
 * their number fixed by the problem, each of which gets its items one after another.  A run
 * of the scheduler gives every slice one item, so no two items of a run share a sum, and the
 * order within a slice is fixed: the bits don't depend on threads.                       */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "cpu/cpu.h"

#include "base/parallel.h"
#include "base/status.h"
#include "cpu/cpu_pass.h"
#include "cpu/cpu_tile.h"

#include <string.h>

/* ---- variants ------------------------------------------------------------------------ */

#define DECLARE(variant)                                                                  \
    extern const natten_cpu_kernels natten_cpu_kernels_##variant##_32,                    \
        natten_cpu_kernels_##variant##_64;
#define LIST(variant)                                                                     \
    {                                                                                     \
        &natten_cpu_kernels_##variant##_32, &natten_cpu_kernels_##variant##_64            \
    }

DECLARE(scalar)
#if defined NATTEN_HAVE_SSE2
DECLARE(sse2)
#endif
#if defined NATTEN_HAVE_NEON
DECLARE(neon)
#endif
#if defined NATTEN_HAVE_AVX2
DECLARE(avx2)
#endif
#if defined NATTEN_HAVE_AVX512
DECLARE(avx512)
#endif

/* [variant][is fp64]; NULL: not in this build. */
static const natten_cpu_kernels *const variants[NATTEN_VARIANTS][2] = {
    [NATTEN_VARIANT_SCALAR] = LIST(scalar),
#if defined NATTEN_HAVE_SSE2
    [NATTEN_VARIANT_BASELINE] = LIST(sse2),
#elif defined NATTEN_HAVE_NEON
    [NATTEN_VARIANT_BASELINE] = LIST(neon),
#endif
#if defined NATTEN_HAVE_AVX2
    [NATTEN_VARIANT_AVX2] = LIST(avx2),
#endif
#if defined NATTEN_HAVE_AVX512
    [NATTEN_VARIANT_AVX512] = LIST(avx512),
#endif
};

static const natten_cpu_kernels *kernels_of(const natten_task *task, natten_variant variant)
{
    return variants[variant][task->accumulator == NATTEN_FP64];
}

/* ---- what a task consists of --------------------------------------------------------- */

enum { MOST_PASSES = 3, MOST_SLICES = 256, ALIGNMENT = 64 };

/* Multiply-adds of an item of the unfused pair: a few milliseconds. */
static const double unfused_work = 4e6;

/* The fused passes of a task, or the steps of the unfused pair, and the workspace. */
typedef struct job {
    const natten_task *task;
    const natten_cpu_kernels *kernels;
    natten_cpu_pass pass[MOST_PASSES];
    int passes;
    int64_t step_rows[NATTEN_CPU_STEPS], rows_per_item;
    size_t delta_bytes, bias_bytes, extra_bytes, scratch_bytes;
    int threads;
    char *scratch;
    /* Of the run under way: */
    const natten_cpu_pass *now;
    natten_cpu_step step;
    int64_t round, rounds, combos; /* of each slice; of each sum */
} job;

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

static int64_t bias_entries(const natten_task *task)
{
    int64_t n = 1;
    for (int a = 0; a < 3; a++)
        n *= 2 * (int64_t)task->axis[a].window - 1;
    return n;
}

static natten_cpu_pass *add_pass(job *j, natten_cpu_kind kind, void *delta)
{
    natten_cpu_pass *p = &j->pass[j->passes++];
    natten_cpu_pass_make(p, j->task, kind, j->kernels, delta);
    if (p->layout.bytes > j->scratch_bytes)
        j->scratch_bytes = up(p->layout.bytes);
    return p;
}

/* Slices of grad_bias: enough for many threads, but no more memory than query has. */
static void slice_bias(job *j, natten_cpu_pass *p)
{
    const natten_task *t = j->task;
    int64_t room = query_tokens(t) * t->dim / bias_entries(t);
    p->slice_elements = bias_entries(t);
    p->slices = most(1, least(least(p->combos, MOST_SLICES / t->heads), room));
    if (has(t, NATTEN_GRAD_BIAS))
        j->bias_bytes = up((size_t)(t->heads * p->slices * p->slice_elements) *
                           j->kernels->real_bytes);
}

static void slice_extras(job *j, natten_cpu_pass *p)
{
    const natten_task *t = j->task;
    int64_t lanes = j->kernels->lanes, sums = t->batch * t->heads_kv;
    int64_t padded = (t->extras + lanes - 1) / lanes * lanes;
    int64_t room = query_tokens(t) / t->batch / padded;
    p->slice_elements = padded * (t->dim + t->dim_v);
    p->slices =
        most(1, least(least(p->combos / t->batch, MOST_SLICES / sums), room));
    j->extra_bytes = up((size_t)(sums * p->slices * p->slice_elements) *
                        j->kernels->real_bytes);
}

/* Delta is made by GRAD_QUERY, which therefore always comes first. */
static void make_backward(job *j, char *workspace)
{
    const natten_task *t = j->task;
    void *delta = workspace;
    j->delta_bytes = up((size_t)(query_tokens(t) * t->heads) * j->kernels->real_bytes);
    natten_cpu_pass *p = add_pass(j, NATTEN_CPU_GRAD_QUERY, delta);
    slice_bias(j, p);
    p->only_delta = !p->wants[0] && !has(t, NATTEN_GRAD_BIAS);
    if (has(t, NATTEN_GRAD_BIAS) && workspace)
        p->partial = workspace + j->delta_bytes;
    if (has(t, NATTEN_GRAD_KEY) || has(t, NATTEN_GRAD_VALUE))
        add_pass(j, NATTEN_CPU_GRAD_KEY, delta);
    if (t->extras > 0 && (has(t, NATTEN_GRAD_ADDITIONAL_KEYS) ||
                          has(t, NATTEN_GRAD_ADDITIONAL_VALUES))) {
        p = add_pass(j, NATTEN_CPU_GRAD_EXTRA, delta);
        slice_extras(j, p);
        if (workspace)
            p->partial = workspace + j->delta_bytes + j->bias_bytes;
    }
}

static void make_unfused(job *j)
{
    const natten_task *t = j->task;
    bool qk = t->operation == NATTEN_QK || t->operation == NATTEN_QK_BACKWARD;
    bool back = t->operation == NATTEN_QK_BACKWARD || t->operation == NATTEN_AV_BACKWARD;
    int64_t keys = t->batch * t->heads_kv, dim = most(t->dim, t->dim_v);
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
        j->step_rows[NATTEN_CPU_STEP_BIAS] = t->heads * bias_entries(t);
    j->rows_per_item = 1 + (int64_t)(unfused_work / (volume * (double)dim));
    j->scratch_bytes = up((size_t)(3 * dim) * j->kernels->real_bytes);
}

/* Everything about the job but the threads; a workspace of NULL: for its size only. */
static void make_job(job *j, const natten_task *task, natten_variant variant, char *workspace)
{
    *j = (job){.task = task, .kernels = kernels_of(task, variant)};
    if (task->operation == NATTEN_FORWARD)
        add_pass(j, NATTEN_CPU_FORWARD, NULL);
    else if (task->operation == NATTEN_BACKWARD)
        make_backward(j, workspace);
    else
        make_unfused(j);
    if (workspace)
        j->scratch = workspace + j->delta_bytes + j->bias_bytes + j->extra_bytes;
}

/* ---- choose -------------------------------------------------------------------------- */

static int64_t items_of(const job *j)
{
    int64_t items = 1;
    for (int i = 0; i < j->passes; i++)
        items = most(items, j->pass[i].heads * j->pass[i].combos);
    for (int s = 0; s < NATTEN_CPU_STEPS; s++)
        items = most(items, (j->step_rows[s] + j->rows_per_item - 1) / most(1, j->rows_per_item));
    return items;
}

static natten_status choose(const natten_task *task, const natten_machine *machine,
                            natten_choice *choice)
{
    enum { LONGEST_EXACT = 1 << 24 }; /* of slots counted in a float */
    if (task->accumulator == NATTEN_FP32 && task->axis[2].window > LONGEST_EXACT)
        return natten_status_fail(NATTEN_ERR_UNSUPPORTED,
                                  "the cpu backend takes kernel_size up to %d on the last "
                                  "axis in fp32, not %d",
                                  LONGEST_EXACT, task->axis[2].window);
    natten_variant variant = machine->variant;
    while (variant > NATTEN_VARIANT_SCALAR && !kernels_of(task, variant))
        variant--;
    *choice = (natten_choice){.variant = variant, .tile = {1, 1, 1}, .threads = 1, .work = 1};
    if (task->batch == 0)
        return NATTEN_OK;
    job j;
    make_job(&j, task, variant, NULL);
    choice->items = items_of(&j);
    choice->threads = (int32_t)most(1, least(machine->threads, choice->items));
    choice->workspace_bytes = j.delta_bytes + j.bias_bytes + j.extra_bytes +
                              (size_t)choice->threads * j.scratch_bytes;
    if (j.passes > 0) {
        bool flat = task->axis[0].length == 1; /* walking order: cpu_pass.c */
        choice->tile[0] = j.pass[0].tile[flat ? 1 : 0];
        choice->tile[1] = j.pass[0].tile[flat ? 0 : 1];
        choice->tile[2] = j.pass[0].tile[2];
        choice->work = natten_cpu_tile_work(&j.pass[0], j.kernels);
    }
    return NATTEN_OK;
}

/* ---- run ----------------------------------------------------------------------------- */

static void *scratch_of(const job *j, int thread)
{
    return j->scratch + (size_t)thread * j->scratch_bytes;
}

static void one_item(void *context, int64_t item, int thread)
{
    const job *j = context;
    const natten_cpu_item at = {item % j->now->heads, item / j->now->heads, 0};
    j->kernels->walk(j->now, &at, scratch_of(j, thread));
}

/* One item of one slice of one sum: of a head's grad_bias, or of a batch item's and head's
 * extra tokens. */
static void one_slice(void *context, int64_t item, int thread)
{
    const job *j = context;
    const natten_cpu_pass *p = j->now;
    int64_t slice = item % p->slices, sum = item / p->slices;
    int64_t combo = slice * j->rounds + j->round;
    if (combo >= j->combos)
        return;
    const natten_cpu_item at = {sum % p->heads, sum / p->heads * j->combos + combo, slice};
    if (p->kind == NATTEN_CPU_GRAD_EXTRA)
        j->kernels->extra(p, &at, scratch_of(j, thread));
    else
        j->kernels->walk(p, &at, scratch_of(j, thread));
}

/* Sum of an element over the slices that begin at `from`, in order. */
static double merged(const job *j, const char *from, int64_t element)
{
    const natten_cpu_pass *p = j->now;
    double sum = 0;
    for (int64_t s = 0; s < p->slices; s++)
        sum += natten_dtype_load(j->task->accumulator, from, s * p->slice_elements + element);
    return sum;
}

static const char *slices_of(const job *j, int64_t sum)
{
    const natten_cpu_pass *p = j->now;
    return (const char *)p->partial +
           (size_t)(sum * p->slices * p->slice_elements) * j->kernels->real_bytes;
}

static void merge_bias(void *context, int64_t head, int thread)
{
    (void)thread;
    const job *j = context;
    const natten_task *t = j->task;
    const char *from = slices_of(j, head);
    for (int64_t i = 0; i < j->now->slice_elements; i++) {
        int32_t at[3];
        int64_t rest = i;
        for (int a = 2; a >= 0; a--) {
            int64_t extent = 2 * (int64_t)t->axis[a].window - 1;
            at[a] = (int32_t)(rest % extent);
            rest /= extent;
        }
        void *to = natten_view_at(&t->view[NATTEN_GRAD_BIAS],
                                  (int64_t)j->kernels->real_bytes, 0, at, head);
        natten_dtype_store(t->accumulator, to, 0, merged(j, from, i));
    }
}

/* From the panels of cpu_extra.h to the tensors. */
static void merge_extra(void *context, int64_t sum, int thread)
{
    (void)thread;
    const job *j = context;
    const natten_task *t = j->task;
    const natten_cpu_pass *p = j->now;
    int64_t lanes = j->kernels->lanes, rows = t->dim + t->dim_v;
    const char *from = slices_of(j, sum);
    for (int64_t m = 0; m < t->extras; m++)
        for (int64_t row = 0; row < rows; row++) {
            int which = row >= t->dim;
            int64_t d = which ? row - t->dim : row;
            if (!p->wants[which])
                continue;
            const natten_view *v = &p->result[which];
            int64_t element = m / lanes * lanes * rows + row * lanes + m % lanes;
            int64_t to = sum / p->heads * v->batch + sum % p->heads * v->head +
                         m * v->axis[2] + d * v->item;
            natten_dtype_store(t->dtype, v->data, to,
                               merged(j, from, element) * p->result_factor[which]);
        }
}

static natten_status run_slices(job *j)
{
    const natten_cpu_pass *p = j->now;
    bool extras = p->kind == NATTEN_CPU_GRAD_EXTRA;
    int64_t sums = extras ? p->heads * j->task->batch : p->heads;
    j->combos = extras ? p->combos / j->task->batch : p->combos;
    j->rounds = (j->combos + p->slices - 1) / p->slices;
    memset(p->partial, 0, extras ? j->extra_bytes : j->bias_bytes);
    for (j->round = 0; j->round < j->rounds; j->round++)
        NATTEN_TRY(natten_parallel_run(j->threads, sums * p->slices, one_slice, j));
    return natten_parallel_run(j->threads, sums, extras ? merge_extra : merge_bias, j);
}

static void some_rows(void *context, int64_t item, int thread)
{
    const job *j = context;
    int64_t begin = item * j->rows_per_item, rows = j->step_rows[j->step];
    j->kernels->unfused(j->task, j->step, begin, least(rows, begin + j->rows_per_item),
                        scratch_of(j, thread));
}

static natten_status run_unfused(job *j)
{
    int64_t rows_per_item = j->rows_per_item;
    for (int s = 0; s < NATTEN_CPU_STEPS; s++) {
        /* A row of an extra token or of the bias sums over all queries. */
        bool long_rows = s == NATTEN_CPU_STEP_EXTRA || s == NATTEN_CPU_STEP_BIAS;
        j->step = (natten_cpu_step)s;
        j->rows_per_item = long_rows ? 1 : rows_per_item;
        int64_t items = (j->step_rows[s] + j->rows_per_item - 1) / j->rows_per_item;
        NATTEN_TRY(natten_parallel_run(j->threads, items, some_rows, j));
    }
    return NATTEN_OK;
}

static natten_status run(const natten_plan *plan, void *workspace, void *stream)
{
    (void)stream;
    if (plan->task.batch == 0)
        return NATTEN_OK;
    job j;
    make_job(&j, &plan->task, plan->choice.variant, workspace);
    j.threads = plan->choice.threads;
    if (j.passes == 0)
        return run_unfused(&j);
    for (int i = 0; i < j.passes; i++) {
        j.now = &j.pass[i];
        if (j.now->partial)
            NATTEN_TRY(run_slices(&j));
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
