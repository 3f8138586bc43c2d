/* SPDX-License-Identifier: MIT
 *
 * Planning: one pass for all gradients of a small window where it takes them; else the
 * kernels for large windows, the halo kernels, those of warpgroups or for bands,
 * whichever are faster by their own counts, where they take a task; else level a.  What
 * decides about level a's bits (lanes of a row, chunks of queries) follows from the
 * shape of one batch item alone; the GPU only decides the size of tiles, in which each
 * row is computed the same.  Which kernels take a task, and the tiles of those of the
 * tensor cores, follow from the shape of an item and the kind of GPU (cuda_family.h):
 * an item has the same bits in every batch, and on GPUs of a kind.  Length: scratch and
 * passes have to agree on every choice. */
#include "cuda/cuda_plan.h"

#include "base/status.h"
#include "cuda/cuda_family.h"
#include "cuda/cuda_sweep.h"

#include <string.h>

/* Queries or keys of a block, where there are enough to fill the GPU: their windows
 * then come from the first-level cache.  Else one for each group of lanes. */
enum { TILE = 64 };
/* Queries of a chunk, and most chunks: enough to fill a GPU with the sums of a few
 * extra tokens or bias entries, few enough that the second pass is short. */
enum { CHUNK_QUERIES = 512, EXTRA_CHUNKS = 16, BIAS_CHUNKS = 256 };
/* Most partial sums of bias of one head. */
enum { BIAS_PARTIALS = 1 << 20 };
/* Shared memory that every architecture has without being asked. */
enum { SHARED_BYTES = 48 * 1024 };
/* Parts of the workspace begin at multiples of this. */
enum { ALIGNMENT = 64 };

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

static bool wants(const natten_task *task, natten_role role)
{
    return task->view[role].data != NULL;
}

static int64_t tokens_of(const natten_axis *axis, bool of_keys)
{
    return of_keys ? axis->key_count : axis->query_count;
}

static int64_t queries_of(const natten_task *task)
{
    int64_t queries = 1;
    for (int a = 0; a < 3; a++)
        queries *= task->axis[a].query_count;
    return queries;
}

/* ---- tiles ---- */

/* Positions on an axis when they are counted class by class (Tokens of walk.cuh). */
static int64_t units_of(const natten_axis *axis, bool of_keys)
{
    int64_t count = tokens_of(axis, of_keys);
    return divide_up(count, axis->dilation) * smaller(count, axis->dilation);
}

/* As cubic as the grid allows. */
static void make_tile(const natten_task *task, bool of_keys, int volume,
                      int32_t tile[3])
{
    tile[0] = tile[1] = tile[2] = 1;
    for (int64_t product = 1; product < volume; product *= 2) {
        int best = -1;
        for (int a = 2; a >= 0; a--)
            if (tile[a] < units_of(&task->axis[a], of_keys) &&
                (best < 0 || tile[a] < tile[best]))
                best = a;
        if (best < 0)
            break;
        tile[best] *= 2;
    }
}

static int64_t pieces_of(const natten_task *task, bool of_keys, const int32_t tile[3],
                         int32_t slices)
{
    int64_t pieces = task->batch * slices * (of_keys ? task->heads_kv : task->heads);
    for (int a = 0; a < 3; a++)
        pieces *= divide_up(units_of(&task->axis[a], of_keys), tile[a]);
    return pieces;
}

/* ---- rows ---- */

static int64_t widest(const natten_task *task)
{
    return larger(task->dim, task->dim_v);
}

static int32_t slices_of(int64_t count)
{
    return (int32_t)divide_up(count, NATTEN_CUDA_SLICE);
}

static int32_t lanes_of(const natten_task *task)
{
    int32_t lanes = 4;
    while (lanes < NATTEN_CUDA_WARP && lanes * NATTEN_CUDA_STRIP < widest(task))
        lanes *= 2;
    return lanes;
}

static void choose_tile(const natten_task *task, bool of_keys, int32_t processors,
                        int32_t tile[3])
{
    make_tile(task, of_keys, TILE, tile);
    if (pieces_of(task, of_keys, tile, 1) < 8 * (int64_t)processors)
        make_tile(task, of_keys, NATTEN_CUDA_THREADS / lanes_of(task), tile);
}

/* Can the rows of a view be read 16 bytes at a time? */
static bool is_vector(const natten_task *task, const natten_view *view, int64_t count)
{
    int64_t bytes = (int64_t)natten_dtype_bytes(task->dtype);
    int64_t any = (int64_t)((uintptr_t)view->data % 16) + count % NATTEN_CUDA_STRIP;
    any |= view->batch * bytes % 16 | view->head * bytes % 16;
    for (int a = 0; a < 3; a++)
        any |= view->axis[a] * bytes % 16;
    return view->data != NULL && view->item == 1 && any == 0;
}

