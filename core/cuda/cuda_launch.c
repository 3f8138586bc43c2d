/* SPDX-License-Identifier: MIT
 *
 * A call on a GPU, see cuda_launch.h.  The fat binaries are loaded once per process,
 * independent of contexts; the driver puts a kernel into a context when it is first
 * launched there.
 *
 * Length: one table of all kernels, and what each family's launches want. */
#include "cuda/cuda_launch.h"

#include "base/status.h"
#include "cuda/cuda.h"
#include "cuda/cuda_band.h"
#include "cuda/cuda_mma.h"
#include "cuda/cuda_wgmma.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

/* A kernel of halo.cu where the copy engine fetches rows. */
#define ENGINE(kernel) ((kernel)-NATTEN_CUDA_KERNELS_SIMT + NATTEN_CUDA_KERNEL_ENGINE)

/* Kernels of halo.cu for rows of 32 and 64, the second time where the copy engine
 * fetches them; six of one kind, of which those for rows of 128 may have a name of
 * their own. */
#define HALO_TWO(kernel, name)                                                     \
    [NATTEN_CUDA_KERNEL_HALO_##kernel] = "natten_halo_" name "_32",                \
    [NATTEN_CUDA_KERNEL_HALO_##kernel + 1] = "natten_halo_" name "_64",            \
    [ENGINE(NATTEN_CUDA_KERNEL_HALO_##kernel)] = "natten_halo_engine_" name "_32", \
    [ENGINE(NATTEN_CUDA_KERNEL_HALO_##kernel + 1)] = "natten_halo_engine_" name "_64"
#define HALO(kernel, name, name_128)                                                 \
    HALO_TWO(kernel, name),                                                          \
        [NATTEN_CUDA_KERNEL_HALO_##kernel + 2] = "natten_halo_" name_128 "_128",     \
                                            HALO_TWO(kernel + 3, name "_bias"),      \
                                            [NATTEN_CUDA_KERNEL_HALO_##kernel + 5] = \
                                                "natten_halo_" name_128 "_bias_128"

/* A kernel of mma.cu, for each width of rows; those for more than 128 may have a name
 * of their own. */
#define MMA(kernel, name, name_wide)                                        \
    [NATTEN_CUDA_KERNEL_MMA_##kernel] = "natten_mma_" name "_32",           \
    [NATTEN_CUDA_KERNEL_MMA_##kernel + 1] = "natten_mma_" name "_64",       \
    [NATTEN_CUDA_KERNEL_MMA_##kernel + 2] = "natten_mma_" name "_96",       \
    [NATTEN_CUDA_KERNEL_MMA_##kernel + 3] = "natten_mma_" name "_128",      \
    [NATTEN_CUDA_KERNEL_MMA_##kernel + 4] = "natten_mma_" name_wide "_192", \
    [NATTEN_CUDA_KERNEL_MMA_##kernel + 5] = "natten_mma_" name_wide "_256"

/* A kernel of wgmma.cu, the second time where the copy engine fetches rows. */
#define WGMMA_ENGINE(kernel) \
    ((kernel)-NATTEN_CUDA_KERNEL_WGMMA_FORWARD + NATTEN_CUDA_KERNEL_WGMMA_ENGINE)
#define WGMMA_KERNEL(kernel, name)                                    \
    [NATTEN_CUDA_KERNEL_WGMMA_##kernel] = "natten_wgmma_" name "_64", \
    [WGMMA_ENGINE(NATTEN_CUDA_KERNEL_WGMMA_##kernel)] =               \
        "natten_wgmma_engine_" name "_64"

/* Those of band.cu, likewise. */
#define BAND_ENGINE(kernel) \
    ((kernel)-NATTEN_CUDA_KERNEL_BAND_FORWARD + NATTEN_CUDA_KERNEL_BAND_ENGINE)
#define BAND_KERNEL(kernel, name)                                   \
    [NATTEN_CUDA_KERNEL_BAND_##kernel] = "natten_band_" name "_64", \
    [BAND_ENGINE(NATTEN_CUDA_KERNEL_BAND_##kernel)] = "natten_band_engine_" name "_64"

static const char *const kernel_names[NATTEN_CUDA_KERNELS] = {
    [NATTEN_CUDA_KERNEL_FORWARD_EASY] = "natten_simt_forward",
    [NATTEN_CUDA_KERNEL_GRAD_QUERY_EASY] = "natten_simt_grad_query",
    [NATTEN_CUDA_KERNEL_GRAD_TOKENS_EASY] = "natten_simt_grad_tokens",
    [NATTEN_CUDA_KERNEL_EXTRAS_EASY] = "natten_simt_extras",
    [NATTEN_CUDA_KERNEL_BIAS_EASY] = "natten_simt_bias",
    [NATTEN_CUDA_KERNEL_FORWARD] = "natten_simt_forward",
    [NATTEN_CUDA_KERNEL_AV] = "natten_simt_av",
    [NATTEN_CUDA_KERNEL_QK] = "natten_simt_qk",
    [NATTEN_CUDA_KERNEL_GRAD_ATTN] = "natten_simt_grad_attn",
    [NATTEN_CUDA_KERNEL_DELTA] = "natten_simt_delta",
    [NATTEN_CUDA_KERNEL_GRAD_QUERY] = "natten_simt_grad_query",
    [NATTEN_CUDA_KERNEL_GRAD_QUERY_UNFUSED] = "natten_simt_grad_query_unfused",
    [NATTEN_CUDA_KERNEL_GRAD_TOKENS] = "natten_simt_grad_tokens",
    [NATTEN_CUDA_KERNEL_GRAD_TOKENS_UNFUSED] = "natten_simt_grad_tokens_unfused",
    [NATTEN_CUDA_KERNEL_EXTRAS] = "natten_simt_extras",
    [NATTEN_CUDA_KERNEL_EXTRAS_UNFUSED] = "natten_simt_extras_unfused",
    [NATTEN_CUDA_KERNEL_SUM_EXTRAS] = "natten_simt_sum_extras",
    [NATTEN_CUDA_KERNEL_BIAS] = "natten_simt_bias",
    [NATTEN_CUDA_KERNEL_BIAS_UNFUSED] = "natten_simt_bias_unfused",
    [NATTEN_CUDA_KERNEL_SUM_BIAS] = "natten_simt_sum_bias",
    [NATTEN_CUDA_KERNEL_MERGE] = "natten_simt_merge",
    [NATTEN_CUDA_KERNEL_MERGE_BACKWARD] = "natten_simt_merge_backward",
    HALO(FORWARD, "forward", "forward"),
    HALO(GRAD_QUERY, "grad_query", "grad_query"),
    HALO(GRAD_KEY, "grad_tokens", "grad_key"), /* rows up to 64: both */
    HALO(GRAD_VALUE, "grad_tokens", "grad_value"),
    HALO_TWO(GRAD_BIAS, "grad_bias"),
    [NATTEN_CUDA_KERNEL_HALO_DELTA] = "natten_halo_delta",
    [NATTEN_CUDA_KERNEL_HALO_STATS] = "natten_halo_stats",
    MMA(FORWARD, "forward", "forward"),
    MMA(GRAD_QUERY, "grad_query", "grad_query"),
    MMA(GRAD_KEY, "grad_tokens", "grad_key"), /* rows up to 128: both */
    MMA(GRAD_VALUE, "grad_tokens", "grad_value"),
    [NATTEN_CUDA_KERNEL_SWEEP] = "natten_sweep_backward_2",
    [NATTEN_CUDA_KERNEL_SWEEP + 1] = "natten_sweep_backward_3",
    [NATTEN_CUDA_KERNEL_SWEEP_ENGINE] = "natten_sweep_engine_backward_2",
    [NATTEN_CUDA_KERNEL_SWEEP_ENGINE + 1] = "natten_sweep_engine_backward_3",
    [NATTEN_CUDA_KERNEL_SWEEP_BIAS] = "natten_sweep_backward_bias_2",
    [NATTEN_CUDA_KERNEL_SWEEP_BIAS + 1] = "natten_sweep_backward_bias_3",
    [NATTEN_CUDA_KERNEL_SWEEP_BIAS_ENGINE] = "natten_sweep_engine_backward_bias_2",
    [NATTEN_CUDA_KERNEL_SWEEP_BIAS_ENGINE + 1] = "natten_sweep_engine_backward_bias_3",
    [NATTEN_CUDA_KERNEL_HALO_LIGHT] = "natten_halo_engine_forward_light_32",
    [NATTEN_CUDA_KERNEL_MMA_GRAD_ALL] = "natten_mma_grad_all_32",
    [NATTEN_CUDA_KERNEL_MMA_GRAD_ALL + 1] = "natten_mma_grad_all_64",
    [NATTEN_CUDA_KERNEL_MMA_GRAD_ALL + 2] = "natten_mma_grad_all_96",
    [NATTEN_CUDA_KERNEL_MMA_GRAD_ALL + 3] = "natten_mma_grad_all_128",
    WGMMA_KERNEL(FORWARD, "forward"),
    WGMMA_KERNEL(GRAD_QUERY, "grad_query"),
    WGMMA_KERNEL(GRAD_TOKENS, "grad_tokens"),
    BAND_KERNEL(FORWARD, "forward"),
    BAND_KERNEL(GRAD_QUERY, "grad_query"),
    BAND_KERNEL(GRAD_TOKENS, "grad_tokens"),
};

/* ---- kernels ---- */

static void *libraries[NATTEN_DTYPES][NATTEN_CUDA_SETS];
static _Atomic(void *) kernels[NATTEN_DTYPES][NATTEN_CUDA_KERNELS];
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

natten_cuda_set natten_cuda_kernel_set(natten_cuda_kernel kernel)
{
    return kernel < NATTEN_CUDA_KERNELS_EASY           ? NATTEN_CUDA_SET_SIMT_EASY
           : kernel < NATTEN_CUDA_KERNELS_SIMT         ? NATTEN_CUDA_SET_SIMT
           : kernel < NATTEN_CUDA_KERNELS_HALO         ? NATTEN_CUDA_SET_HALO
           : kernel < NATTEN_CUDA_KERNEL_ENGINE        ? NATTEN_CUDA_SET_MMA
           : kernel < NATTEN_CUDA_KERNEL_TF32          ? NATTEN_CUDA_SET_HALO
           : kernel < NATTEN_CUDA_KERNEL_SWEEP         ? NATTEN_CUDA_SET_MMA_TF32
           : kernel < NATTEN_CUDA_KERNEL_HALO_LIGHT    ? NATTEN_CUDA_SET_SWEEP
           : kernel < NATTEN_CUDA_KERNEL_WGMMA_FORWARD ? NATTEN_CUDA_SET_HALO
           : kernel < NATTEN_CUDA_KERNEL_BAND_FORWARD  ? NATTEN_CUDA_SET_WGMMA
                                                       : NATTEN_CUDA_SET_BAND;
}

/* With load_lock held. */
static natten_status load(const natten_cuda_call *call, natten_cuda_kernel kernel,
                          void **found)
{
    const natten_driver *driver = call->driver;
    natten_cuda_set set = natten_cuda_kernel_set(kernel);
    void **library = &libraries[call->dtype][set];
    if (*library == NULL)
        NATTEN_TRY_CUDA(driver, library_load, library,
                        natten_cuda_image(call->dtype, set), NULL, NULL, 0, NULL, NULL,
                        0);
    if (set == NATTEN_CUDA_SET_MMA_TF32) /* names are the same there */
        kernel = kernel - NATTEN_CUDA_KERNEL_TF32 + NATTEN_CUDA_KERNELS_HALO;
    NATTEN_TRY_CUDA(driver, library_kernel, found, *library, kernel_names[kernel]);
    return NATTEN_OK;
}

/* The first use of a kernel loads it, in the midst of a stream capture too: loading
 * touches no stream, so the capture may allow it. */
static natten_status find_kernel(const natten_cuda_call *call,
                                 natten_cuda_kernel kernel, void **found)
{
    enum { RELAXED = 2 };
    *found = atomic_load(&kernels[call->dtype][kernel]);
    if (*found != NULL)
        return NATTEN_OK;
    int mode = RELAXED;
    NATTEN_TRY_CUDA(call->driver, capture_mode, &mode);
    pthread_mutex_lock(&load_lock);
    natten_status status = load(call, kernel, found);
    pthread_mutex_unlock(&load_lock);
    int result = call->driver->capture_mode(&mode);
    NATTEN_TRY(status);
    atomic_store(&kernels[call->dtype][kernel], *found);
    return natten_driver_check(result, "cuThreadExchangeStreamCaptureMode");
}

/* Let a kernel have more shared memory than every kernel has; once for a device. */
static natten_status allow_shared(const natten_cuda_call *call,
                                  natten_cuda_kernel kernel, void *function,
                                  int32_t bytes)
{
    enum { SHARED_BYTES = 8, SHARED_SHARE = 9 }; /* CUfunction_attribute */
    enum { SIZES = 3 };
    static const int sizes[SIZES] = {NATTEN_CUDA_SHARED_BYTES, NATTEN_CUDA_SHARED_LARGE,
                                     NATTEN_CUDA_SHARED_ENGINE};
    static _Atomic(uint64_t) allowed[NATTEN_DTYPES][NATTEN_CUDA_KERNELS][SIZES];
    int size = (bytes > sizes[0]) + (bytes > sizes[1]);
    uint64_t device = UINT64_C(1) << (call->gpu->device % 64);
    for (int i = size; i < SIZES; i++) /* more is enough, too */
        if (atomic_load(&allowed[call->dtype][kernel][i]) & device)
            return NATTEN_OK;
    NATTEN_TRY_CUDA(call->driver, kernel_attribute, SHARED_BYTES, sizes[size], function,
                    call->gpu->device);
    NATTEN_TRY_CUDA(call->driver, kernel_attribute, SHARED_SHARE, 100, function,
                    call->gpu->device);
    atomic_fetch_or(&allowed[call->dtype][kernel][size], device);
    return NATTEN_OK;
}

/* ---- maps ---- */

/* A tensor as the copy engine sees it, of one kind: the innermost axis runs over the
 * elements of a row and, further on, over heads and where classes begin; then come the
 * tokens of a class, and the batch. */
typedef struct map_shape {
    uint64_t extent[5], stride[4]; /* elements; bytes */
} map_shape;

static bool describe(const natten_cuda_job *job, natten_role role, int kind,
                     map_shape *shape)
{
    const natten_task *task = &job->task;
    const natten_view *view = &task->view[role];
    bool of_keys = role == NATTEN_KEY || role == NATTEN_VALUE;
    int64_t heads = of_keys ? task->heads_kv : task->heads;
    int64_t inner =
        role == NATTEN_VALUE || role == NATTEN_GRAD_OUT ? task->dim_v : task->dim;
    inner += (heads - 1) * view->head;
    int64_t extent[5] = {0, 0, 0, 0, task->batch}, stride[4] = {0, 0, 0, view->batch};
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        int64_t d = axis->dilation,
                count = of_keys ? axis->key_count : axis->query_count;
        bool is_short =
            job->halo.short_kind[a] != 0 && (kind & job->halo.short_kind[a]);
        extent[3 - a] = natten_max(1, is_short ? count / d : (count + d - 1) / d);
        stride[2 - a] = view->axis[a] * d;
        inner +=
            natten_min(d, count) > 0 ? (natten_min(d, count) - 1) * view->axis[a] : 0;
    }
    extent[0] = inner;
    for (int i = 0; i < 5; i++)
        shape->extent[i] = (uint64_t)extent[i];
    for (int i = 0; i < 4; i++) {
        if (extent[i + 1] == 1) /* it has no meaning */
            stride[i] = 16;
        /* Within 2^40 bytes. */
        if (stride[i] <= 0 || stride[i] >= INT64_C(1) << 38)
            return false;
        shape->stride[i] = (uint64_t)stride[i] * 2;
    }
    return view->head >= 0 && inner <= INT32_MAX && (job->vector >> role & 1) != 0;
}

/* Encode the map of a tensor of one kind; takes halo.by_maps back if there is none. */
static natten_status encode(const natten_cuda_call *call, natten_cuda_job *job,
                            natten_role role, int kind, const uint32_t box[5],
                            natten_cuda_map *map)
{
    enum { UINT16 = 1, SWIZZLE_64 = 2, SWIZZLE_128 = 3, PROMOTE_128 = 2 };
    static const uint32_t steps[5] = {1, 1, 1, 1, 1};
    map_shape shape;
    if (!describe(job, role, kind, &shape)) {
        job->halo.by_maps = 0;
        return NATTEN_OK;
    }
    NATTEN_TRY_CUDA(call->driver, tensor_map, map, UINT16, 5, job->task.view[role].data,
                    shape.extent, shape.stride, box, steps, 0,
                    box[0] == 32 ? SWIZZLE_64 : SWIZZLE_128, PROMOTE_128, 0);
    return NATTEN_OK;
}

/* The rows of sweep.cu: a subtile each. */
static natten_status map_sweep(const natten_cuda_call *call, natten_cuda_job *job)
{
    static const natten_role roles[] = {NATTEN_QUERY, NATTEN_GRAD_OUT, NATTEN_KEY,
                                        NATTEN_VALUE};
    static const uint32_t box[5] = {32, 4, 4, 1, 1};
    for (int i = 0; i < 4 && job->halo.by_maps; i++)
        NATTEN_TRY(encode(call, job, roles[i], 0, box, &job->map[i][0]));
    return NATTEN_OK;
}

/* The maps of a tensor, one for each kind. */
static natten_status map_kinds(const natten_cuda_call *call, natten_cuda_job *job,
                               natten_role role, const uint32_t box[5], int which)
{
    int kinds = 1;
    for (int a = 0; a < 3; a++)
        kinds += job->halo.short_kind[a];
    for (int kind = 0; kind < kinds && job->halo.by_maps; kind++)
        NATTEN_TRY(encode(call, job, role, kind, box, &job->map[which][kind]));
    return NATTEN_OK;
}

/* The slices of halo.cu. */
static natten_status map_halo(const natten_cuda_call *call, natten_cuda_job *job)
{
    const uint32_t box[5] = {(uint32_t)job->task.dim << job->halo.twins,
                             (uint32_t)job->halo.pitch, (uint32_t)job->halo.rows, 1, 1};
    for (int which = 0; which < 2; which++)
        NATTEN_TRY(
            map_kinds(call, job, (natten_role)job->halo.partners[which], box, which));
    return NATTEN_OK;
}

/* The passes of wgmma.cu and of band.cu, in the same order. */
enum { MAPPED_PASSES = 3 };
_Static_assert((int)MAPPED_PASSES == NATTEN_CUDA_WGMMA_PASSES &&
                   (int)MAPPED_PASSES == NATTEN_CUDA_BAND_PASSES,
               "passes");

/* The boxes of two tensors of partners of a pass, and those of some of rows. */
static natten_status map_pass(const natten_cuda_call *call, natten_cuda_job *job,
                              unsigned pass, int32_t row_tensors,
                              const uint32_t partners[5], const uint32_t rows[5])
{
    static const natten_role roles[MAPPED_PASSES][4] = {
        {NATTEN_KEY, NATTEN_VALUE, NATTEN_QUERY, NATTEN_QUERY},
        {NATTEN_KEY, NATTEN_VALUE, NATTEN_QUERY, NATTEN_GRAD_OUT},
        {NATTEN_QUERY, NATTEN_GRAD_OUT, NATTEN_KEY, NATTEN_VALUE}};
    for (int i = 0; i < 2 + row_tensors; i++)
        NATTEN_TRY(map_kinds(call, job, roles[pass][i], i < 2 ? partners : rows, i));
    return NATTEN_OK;
}

/* The boxes and tiles of wgmma.cu. */
static natten_status map_wgmma(const natten_cuda_call *call, natten_cuda_job *job,
                               natten_cuda_kernel kernel)
{
    const int32_t *box = job->wgmma.box, *tile = job->wgmma.tile;
    const uint32_t partners[5] = {NATTEN_CUDA_WGMMA_DIMS, (uint32_t)box[2],
                                  (uint32_t)box[1], (uint32_t)box[0], 1},
                   rows[5] = {NATTEN_CUDA_WGMMA_DIMS, (uint32_t)tile[2],
                              (uint32_t)tile[1], (uint32_t)tile[0], 1};
    unsigned pass = kernel - NATTEN_CUDA_KERNEL_WGMMA_FORWARD;
    return map_pass(call, job, pass, natten_cuda_wgmma_shapes[pass].row_tensors,
                    partners, rows);
}

/* The groups and rows of band.cu.  Its kernels by maps write whole chunks of results,
 * too. */
static natten_status map_band(const natten_cuda_call *call, natten_cuda_job *job,
                              natten_cuda_kernel kernel)
{
    static const natten_role results[MAPPED_PASSES][2] = {
        {NATTEN_OUT, NATTEN_OUT},
        {NATTEN_GRAD_QUERY, NATTEN_GRAD_QUERY},
        {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE}};
    static const uint32_t groups[5] = {NATTEN_CUDA_BAND_DIMS, NATTEN_CUDA_BAND_PITCH,
                                       NATTEN_CUDA_BAND_SIDE, 1, 1},
                          rows[5] = {NATTEN_CUDA_BAND_DIMS, NATTEN_CUDA_BAND_COLUMNS,
                                     NATTEN_CUDA_BAND_SIDE, 1, 1};
    unsigned pass = kernel - NATTEN_CUDA_KERNEL_BAND_FORWARD;
    for (int i = 0; i < 2; i++)
        if (job->task.view[results[pass][i]].data != NULL &&
            (job->vector >> results[pass][i] & 1) == 0)
            job->halo.by_maps = 0;
    return map_pass(call, job, pass, natten_cuda_band_shapes[pass].row_tensors, groups,
                    rows);
}

/* The kernel that uses maps in place of one that does not. */
static natten_cuda_kernel engine_of(natten_cuda_kernel kernel,
                                    const natten_cuda_job *job)
{
    switch (natten_cuda_kernel_set(kernel)) {
    case NATTEN_CUDA_SET_SWEEP:
        return kernel + 2;
    case NATTEN_CUDA_SET_WGMMA:
        return WGMMA_ENGINE(kernel);
    case NATTEN_CUDA_SET_BAND:
        return BAND_ENGINE(kernel);
    default:
        return job->halo.light ? NATTEN_CUDA_KERNEL_HALO_LIGHT : ENGINE(kernel);
    }
}

natten_status natten_cuda_call_map(const natten_cuda_call *call, natten_cuda_job *job,
                                   natten_cuda_kernel *kernel)
{
    natten_cuda_set set = natten_cuda_kernel_set(*kernel);
    if (set == NATTEN_CUDA_SET_SWEEP)
        NATTEN_TRY(map_sweep(call, job));
    else if (set == NATTEN_CUDA_SET_WGMMA)
        NATTEN_TRY(map_wgmma(call, job, *kernel));
    else if (set == NATTEN_CUDA_SET_BAND)
        NATTEN_TRY(map_band(call, job, *kernel));
    else
        NATTEN_TRY(map_halo(call, job));
    if (job->halo.by_maps)
        *kernel = engine_of(*kernel, job);
    return NATTEN_OK;
}

natten_status natten_cuda_call_clear(const natten_cuda_call *call, void *address,
                                     size_t bytes)
{
    NATTEN_TRY_CUDA(call->driver, fill, (uintptr_t)address, 0, bytes / 4, call->stream);
    return NATTEN_OK;
}

/* Of a block.  Those for large windows have as many for all types. */
static unsigned threads_of(natten_cuda_kernel kernel, const natten_cuda_job *job)
{
    natten_cuda_set set = natten_cuda_kernel_set(kernel);
    if (set == NATTEN_CUDA_SET_SWEEP)
        return NATTEN_CUDA_WARP *
               ((unsigned)job->sweep.warps + (kernel >= NATTEN_CUDA_KERNEL_SWEEP_BIAS));
    if (set == NATTEN_CUDA_SET_WGMMA) { /* crews, and those who bring for them */
        unsigned pass =
            (kernel - NATTEN_CUDA_KERNEL_WGMMA_FORWARD) % NATTEN_CUDA_WGMMA_PASSES;
        return 4 * NATTEN_CUDA_WARP *
               ((unsigned)natten_cuda_wgmma_shapes[pass].crews + 1);
    }
    if (set == NATTEN_CUDA_SET_BAND) { /* the same */
        unsigned pass =
            (kernel - NATTEN_CUDA_KERNEL_BAND_FORWARD) % NATTEN_CUDA_BAND_PASSES;
        return NATTEN_CUDA_BAND_WARPS * NATTEN_CUDA_WARP *
               ((unsigned)natten_cuda_band_shapes[pass].crews + 1);
    }
    if (set != NATTEN_CUDA_SET_MMA && set != NATTEN_CUDA_SET_MMA_TF32)
        return NATTEN_CUDA_THREADS;
    if (set == NATTEN_CUDA_SET_MMA_TF32)
        kernel = kernel - NATTEN_CUDA_KERNEL_TF32 + NATTEN_CUDA_KERNELS_HALO;
    bool is_all = kernel >= NATTEN_CUDA_KERNEL_MMA_GRAD_ALL;
    unsigned number = kernel - (is_all ? NATTEN_CUDA_KERNEL_MMA_GRAD_ALL
                                       : NATTEN_CUDA_KERNEL_MMA_FORWARD),
             pass = number / NATTEN_CUDA_MMA_WIDTHS;
    /* Keys and values are one pass, also where they have a kernel each. */
    pass = is_all ? NATTEN_CUDA_MMA_GRAD_ALL
                  : natten_min(pass, NATTEN_CUDA_MMA_GRAD_TOKENS);
    return NATTEN_CUDA_WARP *
           (unsigned)natten_cuda_mma_shapes[0][pass][number % NATTEN_CUDA_MMA_WIDTHS]
               .warps;
}

natten_status natten_cuda_call_launch(const natten_cuda_call *call,
                                      natten_cuda_kernel kernel, int64_t blocks,
                                      int32_t shared_bytes, const void *job)
{
    void *function;
    if (blocks == 0)
        return NATTEN_OK;
    NATTEN_TRY(find_kernel(call, kernel, &function));
    if (kernel >= NATTEN_CUDA_KERNELS_SIMT)
        NATTEN_TRY(allow_shared(call, kernel, function, shared_bytes));
    unsigned grid = blocks < INT32_MAX ? (unsigned)blocks : INT32_MAX;
    void *parameters[] = {(void *)(uintptr_t)job};
    natten_driver_launch_attribute overlap = {NATTEN_DRIVER_OVERLAP, {.allowed = 1}};
    natten_driver_launch launch = {.grid = {grid, 1, 1},
                                   .block = {threads_of(kernel, job), 1, 1},
                                   .shared_bytes = (unsigned)shared_bytes,
                                   .stream = call->stream,
                                   .attributes = &overlap,
                                   .attribute_count = call->overlaps};
    NATTEN_TRY_CUDA(call->driver, launch, &launch, function, parameters, NULL);
    return NATTEN_OK;
}

/* ---- contexts ---- */

natten_status natten_cuda_call_begin(natten_cuda_call *call, const natten_gpu *gpu,
                                     natten_dtype dtype, void *stream)
{
    natten_driver_state state;
    *call = (natten_cuda_call){.gpu = gpu, .dtype = dtype, .stream = stream};
    call->driver = natten_driver_get(&state);
    if (call->driver == NULL) /* forked since the GPU was looked at */
        return natten_status_fail(state.status, "%s failed", state.call);
    /* Kernels wait for those before them from compute capability 9.0 on, and there in
     * machine code alone (device/overlap.cuh). */
    call->overlaps = gpu->arch >= 90 && natten_cuda_has_code(gpu->arch) &&
                     state.version >= NATTEN_DRIVER_VERSION_OVERLAP;
    return NATTEN_OK;
}

natten_status natten_cuda_call_check(natten_cuda_call *call, const void *address,
                                     const char *name)
{
    int attributes[] = {NATTEN_DRIVER_POINTER_MEMORY, NATTEN_DRIVER_POINTER_CONTEXT,
                        NATTEN_DRIVER_POINTER_DEVICE, NATTEN_DRIVER_POINTER_MANAGED};
    unsigned memory = 0, managed = 0;
    int device = -1;
    void *context = NULL, *values[] = {&memory, &context, &device, &managed};
    NATTEN_TRY_CUDA(call->driver, pointer_attributes, 4, attributes, values,
                    (uintptr_t)address);
    if (memory == NATTEN_DRIVER_MEMORY_HOST)
        return NATTEN_OK; /* pinned: every GPU can read it */
    if (memory == 0)
        return natten_status_fail(NATTEN_ERR_DEVICE,
                                  "%s is at %p, which is not memory of a GPU", name,
                                  address);
    if (managed)
        return NATTEN_OK;
    if (device != call->gpu->device)
        return natten_status_fail(NATTEN_ERR_DEVICE,
                                  "%s.device_id=%" PRId32
                                  ", but its memory is on device %d",
                                  name, call->gpu->device, device);
    if (context != NULL)
        call->context = context;
    return NATTEN_OK;
}

/* The device's primary context, which every runtime shares. It is kept for as long as
 * the process lives: kernels may still run when a call is over. */
static natten_status primary_context(const natten_cuda_call *call, void **context)
{
    enum { DEVICES = 64 };
    static _Atomic(void *) kept[DEVICES];
    int32_t device = call->gpu->device;
    *context = atomic_load(&kept[device]);
    if (*context != NULL)
        return NATTEN_OK;
    NATTEN_TRY_CUDA(call->driver, primary_retain, context, device);
    atomic_store(&kept[device], *context);
    return NATTEN_OK;
}

natten_status natten_cuda_call_enter(natten_cuda_call *call)
{
    const natten_driver *driver = call->driver;
    void *current = NULL;
    NATTEN_TRY_CUDA(driver, context_get, &current);
    if (call->context == NULL) {
        /* Memory of pools belongs to no context: any of the device will do. */
        int device = -1;
        if (current != NULL)
            NATTEN_TRY_CUDA(driver, context_device, &device);
        if (device == call->gpu->device)
            call->context = current;
        else
            NATTEN_TRY(primary_context(call, &call->context));
    }
    if (call->context == current)
        return NATTEN_OK;
    NATTEN_TRY_CUDA(driver, context_push, call->context);
    call->pushed = true;
    return NATTEN_OK;
}

natten_status natten_cuda_call_scratch(natten_cuda_call *call, size_t bytes,
                                       void **scratch)
{
    uintptr_t address = 0;
    NATTEN_TRY_CUDA(call->driver, alloc_async, &address, bytes, call->stream);
    call->scratch = address;
    *scratch = (void *)address;
    return NATTEN_OK;
}

natten_status natten_cuda_call_end(natten_cuda_call *call, natten_status status)
{
    int result = NATTEN_DRIVER_OK;
    const char *symbol = "";
    void *context;
    if (call->scratch != 0) {
        result = call->driver->free_async(call->scratch, call->stream);
        symbol = "cuMemFreeAsync";
    }
    if (call->pushed) {
        int popped = call->driver->context_pop(&context);
        if (result == NATTEN_DRIVER_OK) {
            result = popped;
            symbol = "cuCtxPopCurrent";
        }
    }
    return status == NATTEN_OK ? natten_driver_check(result, symbol) : status;
}
