/* SPDX-License-Identifier: MIT
 *
 * The CUDA backend: choosing is arithmetic on the task and the GPU's description;
 * running checks where the tensors are, enters their context and launches. */
#include "cuda/cuda.h"

#include "base/status.h"
#include "cuda/cuda_image.h"
#include "cuda/cuda_launch.h"
#include "cuda/cuda_plan.h"
#include "problem/roles.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool natten_cuda_is_built(void)
{
    return natten_cuda_image(NATTEN_FP32, NATTEN_CUDA_SET_SIMT) != NULL;
}

/* ---- choosing ---- */

/* Machine code for X.Y runs on X.Z from Z = Y on; with a letter on X.Y alone. */
bool natten_cuda_has_code(int32_t arch)
{
    const char *archs = natten_cuda_image_archs();
    while (*archs != '\0') {
        char *end;
        long code = strtol(archs, &end, 10);
        bool exact = *end != '\0' && *end != ' ';
        if (code == arch || (!exact && code / 10 == arch / 10 && code <= arch))
            return true;
        end += exact;
        archs = end + strspn(end, " ");
    }
    return false;
}

natten_status natten_cuda_check(const natten_gpu *gpu)
{
    if (!natten_cuda_is_built())
        return natten_status_fail(NATTEN_ERR_UNSUPPORTED,
                                  "this build has no CUDA kernels (configure "
                                  "--with-cuda)");
    NATTEN_TRY(natten_gpu_check(gpu));
    int ptx = natten_cuda_image_ptx();
    if (natten_cuda_has_code(gpu->arch) || (ptx > 0 && gpu->arch >= ptx))
        return NATTEN_OK;
    return natten_status_fail(NATTEN_ERR_ARCH,
                              "device %" PRId32 " (%s) is of architecture %" PRId32
                              "; this build has kernels for %s, and PTX of %d",
                              gpu->device, gpu->name, gpu->arch,
                              natten_cuda_image_archs(), ptx);
}

static natten_status choose(const natten_task *task, const natten_machine *machine,
                            natten_choice *choice)
{
    NATTEN_TRY(natten_cuda_check(&machine->gpu));
    if (task->extras > INT32_MAX)
        return natten_status_fail(NATTEN_ERR_UNSUPPORTED,
                                  "additional_keys[extras]=%" PRId64
                                  " not in [0, %" PRId32 "] (backend cuda)",
                                  task->extras, INT32_MAX);
    return natten_cuda_plan(task, &machine->gpu, choice);
}

/* ---- running ---- */

/* No element of the tensor exists: its address means nothing. */
static bool is_empty(const natten_task *task, const natten_role_info *info)
{
    for (int s = 0; s < info->symbols; s++)
        for (int a = 0; a < 3; a++)
            if ((info->symbol[s] == NATTEN_SIZE_QUERIES &&
                 task->axis[a].query_count == 0) ||
                (info->symbol[s] == NATTEN_SIZE_KEYS && task->axis[a].key_count == 0))
                return true;
    return false;
}

static natten_status check_addresses(natten_cuda_call *call, const natten_task *task)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const natten_role_info *info = natten_roles_info(role);
        if (task->view[role].data != NULL && !is_empty(task, info))
            NATTEN_TRY(natten_cuda_call_check(call, task->view[role].data, info->name));
    }
    return NATTEN_OK;
}

/* Make maps for the copy engine, if it can be used. */
static natten_status map(natten_cuda_call *call, natten_cuda_pass *pass)
{
    if (!pass->job.halo.by_maps)
        return NATTEN_OK;
    /* Maps are for code of this very GPU; PTX does without the copy engine. */
    if (natten_cuda_has_code(call->gpu->arch))
        NATTEN_TRY(natten_cuda_call_map(call, &pass->job, &pass->kernel));
    else
        pass->job.halo.by_maps = 0;
    if (!pass->job.halo.by_maps) {
        pass->job.halo = pass->plain;
        pass->shared_bytes = pass->plain_bytes;
        pass->blocks = pass->plain_blocks;
    }
    return NATTEN_OK;
}

static natten_status launch_all(natten_cuda_call *call, const natten_plan *plan,
                                void *workspace)
{
    NATTEN_TRY(check_addresses(call, &plan->task));
    if (workspace != NULL && plan->choice.workspace_bytes > 0)
        NATTEN_TRY(natten_cuda_call_check(call, workspace, "workspace"));
    NATTEN_TRY(natten_cuda_call_enter(call));
    if (workspace == NULL && plan->choice.workspace_bytes > 0)
        NATTEN_TRY(
            natten_cuda_call_scratch(call, plan->choice.workspace_bytes, &workspace));
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    int count = natten_cuda_plan_passes(plan, workspace, passes);
    for (int i = 0; i < count; i++)
        NATTEN_TRY(map(call, &passes[i]));
    for (int i = 0; i < count; i++) {
        const natten_cuda_pass *pass = &passes[i];
        if (pass->clear_bytes > 0)
            NATTEN_TRY(natten_cuda_call_clear(call, pass->job.sums, pass->clear_bytes));
        if (!pass->spared || !passes[i + 1].job.halo.by_maps)
            NATTEN_TRY(natten_cuda_call_launch(call, pass->kernel, pass->blocks,
                                               pass->shared_bytes, &pass->job));
    }
    return NATTEN_OK;
}