static const natten_role rows_of_dim[] = {NATTEN_QUERY, NATTEN_KEY,
                                          NATTEN_ADDITIONAL_KEYS, NATTEN_GRAD_QUERY,
                                          NATTEN_GRAD_KEY};
static const natten_role rows_of_dim_v[] = {NATTEN_VALUE, NATTEN_ADDITIONAL_VALUES,
                                            NATTEN_OUT, NATTEN_GRAD_OUT,
                                            NATTEN_GRAD_VALUE};

static uint32_t vector_roles(const natten_task *task)
{
    uint32_t roles = 0;
    for (int i = 0; i < 5; i++) {
        natten_role k = rows_of_dim[i], v = rows_of_dim_v[i];
        if (is_vector(task, &task->view[k], task->dim))
            roles |= UINT32_C(1) << k;
        if (is_vector(task, &task->view[v], task->dim_v))
            roles |= UINT32_C(1) << v;
    }
    return roles;
}

/* All rows that there are can be read so, and are at most one slice long. */
static bool has_easy_rows(const natten_task *task, uint32_t vector)
{
    for (int i = 0; i < 5; i++) {
        natten_role k = rows_of_dim[i], v = rows_of_dim_v[i];
        if ((wants(task, k) && !(vector >> k & 1)) ||
            (wants(task, v) && !(vector >> v & 1)))
            return false;
    }
    return widest(task) <= NATTEN_CUDA_SLICE;
}

/* ---- sums over queries ---- */

static int64_t entries_of(const natten_task *task)
{
    int64_t entries = 1;
    for (int a = 0; a < 3; a++)
        entries *= 2 * (int64_t)task->axis[a].window - 1;
    return entries;
}

static int32_t extra_chunks(const natten_task *task)
{
    return (int32_t)larger(1, smaller(queries_of(task) / CHUNK_QUERIES, EXTRA_CHUNKS));
}

static int32_t bias_chunks(const natten_task *task)
{
    int64_t queries = queries_of(task) * task->batch;
    int64_t chunks = smaller(queries / CHUNK_QUERIES, BIAS_PARTIALS / entries_of(task));
    return (int32_t)larger(1, smaller(chunks, BIAS_CHUNKS));
}

/* Partial sums of each entry in such a pass. */
static int64_t sums_of(const natten_cuda_fit *fit)
{
    return (int64_t)fit->halo.halo.positions * fit->halo.halo.chunks;
}

/* The pass of the halo kernels that has the gradients of queries and of the bias, as
 * the shape alone would have it: the size of the workspace is asked for without a bias,
 * without gradients and without strides. */
static natten_cuda_fit bias_of_shape(const natten_task *task, const natten_gpu *gpu)
{
    natten_task shape = *task;
    memset(shape.view, 0, sizeof shape.view);
    shape.view[NATTEN_BIAS].data = &shape;
    return natten_cuda_family_choose(&shape, gpu, NATTEN_CUDA_HALO_GRAD_BIAS);
}

/* The same of all gradients in one pass: how many sums it leaves of each entry. */
static int64_t sweep_sums_of_shape(const natten_task *task, const natten_gpu *gpu)
{
    natten_task shape = *task;
    natten_cuda_sweep_fit fit;
    memset(shape.view, 0, sizeof shape.view);
    shape.view[NATTEN_BIAS].data = shape.view[NATTEN_GRAD_BIAS].data = &shape;
    return natten_cuda_sweep_plan(&shape, gpu, &fit) ? fit.sums : 0;
}

/* Partial sums of each entry that there is room for: enough for level a, for the halo
 * kernels and for one pass of all gradients. */
static int64_t bias_partials(const natten_task *task, const natten_gpu *gpu)
{
    int64_t partials = bias_chunks(task);
    if (task->operation != NATTEN_BACKWARD)
        return partials;
    natten_cuda_fit fit = bias_of_shape(task, gpu);
    partials = larger(partials, sweep_sums_of_shape(task, gpu));
    return fit.set == NATTEN_CUDA_SET_HALO ? larger(partials, sums_of(&fit)) : partials;
}

/* Does one pass of the halo kernels do the gradients of queries and of the bias?  Not
 * if strides so large that they forbid the best tiles lead to more tiles than there is
 * room for sums. */
static bool fits_bias(const natten_task *task, const natten_gpu *gpu,
                      natten_cuda_fit *fit)
{
    if (task->operation != NATTEN_BACKWARD || !wants(task, NATTEN_GRAD_BIAS) ||
        !wants(task, NATTEN_GRAD_QUERY))
        return false;
    *fit = natten_cuda_family_choose(task, gpu, NATTEN_CUDA_HALO_GRAD_BIAS);
    natten_cuda_fit shape = bias_of_shape(task, gpu);
    if (fit->set != NATTEN_CUDA_SET_HALO || shape.set != NATTEN_CUDA_SET_HALO ||
        fit->halo.halo.positions > shape.halo.halo.positions)
        return false;
    natten_cuda_halo_limit(&fit->halo, bias_partials(task, gpu));
    return true;
}

