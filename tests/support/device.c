/* SPDX-License-Identifier: MIT
 *
 * Calls on a GPU for tests, see device.h. */
#include "support/device.h"

#include "base/status.h"
#include "cuda/cuda.h"
#include "cuda/cuda_plan.h"
#include "problem/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void device_must(int result, const char *what)
{
    if (natten_driver_check(result, what) == NATTEN_OK)
        return;
    fprintf(stderr, "device: %s\n", natten_last_error());
    abort();
}

const natten_driver *device_driver(void)
{
    static const natten_driver *driver;
    static bool asked;
    if (asked)
        return driver;
    asked = true;
    if (natten_device_count() == 0)
        return NULL;
    natten_driver_state state;
    void *context;
    driver = natten_driver_get(&state);
    device_must(driver->primary_retain(&context, 0), "cuDevicePrimaryCtxRetain");
    device_must(driver->context_push(context), "cuCtxPushCurrent");
    return driver;
}

void device_array_send(device_array *d, const array *a)
{
    const natten_driver *driver = device_driver();
    size_t bytes = a->bytes > 0 ? a->bytes : 1;
    device_must(driver->alloc(&d->address, bytes), "cuMemAlloc");
    if (a->bytes > 0)
        device_must(driver->upload(d->address, a->memory, a->bytes, NULL),
                    "cuMemcpyHtoDAsync");
    d->tensor = a->tensor;
    d->tensor.device_type = NATTEN_CUDA;
    size_t shift = (size_t)((unsigned char *)a->tensor.data - a->memory);
    d->tensor.data = (void *)(d->address + shift);
}

void device_array_fetch(const device_array *d, array *a)
{
    const natten_driver *driver = device_driver();
    if (a->bytes > 0)
        device_must(driver->download(a->memory, d->address, a->bytes, NULL),
                    "cuMemcpyDtoHAsync");
    device_must(driver->stream_wait(NULL), "cuStreamSynchronize");
}

void device_array_free(device_array *d)
{
    if (d->address != 0)
        device_must(device_driver()->free(d->address), "cuMemFree");
    memset(d, 0, sizeof *d);
}

/* The results of a pass that rounds weights. */
static uint32_t rounded_by(natten_cuda_kernel kernel, natten_dtype dtype)
{
    const uint32_t tokens = UINT32_C(1) << NATTEN_GRAD_KEY | UINT32_C(1)
                                                                 << NATTEN_GRAD_VALUE;
    /* Sums of a bias are of rounded dS, too. */
    if (natten_cuda_kernel_set(kernel) == NATTEN_CUDA_SET_SWEEP)
        return UINT32_C(1) << NATTEN_GRAD_QUERY | UINT32_C(1) << NATTEN_GRAD_BIAS |
               tokens;
    if (natten_cuda_kernel_set(kernel) == NATTEN_CUDA_SET_BAND)
        return kernel == NATTEN_CUDA_KERNEL_BAND_FORWARD ? UINT32_C(1) << NATTEN_OUT
               : kernel == NATTEN_CUDA_KERNEL_BAND_GRAD_QUERY
                   ? UINT32_C(1) << NATTEN_GRAD_QUERY
                   : tokens;
    if (natten_cuda_kernel_set(kernel) == NATTEN_CUDA_SET_WGMMA)
        return kernel == NATTEN_CUDA_KERNEL_WGMMA_FORWARD ? UINT32_C(1) << NATTEN_OUT
               : kernel == NATTEN_CUDA_KERNEL_WGMMA_GRAD_QUERY
                   ? UINT32_C(1) << NATTEN_GRAD_QUERY
                   : tokens;
    if (kernel >= NATTEN_CUDA_KERNEL_TF32)
        kernel = kernel - NATTEN_CUDA_KERNEL_TF32 + NATTEN_CUDA_KERNELS_HALO;
    else if (kernel < NATTEN_CUDA_KERNEL_HALO_FORWARD || dtype == NATTEN_FP32 ||
             dtype == NATTEN_FP64)
        return 0;
    if (kernel < NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY)
        return UINT32_C(1) << NATTEN_OUT;
    if (kernel < NATTEN_CUDA_KERNEL_HALO_GRAD_KEY)
        return UINT32_C(1) << NATTEN_GRAD_QUERY;
    if (kernel < NATTEN_CUDA_KERNEL_HALO_GRAD_BIAS)
        return tokens;
    if (kernel < NATTEN_CUDA_KERNEL_HALO_DELTA) /* the bias's gradient is in fp32 */
        return UINT32_C(1) << NATTEN_GRAD_QUERY;
    if (kernel < NATTEN_CUDA_KERNEL_MMA_FORWARD)
        return 0;
    if (kernel < NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY)
        return UINT32_C(1) << NATTEN_OUT;
    return kernel < NATTEN_CUDA_KERNEL_MMA_GRAD_KEY ? UINT32_C(1) << NATTEN_GRAD_QUERY
                                                    : tokens;
}