static natten_status run(const natten_plan *plan, void *workspace, void *stream)
{
    natten_gpu gpu = natten_gpu_get(plan->task.device_id);
    natten_cuda_call call;
    NATTEN_TRY(natten_cuda_call_begin(&call, &gpu, plan->task.dtype, stream));
    return natten_cuda_call_end(&call, launch_all(&call, plan, workspace));
}

const natten_backend_entry natten_cuda_backend = {
    .name = "cuda",
    .id = NATTEN_BACKEND_CUDA,
    .gpu = true,
    .choose = choose,
    .run = run,
};

/* ---- merge ---- */

typedef struct merge_tensor {
    const char *name;
    natten_view view;
} merge_tensor;

static natten_status check_merge(natten_cuda_call *call, const natten_merge_task *task)
{
    const merge_tensor single[] = {{"out", task->out},
                                   {"lse", task->lse},
                                   {"grad_out", task->grad_out},
                                   {"grad_lse", task->grad_lse}};
    const struct {
        const char *name;
        const natten_tensor *tensors;
        bool is_lse;
    } arrays[] = {{"outputs", task->outputs, false},
                  {"lses", task->lses, true},
                  {"grad_outputs", task->grad_outputs, false},
                  {"grad_lses", task->grad_lses, true}};
    for (int i = 0; i < 4; i++)
        if (single[i].view.data != NULL)
            NATTEN_TRY(
                natten_cuda_call_check(call, single[i].view.data, single[i].name));
    for (int i = 0; i < 4; i++)
        for (int64_t n = 0; n < task->count && arrays[i].tensors != NULL; n++)
            NATTEN_TRY(natten_cuda_call_check(
                call, natten_merge_view(&arrays[i].tensors[n], !arrays[i].is_lse).data,
                arrays[i].name));
    return NATTEN_OK;
}

/* The job of partials first .. first + count - 1. */
static natten_cuda_merge_job merge_job(const natten_merge_task *task, int64_t first,
                                       int32_t count)
{
    natten_cuda_merge_job job = {
        .extent = {task->extent[0], task->extent[1], task->extent[2]},
        .count = count,
        .batch = task->batch,
        .heads = task->heads,
        .dim_v = task->dim_v,
        .out = task->out,
        .lse = task->lse,
        .grad_out = task->grad_out,
        .grad_lse = task->grad_lse,
    };
    for (int32_t n = 0; n < count; n++) {
        job.outputs[n] = natten_merge_view(&task->outputs[first + n], true);
        job.lses[n] = natten_merge_view(&task->lses[first + n], false);
        if (!task->backward)
            continue;
        job.grad_outputs[n] = natten_merge_view(&task->grad_outputs[first + n], true);
        job.grad_lses[n] = natten_merge_view(&task->grad_lses[first + n], false);
    }
    return job;
}

static natten_status launch_merge(natten_cuda_call *call, const natten_merge_task *task)
{
    int64_t rows = task->batch * task->heads;
    for (int a = 0; a < 3; a++)
        rows *= task->extent[a];
    if (rows == 0) /* a part without queries: its addresses mean nothing */
        return NATTEN_OK;
    NATTEN_TRY(check_merge(call, task));
    NATTEN_TRY(natten_cuda_call_enter(call));
    int64_t blocks = (rows + NATTEN_CUDA_WARPS - 1) / NATTEN_CUDA_WARPS;
    for (int64_t first = 0; first < task->count; first += NATTEN_CUDA_MERGE) {
        int64_t left = task->count - first;
        natten_cuda_merge_job job =
            merge_job(task, first,
                      (int32_t)(left < NATTEN_CUDA_MERGE ? left : NATTEN_CUDA_MERGE));
        NATTEN_TRY(natten_cuda_call_launch(call,
                                           task->backward
                                               ? NATTEN_CUDA_KERNEL_MERGE_BACKWARD
                                               : NATTEN_CUDA_KERNEL_MERGE,
                                           blocks, 0, &job));
    }
    return NATTEN_OK;
}

natten_status natten_cuda_merge(const natten_merge_task *task, const natten_gpu *gpu,
                                void *stream)
{
    natten_cuda_call call;
    NATTEN_TRY(natten_cuda_check(gpu));
    if (!task->backward && task->count > NATTEN_CUDA_MERGE)
        return natten_status_fail(NATTEN_ERR_UNSUPPORTED,
                                  "count=%" PRId64 " not in [1, %d] (on a GPU)",
                                  task->count, NATTEN_CUDA_MERGE);
    NATTEN_TRY(natten_cuda_call_begin(&call, gpu, task->dtype, stream));
    return natten_cuda_call_end(&call, launch_merge(&call, task));
}