/* Are gradients of queries added up, as far as the shape tells?  So the size of the
 * workspace is known when it is asked for, which is as of bias_of_shape(). */
static bool shape_adds(const natten_task *task, const natten_gpu *gpu,
                       natten_cuda_added *fit)
{
    natten_task shape = *task;
    memset(shape.view, 0, sizeof shape.view);
    return task->operation == NATTEN_BACKWARD &&
           (task->flags & NATTEN_FLAG_ALLOW_NONDETERMINISTIC) &&
           natten_cuda_family_adds(&shape, gpu, fit);
}

/* Are they, by which passes? */
static bool fits_added(const natten_task *task, const natten_gpu *gpu,
                       natten_cuda_added *fit)
{
    return wants(task, NATTEN_GRAD_QUERY) &&
           (wants(task, NATTEN_GRAD_KEY) || wants(task, NATTEN_GRAD_VALUE)) &&
           shape_adds(task, gpu, fit) && natten_cuda_family_adds(task, gpu, fit);
}

/* Entries of bias that a block keeps sums of in shared memory. */
static int32_t bias_strip(const natten_task *task)
{
    int64_t each = (int64_t)natten_dtype_bytes(task->accumulator) * NATTEN_CUDA_WARPS;
    return (int32_t)smaller(entries_of(task), SHARED_BYTES / each);
}

/* ---- scratch ---- */

/* Where the next part of a workspace may begin; saturates. */
static int64_t aligned(int64_t bytes)
{
    return bytes > INT64_MAX - ALIGNMENT ? INT64_MAX
                                         : divide_up(bytes, ALIGNMENT) * ALIGNMENT;
}

/* As many as lse has, which fit 63 bits. */
static int64_t delta_bytes(const natten_task *task)
{
    return aligned(queries_of(task) * task->batch * task->heads *
                   (int64_t)natten_dtype_bytes(task->accumulator));
}

/* Room for what halo.cu, wgmma.cu and band.cu want to know of queries beside delta;
 * saturates.
 */
static int64_t stats_bytes(const natten_task *task)
{
    bool is_half = task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16;
    int64_t bytes;
    if (__builtin_mul_overflow(delta_bytes(task), is_half ? 2 : 0, &bytes))
        return INT64_MAX;
    return bytes;
}

static bool wants_extras(const natten_task *task)
{
    return wants(task, NATTEN_GRAD_ADDITIONAL_KEYS) ||
           wants(task, NATTEN_GRAD_ADDITIONAL_VALUES);
}

/* Saturates: such a task's tensors would not fit either. */
static int64_t partial_bytes(const natten_task *task, const natten_gpu *gpu)
{
    int64_t bias = 0, extras = 0, each = (int64_t)natten_dtype_bytes(task->accumulator);
    if (wants(task, NATTEN_GRAD_BIAS) &&
        __builtin_mul_overflow(bias_partials(task, gpu) * each * task->heads,
                               entries_of(task), &bias))
        bias = INT64_MAX;
    if (wants_extras(task) &&
        __builtin_mul_overflow(extra_chunks(task) * each * (task->dim + task->dim_v),
                               task->batch * task->extras * task->heads_kv, &extras))
        extras = INT64_MAX;
    return larger(bias, extras);
}

/* Saturates. */
static int64_t sums_bytes(const natten_task *task, const natten_gpu *gpu)
{
    natten_cuda_added fit;
    int64_t bytes = queries_of(task) * task->batch * task->heads;
    if (!shape_adds(task, gpu, &fit))
        return 0;
    int64_t row =
        natten_cuda_mma_shapes[0][NATTEN_CUDA_MMA_GRAD_ALL][fit.all.width].width;
    return __builtin_mul_overflow(bytes, 4 * row, &bytes) ? INT64_MAX : bytes;
}

static bool is_backward(const natten_task *task)
{
    return task->operation == NATTEN_BACKWARD ||
           task->operation == NATTEN_QK_BACKWARD ||
           task->operation == NATTEN_AV_BACKWARD;
}

/* The first pass on tensor cores, if there is one. */
static natten_cuda_fit first_fit(const natten_task *task, const natten_gpu *gpu)
{
    natten_cuda_fit fit;
    if (fits_bias(task, gpu, &fit))
        return fit;
    return natten_cuda_family_choose(task, gpu,
                                     task->operation == NATTEN_FORWARD
                                         ? NATTEN_CUDA_HALO_FORWARD
                                         : NATTEN_CUDA_HALO_GRAD_QUERY);
}

/* Tell of a pass by the family that does it, but for level a; a task has so many pairs
 * of tokens. */