static int32_t planned_arch, planned_processors; /* 0: the GPU's own */

void device_plan_as(int32_t arch)
{
    planned_arch = arch;
}

void device_plan_for(int32_t processors)
{
    planned_processors = processors;
}

/* Plan the trial's call on tensors of the GPU, its arrays' or others. */
static natten_status make_plan(const trial *t, natten_plan *plan)
{
    natten_tensor there[NATTEN_ROLES];
    natten_params params = t->params;
    natten_problem problem = {.operation = t->spec.operation, .params = &params};
    natten_gpu gpu = natten_gpu_get(0);
    params.backend = NATTEN_BACKEND_CUDA;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        there[role] = t->array[role].tensor;
        there[role].device_type = NATTEN_CUDA;
        problem.tensor[role] = t->given[role] ? &there[role] : NULL;
    }
    NATTEN_TRY(natten_problem_check(&problem, &plan->task));
    NATTEN_TRY(natten_cuda_check(&gpu));
    gpu.arch = planned_arch != 0 ? planned_arch : gpu.arch;
    gpu.processors = planned_processors != 0 ? planned_processors : gpu.processors;
    plan->backend = &natten_cuda_backend;
    return natten_cuda_plan(&plan->task, &gpu, &plan->choice);
}

/* The passes of a trial's call. */
static int passes_of(const trial *t, natten_cuda_pass passes[NATTEN_CUDA_PASSES])
{
    natten_plan plan;
    if (make_plan(t, &plan) != NATTEN_OK || plan.task.batch == 0)
        return 0;
    /* The workspace is planned with and not touched: any address will do. */
    return natten_cuda_plan_passes(&plan, passes, passes);
}

uint32_t device_rounded(const trial *t)
{
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    uint32_t rounded = 0;
    int count = passes_of(t, passes);
    for (int i = 0; i < count; i++)
        rounded |= rounded_by(passes[i].kernel, t->spec.dtype);
    return rounded;
}

bool device_uses(const trial *t, natten_cuda_set set)
{
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    bool uses = false;
    int count = passes_of(t, passes);
    for (int i = 0; i < count; i++) {
        natten_cuda_set own = natten_cuda_kernel_set(passes[i].kernel);
        uses = uses || own == set ||
               (own == NATTEN_CUDA_SET_MMA_TF32 && set == NATTEN_CUDA_SET_MMA);
    }
    return uses;
}

bool device_has_kinds(const trial *t)
{
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    bool has = false;
    int count = passes_of(t, passes);
    for (int i = 0; i < count; i++)
        has = has || passes[i].job.halo.by_kinds;
    return has;
}

bool device_adds(const trial *t)
{
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    bool adds = false;
    int count = passes_of(t, passes);
    for (int i = 0; i < count; i++)
        adds = adds || passes[i].job.sums != NULL;
    return adds;
}

/* The call on tensors of the GPU, planned as for another. */
static natten_status run_as_planned(const trial *t)
{
    natten_plan plan;
    NATTEN_TRY(make_plan(t, &plan));
    if (plan.task.batch == 0)
        return NATTEN_OK;
    return plan.backend->run(&plan, NULL, NULL);
}

/* Every other trial brings a workspace of exactly the size asked for, full of NaN. */
static natten_status call(trial *t)
{
    array workspace = {.memory = NULL};
    device_array d = {0};
    if (planned_arch != 0 || planned_processors != 0)
        return run_as_planned(t);
    if (t->seed % 2 == 0)
        return trial_call(t, NULL, 0, NULL);
    natten_status status = trial_workspace(t, NATTEN_BACKEND_CUDA, &workspace.bytes);
    if (status != NATTEN_OK)
        return status;
    workspace.memory = malloc(workspace.bytes + 1);
    if (workspace.memory == NULL)
        abort();
    memset(workspace.memory, 0xff, workspace.bytes);
    workspace.tensor.data = workspace.memory;
    device_array_send(&d, &workspace);
    status = trial_call(t, (void *)d.address, workspace.bytes, NULL);
    device_must(device_driver()->stream_wait(NULL), "cuStreamSynchronize");
    device_array_free(&d);
    free(workspace.memory);
    return status;
}

natten_status device_trial_run(trial *t)
{
    device_array d[NATTEN_ROLES] = {{0}};
    natten_tensor host[NATTEN_ROLES];
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role])
            continue;
        device_array_send(&d[role], &t->array[role]);
        host[role] = t->array[role].tensor;
        t->array[role].tensor = d[role].tensor;
    }
    natten_status status = call(t);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role])
            continue;
        t->array[role].tensor = host[role];
        device_array_fetch(&d[role], &t->array[role]);
        device_array_free(&d[role]);
    }
    return status;
}