static void tell(natten_choice *choice, const natten_cuda_fit *fit, double pairs)
{
    const natten_cuda_halo *h = &fit->halo.halo;
    const natten_cuda_mma *m = &fit->mma.mma;
    const natten_cuda_band *b = &fit->band.band;
    double slots = 0;
    switch (fit->set) {
    case NATTEN_CUDA_SET_HALO:
        choice->kernel = "halo";
        choice->items = natten_cuda_halo_blocks(&fit->halo, h);
        slots = fit->halo.slots;
        for (int a = 0; a < 3; a++)
            choice->tile[a] = h->sub[a] * h->warps[a];
        break;
    case NATTEN_CUDA_SET_MMA:
        choice->kernel = "mma";
        choice->items = fit->mma.blocks;
        slots = fit->mma.slots;
        for (int a = 0; a < 3; a++)
            choice->tile[a] = m->sub[a] * m->warps[a];
        break;
    case NATTEN_CUDA_SET_WGMMA:
        choice->kernel = "wgmma";
        choice->items = fit->wgmma.wgmma.items;
        slots = fit->wgmma.slots;
        memcpy(choice->tile, fit->wgmma.wgmma.tile, sizeof choice->tile);
        break;
    case NATTEN_CUDA_SET_BAND:
        choice->kernel = "band";
        choice->items = b->items;
        slots = fit->band.slots;
        choice->tile[0] = 1;
        choice->tile[1] = NATTEN_CUDA_BAND_SIDE * b->steps;
        choice->tile[2] = NATTEN_CUDA_BAND_COLUMNS;
        break;
    default:
        return;
    }
    choice->work = slots / pairs;
}

/* Tell of the tensor cores' kernels, where they take the first pass. */
static void choose_tensor_cores(natten_choice *choice, const natten_task *task,
                                const natten_gpu *gpu)
{
    natten_cuda_sweep_fit sweep;
    if (natten_cuda_sweep_plan(task, gpu, &sweep)) {
        choice->kernel = "sweep";
        choice->items = sweep.blocks;
        choice->tile[0] = 1;
        choice->tile[1] = 4 * sweep.sweep.each,
        choice->tile[2] = 4 * sweep.sweep.columns;
        choice->work = sweep.slots / (double)natten_task_pairs(task);
        return;
    }
    natten_cuda_fit fit = first_fit(task, gpu);
    natten_cuda_added added;
    bool adds = fits_added(task, gpu, &added);
    if (adds)
        fit = (natten_cuda_fit){.set = NATTEN_CUDA_SET_MMA, .mma = added.all};
    tell(choice, &fit, (double)natten_task_pairs(task));
    if (adds)
        choice->kernel = "mma, adding in any order";
}

natten_status natten_cuda_plan(const natten_task *task, const natten_gpu *gpu,
                               natten_choice *choice)
{
    bool is_fused = task->operation == NATTEN_BACKWARD;
    int64_t delta = is_fused ? delta_bytes(task) : 0;
    int64_t stats = is_fused ? stats_bytes(task) : 0;
    int64_t bytes = is_backward(task) ? partial_bytes(task, gpu) : 0;
    int64_t sums = sums_bytes(task, gpu);
    if (sums > 0) /* they begin where they may be added to four at a time */
        bytes = aligned(bytes);
    if (__builtin_add_overflow(bytes, delta, &bytes) ||
        __builtin_add_overflow(bytes, stats, &bytes) ||
        __builtin_add_overflow(bytes, sums, &bytes))
        return natten_status_fail(NATTEN_ERR_OVERFLOW,
                                  "the workspace does not fit in 63 bits");
    memset(choice, 0, sizeof *choice);
    choose_tile(task, false, gpu->processors, choice->tile);
    int32_t slices = slices_of(larger(1, widest(task)));
    choice->items = pieces_of(task, false, choice->tile, slices);
    choice->workspace_bytes = (size_t)bytes;
    choice->kernel = "simt";
    choice->processors = gpu->processors;
    choice->arch = gpu->arch;
    int64_t width = larger(1, widest(task));
    int64_t held = (int64_t)slices_of(width) * NATTEN_CUDA_SLICE;
    if (width <= NATTEN_CUDA_SLICE)
        held = (int64_t)lanes_of(task) * NATTEN_CUDA_STRIP;
    choice->work = (double)held * slices / (double)width;
    choose_tensor_cores(choice, task, gpu);
    return NATTEN_OK;
}

/* ---- passes ---- */

/* Passes while they are collected. */
typedef struct list {
    natten_cuda_pass *passes;
    int count;
    natten_cuda_job job; /* of the next one */
    const natten_gpu *gpu;
    int32_t processors;
    bool easy; /* rows */
} list;

/* The kernel for easy rows in place of one for any, if it exists and they are. */
static natten_cuda_kernel choose_kernel(natten_cuda_kernel kernel, bool easy)
{
    static const struct {
        natten_cuda_kernel any, easy;
    } pairs[] = {
        {NATTEN_CUDA_KERNEL_FORWARD, NATTEN_CUDA_KERNEL_FORWARD_EASY},
        {NATTEN_CUDA_KERNEL_GRAD_QUERY, NATTEN_CUDA_KERNEL_GRAD_QUERY_EASY},
        {NATTEN_CUDA_KERNEL_GRAD_TOKENS, NATTEN_CUDA_KERNEL_GRAD_TOKENS_EASY},
        {NATTEN_CUDA_KERNEL_EXTRAS, NATTEN_CUDA_KERNEL_EXTRAS_EASY},
        {NATTEN_CUDA_KERNEL_BIAS, NATTEN_CUDA_KERNEL_BIAS_EASY},
    };
    for (int i = 0; easy && i < NATTEN_CUDA_KERNELS_EASY; i++)
        if (pairs[i].any == kernel)
            return pairs[i].easy;
    return kernel;
}

static void add(list *l, natten_cuda_kernel kernel, int64_t blocks, int32_t shared)
{
    kernel = choose_kernel(kernel, l->easy);
    l->passes[l->count++] = (natten_cuda_pass){
        .kernel = kernel, .blocks = blocks, .shared_bytes = shared, .job = l->job};
}

/* A pass over the tokens of one side, with rows of `width` elements. */
static void add_tokens(list *l, natten_cuda_kernel kernel, bool of_keys, int64_t width)
{
    natten_cuda_job *job = &l->job;
    job->slices = slices_of(width);
    choose_tile(&job->task, of_keys, l->processors, job->tile);
    job->pieces = pieces_of(&job->task, of_keys, job->tile, job->slices);
    add(l, kernel, job->pieces, 0);
}

/* Add job.chunks partial sums up. */
static void add_sum_bias(list *l)
{
    add(l, NATTEN_CUDA_KERNEL_SUM_BIAS,
        divide_up(l->job.task.heads * l->job.entries, NATTEN_CUDA_THREADS), 0);
}

static void add_bias(list *l, bool fused)
{
    natten_cuda_job *job = &l->job;
    job->chunks = bias_chunks(&job->task);
    job->strip_entries = bias_strip(&job->task);
    int32_t each = (int32_t)natten_dtype_bytes(job->task.accumulator);
    int64_t strips = divide_up(job->entries, job->strip_entries);
    add(l, fused ? NATTEN_CUDA_KERNEL_BIAS : NATTEN_CUDA_KERNEL_BIAS_UNFUSED,
        strips * job->task.heads * job->chunks,
        job->strip_entries * NATTEN_CUDA_WARPS * each);
    add_sum_bias(l);
}

static void add_extras(list *l, bool fused)
{
    natten_cuda_job *job = &l->job;
    const natten_task *task = &job->task;
    job->chunks = extra_chunks(task);
    job->slices = slices_of(widest(task));
    int64_t rows = task->batch * task->extras * task->heads_kv;
    add(l, fused ? NATTEN_CUDA_KERNEL_EXTRAS : NATTEN_CUDA_KERNEL_EXTRAS_UNFUSED,
        divide_up(rows * job->slices * job->chunks, NATTEN_CUDA_WARPS), 0);
    add(l, NATTEN_CUDA_KERNEL_SUM_EXTRAS,
        divide_up(rows * (task->dim + task->dim_v), NATTEN_CUDA_THREADS), 0);
}

/* A pass of the kernels for large windows. */
static void add_mma(list *l, natten_cuda_halo_pass pass, const natten_cuda_mma_fit *fit)
{
    static const natten_cuda_kernel first[] = {NATTEN_CUDA_KERNEL_MMA_FORWARD,
                                               NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY,
                                               NATTEN_CUDA_KERNEL_MMA_GRAD_KEY};
    bool is_split = pass == NATTEN_CUDA_HALO_GRAD_TOKENS && fit->is_wide;
    unsigned width = (unsigned)fit->width;
    if (natten_cuda_mma_allows_tf32(&l->job.task))
        width += NATTEN_CUDA_KERNEL_TF32 - NATTEN_CUDA_KERNELS_HALO;
    l->job.mma = fit->mma;
    if (!is_split || wants(&l->job.task, NATTEN_GRAD_KEY))
        add(l, first[pass] + width, fit->blocks, fit->shared_bytes);
    if (is_split && wants(&l->job.task, NATTEN_GRAD_VALUE))
        add(l, NATTEN_CUDA_KERNEL_MMA_GRAD_VALUE + width, fit->blocks,
            fit->shared_bytes);
}

/* All gradients but those of extra tokens, by adding up those of queries; false if they
 * aren't. */
static bool add_added(list *l)
{
    const natten_task *task = &l->job.task;
    natten_cuda_added fit;
    if (!fits_added(task, l->gpu, &fit))
        return false;
    int64_t before =
        delta_bytes(task) + stats_bytes(task) + aligned(partial_bytes(task, l->gpu));
    int32_t step = (int32_t)task->heads;
    l->job.sums = (float *)(void *)((char *)l->job.delta + before);
    for (int a = 2; a >= 0; a--) {
        l->job.sums_step[a] = step * task->axis[a].dilation;
        step *= task->axis[a].query_count;
    }
    l->job.mma = fit.all.mma;
    add(l, NATTEN_CUDA_KERNEL_MMA_GRAD_ALL + (unsigned)fit.all.width, fit.all.blocks,
        fit.all.shared_bytes);
    l->passes[l->count - 1].clear_bytes = (size_t)sums_bytes(task, l->gpu);
    l->job.mma = fit.rest.mma;
    add(l, NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY + (unsigned)fit.rest.width,
        fit.rest.blocks, fit.rest.shared_bytes);
    l->job.sums = NULL; /* others add to none */
    return true;
}

/* A pass of the halo kernels. */
static void add_halo(list *l, natten_cuda_halo_pass pass,
                     const natten_cuda_halo_fit *fit)
{
    natten_task own = l->job.task, task = natten_cuda_halo_task(&own);
    l->job.task = task;
    bool by_engine = fit->halo.by_maps && l->easy; /* which writes whole rows */
    int32_t shared = by_engine ? fit->shared_bytes : fit->plain_bytes;
    l->job.halo = by_engine ? fit->halo : fit->plain;
    l->job.share = fit->share;
    int before = l->count;
    int kind =
        (fit->dims > 64 ? 2 : fit->dims > 32) +
        (wants(&task, NATTEN_BIAS) && pass != NATTEN_CUDA_HALO_GRAD_BIAS ? 3 : 0);
    int64_t blocks = natten_cuda_halo_blocks(fit, &l->job.halo);
    static const natten_cuda_kernel first[] = {
        NATTEN_CUDA_KERNEL_HALO_FORWARD, NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY,
        NATTEN_CUDA_KERNEL_HALO_GRAD_KEY, NATTEN_CUDA_KERNEL_HALO_GRAD_BIAS};
    bool is_split = pass == NATTEN_CUDA_HALO_GRAD_TOKENS && fit->dims > 64;
    if (!is_split || wants(&task, NATTEN_GRAD_KEY))
        add(l, first[pass] + kind, blocks, shared);
    if (is_split && wants(&task, NATTEN_GRAD_VALUE))
        add(l, NATTEN_CUDA_KERNEL_HALO_GRAD_VALUE + kind, blocks, shared);
    for (int i = before; i < l->count; i++) {
        l->passes[i].plain = fit->plain;
        l->passes[i].plain_bytes = fit->plain_bytes;
        l->passes[i].plain_blocks = natten_cuda_halo_blocks(fit, &fit->plain);
    }
    l->job.task = own;
    memset(&l->job.halo, 0, sizeof l->job.halo); /* others have none */
    memset(&l->job.share, 0, sizeof l->job.share);
}

/* The copy engine may bring a pass its rows; without it that is launched the same. */
static void allow_maps(natten_cuda_pass *own, bool by_maps, int64_t blocks,
                       int32_t shared_bytes)
{
    own->plain = own->job.halo, own->plain_bytes = shared_bytes;
    own->plain_blocks = blocks;
    own->job.halo.by_maps = by_maps;
}

/* A pass of the kernels of warpgroups. */
static void add_wgmma(list *l, natten_cuda_halo_pass pass,
                      const natten_cuda_wgmma_fit *fit)
{
    static const natten_cuda_kernel kernels[] = {NATTEN_CUDA_KERNEL_WGMMA_FORWARD,
                                                 NATTEN_CUDA_KERNEL_WGMMA_GRAD_QUERY,
                                                 NATTEN_CUDA_KERNEL_WGMMA_GRAD_TOKENS};
    natten_cuda_pass *own = &l->passes[l->count];
    l->job.wgmma = fit->wgmma;
    add(l, kernels[pass], fit->blocks, fit->shared_bytes);
    allow_maps(own, true, fit->blocks, fit->shared_bytes);
    memcpy(own->job.halo.short_kind, fit->short_kind, sizeof fit->short_kind);
    memset(&l->job.wgmma, 0, sizeof l->job.wgmma); /* others have none */
}

/* A pass down bands of a grid. */
static void add_band(list *l, natten_cuda_halo_pass pass,
                     const natten_cuda_band_fit *fit)
{
    static const natten_cuda_kernel kernels[] = {NATTEN_CUDA_KERNEL_BAND_FORWARD,
                                                 NATTEN_CUDA_KERNEL_BAND_GRAD_QUERY,
                                                 NATTEN_CUDA_KERNEL_BAND_GRAD_TOKENS};
    natten_cuda_pass *own = &l->passes[l->count];
    l->job.band = fit->band;
    add(l, kernels[pass], fit->blocks, fit->shared_bytes);
    allow_maps(own, true, fit->blocks, fit->shared_bytes);
    memcpy(own->job.halo.short_kind, fit->short_kind, sizeof fit->short_kind);
    memset(&l->job.band, 0, sizeof l->job.band); /* others have none */
}

/* A pass on tensor cores; false if there are no kernels for it. */
static bool add_tensor_cores(list *l, natten_cuda_halo_pass pass)
{
    natten_cuda_fit fit = natten_cuda_family_choose(&l->job.task, l->gpu, pass);
    if (fit.set == NATTEN_CUDA_SET_MMA)
        add_mma(l, pass, &fit.mma);
    else if (fit.set == NATTEN_CUDA_SET_HALO)
        add_halo(l, pass, &fit.halo);
    else if (fit.set == NATTEN_CUDA_SET_WGMMA)
        add_wgmma(l, pass, &fit.wgmma);
    else if (fit.set == NATTEN_CUDA_SET_BAND)
        add_band(l, pass, &fit.band);
    return fit.set != NATTEN_CUDA_SET_SIMT;
}

/* The gradients of queries and of the bias in one pass; false if it isn't for them. */
static bool add_halo_bias(list *l)
{
    natten_cuda_fit fit;
    if (!fits_bias(&l->job.task, l->gpu, &fit))
        return false;
    add_halo(l, NATTEN_CUDA_HALO_GRAD_BIAS, &fit.halo);
    l->job.chunks = (int32_t)sums_of(&fit);
    add_sum_bias(l);
    return true;
}

/* Do rows of `width` elements follow each other, as queries and heads are counted? */
static bool is_compact(const natten_task *task, const natten_view *view, int64_t width)
{
    int64_t step = width;
    bool compact =
        (width == 1 || view->item == 1) && (task->heads == 1 || view->head == step);
    step *= task->heads;
    for (int a = 2; a >= 0; a--) {
        compact = compact && (task->axis[a].query_count == 1 || view->axis[a] == step);
        step *= task->axis[a].query_count;
    }
    return compact && (task->batch == 1 || view->batch == step);
}

static void add_delta(list *l)
{
    const natten_task *task = &l->job.task;
    bool is_half = task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16;
    const uint32_t both = UINT32_C(1) << NATTEN_OUT | UINT32_C(1) << NATTEN_GRAD_OUT;
    if (!is_half || l->gpu->arch < 80 || (l->job.vector & both) != both ||
        widest(task) > NATTEN_CUDA_SLICE ||
        !is_compact(task, &task->view[NATTEN_OUT], task->dim_v) ||
        !is_compact(task, &task->view[NATTEN_GRAD_OUT], task->dim_v) ||
        (l->job.stats != NULL && !is_compact(task, &task->view[NATTEN_LSE], 1)) ||
        (wants(task, NATTEN_GRAD_LSE) &&
         !is_compact(task, &task->view[NATTEN_GRAD_LSE], 1))) {
        add_tokens(l, NATTEN_CUDA_KERNEL_DELTA, false, 1);
        l->job.pieces = queries_of(task) * task->batch * task->heads;
        if (l->job.stats != NULL)
            add(l, NATTEN_CUDA_KERNEL_HALO_STATS,
                divide_up(l->job.pieces, NATTEN_CUDA_THREADS), 0);
        return;
    }
    l->job.pieces = queries_of(task) * task->batch * task->heads;
    add(l, NATTEN_CUDA_KERNEL_HALO_DELTA,
        divide_up(l->job.pieces * l->job.lanes, NATTEN_CUDA_THREADS), 0);
}

/* Where the copy engine fetches slices, the pass of queries of 32 works delta out
 * itself, and so do those down bands and of warpgroups, if delta's own pass, the one
 * before, is that for compact tensors.  With rows of 64 or with sums of bias the halo
 * kernels take longer for it than the pass does. */
static void spare_delta(natten_cuda_pass *delta, natten_cuda_pass *next)
{
    bool works_it_out = next->kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY ||
                        next->kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY + 3 ||
                        next->kernel == NATTEN_CUDA_KERNEL_BAND_GRAD_QUERY ||
                        next->kernel == NATTEN_CUDA_KERNEL_WGMMA_GRAD_QUERY;
    if (delta->kernel != NATTEN_CUDA_KERNEL_HALO_DELTA || !next->job.halo.by_maps ||
        !works_it_out)
        return;
    delta->spared = true;
    next->job.halo.writes_delta = 1;
}

/* All gradients in one pass, delta too; false if it isn't for them.  Which of them are
 * asked for does not matter, for bits must not depend on it. */
static bool add_sweep(list *l)
{
    const natten_task *task = &l->job.task;
    natten_cuda_sweep_fit fit;
    if (!natten_cuda_sweep_plan(task, l->gpu, &fit))
        return false;
    natten_cuda_pass *own = &l->passes[l->count];
    natten_cuda_kernel kernel = wants(task, NATTEN_BIAS) ? NATTEN_CUDA_KERNEL_SWEEP_BIAS
                                                         : NATTEN_CUDA_KERNEL_SWEEP;
    add(l, kernel + (fit.sweep.columns > 2), fit.blocks, fit.shared_bytes);
    own->job.sweep = fit.sweep;
    allow_maps(own, l->easy, fit.blocks, fit.shared_bytes);
    l->job.chunks = (int32_t)fit.sums;
    if (wants(task, NATTEN_GRAD_BIAS))
        add_sum_bias(l);
    return true;
}

/* Does a pass read job.stats?  Those of warpgroups and down bands do, and the halo
 * kernels' for gradients of keys and values. */
static bool wants_stats(const natten_task *task, const natten_gpu *gpu)
{
    natten_cuda_set query = NATTEN_CUDA_SET_SIMT, tokens = NATTEN_CUDA_SET_SIMT;
    if (wants(task, NATTEN_GRAD_QUERY))
        query = natten_cuda_family_choose(task, gpu, NATTEN_CUDA_HALO_GRAD_QUERY).set;
    if (wants(task, NATTEN_GRAD_KEY) || wants(task, NATTEN_GRAD_VALUE))
        tokens = natten_cuda_family_choose(task, gpu, NATTEN_CUDA_HALO_GRAD_TOKENS).set;
    return query == NATTEN_CUDA_SET_WGMMA || tokens == NATTEN_CUDA_SET_WGMMA ||
           query == NATTEN_CUDA_SET_BAND || tokens == NATTEN_CUDA_SET_BAND ||
           tokens == NATTEN_CUDA_SET_HALO;
}

/* delta is read by all others. */
static void add_backward(list *l, bool fused)
{
    const natten_task *task = &l->job.task;
    natten_cuda_added added;
    if (fused && add_sweep(l))
        return;
    bool adds = fused && fits_added(task, l->gpu, &added);
    if (fused && !adds && wants_stats(task, l->gpu))
        l->job.stats = (float *)(void *)((char *)l->job.delta + delta_bytes(task));
    if (fused)
        add_delta(l);
    int before = l->count;
    bool has_bias = fused && add_halo_bias(l);
    adds = adds && add_added(l);
    if (wants(task, NATTEN_GRAD_QUERY) && !has_bias && !adds &&
        !(fused && add_tensor_cores(l, NATTEN_CUDA_HALO_GRAD_QUERY)))
        add_tokens(l,
                   fused ? NATTEN_CUDA_KERNEL_GRAD_QUERY
                         : NATTEN_CUDA_KERNEL_GRAD_QUERY_UNFUSED,
                   false, task->dim);
    if (fused && wants(task, NATTEN_GRAD_QUERY))
        spare_delta(&l->passes[before - 1], &l->passes[before]);
    if ((wants(task, NATTEN_GRAD_KEY) || wants(task, NATTEN_GRAD_VALUE)) && !adds &&
        !(fused && add_tensor_cores(l, NATTEN_CUDA_HALO_GRAD_TOKENS)))
        add_tokens(l,
                   fused ? NATTEN_CUDA_KERNEL_GRAD_TOKENS
                         : NATTEN_CUDA_KERNEL_GRAD_TOKENS_UNFUSED,
                   true, widest(task));
    if (wants(task, NATTEN_GRAD_BIAS) && !has_bias)
        add_bias(l, fused);
    if (wants_extras(task))
        add_extras(l, fused);
}

int natten_cuda_plan_passes(const natten_plan *plan, void *workspace,
                            natten_cuda_pass passes[NATTEN_CUDA_PASSES])
{
    const natten_task *task = &plan->task;
    natten_gpu gpu = {.arch = plan->choice.arch, .processors = plan->choice.processors};
    list l = {.passes = passes, .gpu = &gpu, .processors = gpu.processors};
    l.job.task = *task;
    l.job.lanes = lanes_of(task);
    l.job.vector = vector_roles(task);
    l.easy = has_easy_rows(task, l.job.vector);
    l.job.window_slots = natten_task_slots(task) - task->extras;
    l.job.entries = entries_of(task);
    l.job.partial = workspace;
    switch (task->operation) {
    case NATTEN_FORWARD:
        if (!add_tensor_cores(&l, NATTEN_CUDA_HALO_FORWARD))
            add_tokens(&l, NATTEN_CUDA_KERNEL_FORWARD, false, task->dim_v);
        break;
    case NATTEN_AV:
        add_tokens(&l, NATTEN_CUDA_KERNEL_AV, false, task->dim_v);
        break;
    case NATTEN_QK:
        add_tokens(&l, NATTEN_CUDA_KERNEL_QK, false, 1);
        break;
    case NATTEN_BACKWARD:
        l.job.delta = workspace;
        l.job.partial = (char *)workspace + delta_bytes(task) + stats_bytes(task);
        add_backward(&l, true);
        break;
    case NATTEN_AV_BACKWARD:
        if (wants(task, NATTEN_GRAD_ATTN))
            add_tokens(&l, NATTEN_CUDA_KERNEL_GRAD_ATTN, false, 1);
        add_backward(&l, false);
        break;
    default:
        add_backward(&l, false);
        break;
    }
    return l.count;
}
