/* SPDX-License-Identifier: MIT
 *
 * The public functions.  Each operation names itself for the sentences, gathers its
 * arguments into a problem, and leaves the rest to one path: check, plan, scratch, run.
 * Nothing about attention is decided here. */
#include "base/floatmode.h"
#include "base/parallel.h"
#include "base/status.h"
#include "cpu/cpu.h"
#include "cuda/cuda.h"
#include "cuda/cuda_host.h"
#include "plan/plan.h"
#include "problem/params.h"
#include "problem/problem.h"

#include <natten.h>

#include <inttypes.h>
#include <stdlib.h>

/* Alignment of scratch: a cache line, and the longest vector. */
enum { SCRATCH_ALIGNMENT = 64 };

/* ---- one path for all operations ---- */

static void enter(const char *function)
{
    natten_status_enter(function);
    natten_parallel_enter();
}

/* Where in the caller's workspace the aligned scratch begins. */
static natten_status fit_workspace(const natten_problem *problem, void *workspace,
                                   size_t bytes, size_t wanted, void **scratch)
{
    size_t skip = -(uintptr_t)workspace % SCRATCH_ALIGNMENT;
    if (wanted > 0 && (bytes < skip || bytes - skip < wanted))
        return natten_status_fail(
            NATTEN_ERR_ARGUMENT,
            "workspace_bytes=%zu not in [%zu, %zu] (for %zu threads)", bytes,
            skip + wanted, (size_t)PTRDIFF_MAX, (size_t)natten_get_num_threads());
    *scratch = (char *)workspace + skip;
    return natten_problem_check_workspace(problem, workspace, bytes);
}

/* This computer, with the GPU that the tensors are on. */
static natten_machine machine_for(int32_t device_type, int32_t device_id)
{
    natten_machine machine = natten_machine_get();
    if (device_type == NATTEN_CUDA)
        machine.gpu = natten_gpu_get(device_id);
    return machine;
}

static natten_status run_plainly(const natten_problem *problem, void *workspace,
                                 size_t bytes, void *stream)
{
    natten_plan plan;
    natten_task task;
    NATTEN_TRY(natten_problem_check(problem, &task));
    if (task.batch == 0)
        return NATTEN_OK;
    natten_machine machine = machine_for(task.device_type, task.device_id);
    NATTEN_TRY(natten_plan_make(&task, &machine, &plan));
    size_t wanted = plan.choice.workspace_bytes;
    void *scratch = NULL, *own = NULL;
    if (workspace) {
        NATTEN_TRY(fit_workspace(problem, workspace, bytes, wanted, &scratch));
    } else if (wanted > 0 && task.device_type == NATTEN_CPU) {
        if (wanted > PTRDIFF_MAX ||
            posix_memalign(&own, SCRATCH_ALIGNMENT, wanted) != 0)
            return natten_status_fail(NATTEN_ERR_MEMORY,
                                      "no memory for a workspace of %zu bytes", wanted);
        scratch = own;
    }
    natten_status status = plan.backend->run(&plan, scratch, stream);
    free(own);
    return status;
}

/* All of it, the default scale included, in the standard floating-point mode. */
static natten_status run(const natten_problem *problem, void *workspace, size_t bytes,
                         void *stream)
{
    natten_floatmode mode = natten_floatmode_enter();
    natten_status status = run_plainly(problem, workspace, bytes, stream);
    natten_floatmode_leave(mode);
    return status;
}

/* The same for arrays of the host on a GPU. */
static natten_status run_host(const natten_problem *problem, int32_t device_id)
{
    natten_task task;
    natten_floatmode mode = natten_floatmode_enter();
    natten_status status = natten_problem_check(problem, &task);
    natten_floatmode_leave(mode);
    if (status != NATTEN_OK || task.batch == 0)
        return status;
    if (task.device_type != NATTEN_CPU)
        return natten_status_fail(NATTEN_ERR_DEVICE,
                                  "device_type=%" PRId32 " not in [%d, %d] (this call "
                                  "takes arrays of the host)",
                                  task.device_type, NATTEN_CPU, NATTEN_CPU);
    if (task.backend != NATTEN_BACKEND_AUTO && task.backend != NATTEN_BACKEND_CUDA)
        return natten_status_fail(NATTEN_ERR_DEVICE,
                                  "backend=%" PRId32 " computes on the CPU, and "
                                  "device_id=%" PRId32 " is a GPU",
                                  task.backend, device_id);
    natten_gpu gpu = natten_gpu_get(device_id);
    return natten_cuda_host_run(&task, &gpu, natten_get_num_threads(), 0);
}

/* ---- params ---- */

natten_status natten_params_init(natten_params *params, size_t size, int32_t rank)
{
    enter("natten_params_init");
    return natten_params_fill(params, size, rank);
}

/* ---- operations ---- */

static natten_problem
forward_problem(const natten_params *params, const natten_tensor *query,
                const natten_tensor *key, const natten_tensor *value,
                const natten_tensor *bias, const natten_tensor *additional_keys,
                const natten_tensor *additional_values, const natten_tensor *out,
                const natten_tensor *lse)
{
    return (natten_problem){
        .operation = NATTEN_FORWARD,
        .params = params,
        .tensor =
            {
                [NATTEN_QUERY] = query,
                [NATTEN_KEY] = key,
                [NATTEN_VALUE] = value,
                [NATTEN_BIAS] = bias,
                [NATTEN_ADDITIONAL_KEYS] = additional_keys,
                [NATTEN_ADDITIONAL_VALUES] = additional_values,
                [NATTEN_OUT] = out,
                [NATTEN_LSE] = lse,
            },
    };
}

natten_status natten_forward(const natten_params *params, const natten_tensor *query,
                             const natten_tensor *key, const natten_tensor *value,
                             const natten_tensor *bias,
                             const natten_tensor *additional_keys,
                             const natten_tensor *additional_values, natten_tensor *out,
                             natten_tensor *lse, void *workspace,
                             size_t workspace_bytes, void *stream)
{
    enter("natten_forward");
    natten_problem problem = forward_problem(
        params, query, key, value, bias, additional_keys, additional_values, out, lse);
    return run(&problem, workspace, workspace_bytes, stream);
}

natten_status natten_forward_host(const natten_params *params,
                                  const natten_tensor *query, const natten_tensor *key,
                                  const natten_tensor *value, const natten_tensor *bias,
                                  const natten_tensor *additional_keys,
                                  const natten_tensor *additional_values,
                                  natten_tensor *out, natten_tensor *lse,
                                  int32_t device_id)
{
    enter("natten_forward_host");
    natten_problem problem = forward_problem(
        params, query, key, value, bias, additional_keys, additional_values, out, lse);
    return run_host(&problem, device_id);
}

/* Make forward's problem backward's. */
static void
add_gradients(natten_problem *problem, const natten_tensor *grad_out,
              const natten_tensor *grad_lse, const natten_tensor *grad_query,
              const natten_tensor *grad_key, const natten_tensor *grad_value,
              const natten_tensor *grad_bias, const natten_tensor *grad_additional_keys,
              const natten_tensor *grad_additional_values)
{
    problem->operation = NATTEN_BACKWARD;
    problem->tensor[NATTEN_GRAD_OUT] = grad_out;
    problem->tensor[NATTEN_GRAD_LSE] = grad_lse;
    problem->tensor[NATTEN_GRAD_QUERY] = grad_query;
    problem->tensor[NATTEN_GRAD_KEY] = grad_key;
    problem->tensor[NATTEN_GRAD_VALUE] = grad_value;
    problem->tensor[NATTEN_GRAD_BIAS] = grad_bias;
    problem->tensor[NATTEN_GRAD_ADDITIONAL_KEYS] = grad_additional_keys;
    problem->tensor[NATTEN_GRAD_ADDITIONAL_VALUES] = grad_additional_values;
}

natten_status natten_backward(
    const natten_params *params, const natten_tensor *query, const natten_tensor *key,
    const natten_tensor *value, const natten_tensor *bias,
    const natten_tensor *additional_keys, const natten_tensor *additional_values,
    const natten_tensor *out, const natten_tensor *lse, const natten_tensor *grad_out,
    const natten_tensor *grad_lse, natten_tensor *grad_query, natten_tensor *grad_key,
    natten_tensor *grad_value, natten_tensor *grad_bias,
    natten_tensor *grad_additional_keys, natten_tensor *grad_additional_values,
    void *workspace, size_t workspace_bytes, void *stream)
{
    enter("natten_backward");
    natten_problem problem = forward_problem(
        params, query, key, value, bias, additional_keys, additional_values, out, lse);
    add_gradients(&problem, grad_out, grad_lse, grad_query, grad_key, grad_value,
                  grad_bias, grad_additional_keys, grad_additional_values);
    return run(&problem, workspace, workspace_bytes, stream);
}

natten_status
natten_backward_host(const natten_params *params, const natten_tensor *query,
                     const natten_tensor *key, const natten_tensor *value,
                     const natten_tensor *bias, const natten_tensor *additional_keys,
                     const natten_tensor *additional_values, const natten_tensor *out,
                     const natten_tensor *lse, const natten_tensor *grad_out,
                     const natten_tensor *grad_lse, natten_tensor *grad_query,
                     natten_tensor *grad_key, natten_tensor *grad_value,
                     natten_tensor *grad_bias, natten_tensor *grad_additional_keys,
                     natten_tensor *grad_additional_values, int32_t device_id)
{
    enter("natten_backward_host");
    natten_problem problem = forward_problem(
        params, query, key, value, bias, additional_keys, additional_values, out, lse);
    add_gradients(&problem, grad_out, grad_lse, grad_query, grad_key, grad_value,
                  grad_bias, grad_additional_keys, grad_additional_values);
    return run_host(&problem, device_id);
}

natten_status natten_qk(const natten_params *params, const natten_tensor *query,
                        const natten_tensor *key, const natten_tensor *bias,
                        const natten_tensor *additional_keys, natten_tensor *attn,
                        void *workspace, size_t workspace_bytes, void *stream)
{
    enter("natten_qk");
    natten_problem problem = {
        .operation = NATTEN_QK,
        .params = params,
        .tensor =
            {
                [NATTEN_QUERY] = query,
                [NATTEN_KEY] = key,
                [NATTEN_BIAS] = bias,
                [NATTEN_ADDITIONAL_KEYS] = additional_keys,
                [NATTEN_ATTN] = attn,
            },
    };
    return run(&problem, workspace, workspace_bytes, stream);
}

natten_status natten_qk_backward(const natten_params *params,
                                 const natten_tensor *query, const natten_tensor *key,
                                 const natten_tensor *additional_keys,
                                 const natten_tensor *grad_attn,
                                 natten_tensor *grad_query, natten_tensor *grad_key,
                                 natten_tensor *grad_bias,
                                 natten_tensor *grad_additional_keys, void *workspace,
                                 size_t workspace_bytes, void *stream)
{
    enter("natten_qk_backward");
    natten_problem problem = {
        .operation = NATTEN_QK_BACKWARD,
        .params = params,
        .tensor =
            {
                [NATTEN_QUERY] = query,
                [NATTEN_KEY] = key,
                [NATTEN_ADDITIONAL_KEYS] = additional_keys,
                [NATTEN_GRAD_ATTN] = grad_attn,
                [NATTEN_GRAD_QUERY] = grad_query,
                [NATTEN_GRAD_KEY] = grad_key,
                [NATTEN_GRAD_BIAS] = grad_bias,
                [NATTEN_GRAD_ADDITIONAL_KEYS] = grad_additional_keys,
            },
    };
    return run(&problem, workspace, workspace_bytes, stream);
}

natten_status natten_av(const natten_params *params, const natten_tensor *attn,
                        const natten_tensor *value,
                        const natten_tensor *additional_values, natten_tensor *out,
                        void *workspace, size_t workspace_bytes, void *stream)
{
    enter("natten_av");
    natten_problem problem = {
        .operation = NATTEN_AV,
        .params = params,
        .tensor =
            {
                [NATTEN_ATTN] = attn,
                [NATTEN_VALUE] = value,
                [NATTEN_ADDITIONAL_VALUES] = additional_values,
                [NATTEN_OUT] = out,
            },
    };
    return run(&problem, workspace, workspace_bytes, stream);
}

natten_status natten_av_backward(const natten_params *params, const natten_tensor *attn,
                                 const natten_tensor *value,
                                 const natten_tensor *additional_values,
                                 const natten_tensor *grad_out,
                                 natten_tensor *grad_attn, natten_tensor *grad_value,
                                 natten_tensor *grad_additional_values, void *workspace,
                                 size_t workspace_bytes, void *stream)
{
    enter("natten_av_backward");
    natten_problem problem = {
        .operation = NATTEN_AV_BACKWARD,
        .params = params,
        .tensor =
            {
                [NATTEN_ATTN] = attn,
                [NATTEN_VALUE] = value,
                [NATTEN_ADDITIONAL_VALUES] = additional_values,
                [NATTEN_GRAD_OUT] = grad_out,
                [NATTEN_GRAD_ATTN] = grad_attn,
                [NATTEN_GRAD_VALUE] = grad_value,
                [NATTEN_GRAD_ADDITIONAL_VALUES] = grad_additional_values,
            },
    };
    return run(&problem, workspace, workspace_bytes, stream);
}

static natten_status merge(const natten_merge_problem *problem, void *stream)
{
    natten_merge_task task;
    NATTEN_TRY(natten_merge_check(problem, &task));
    if (task.batch == 0)
        return NATTEN_OK;
    natten_machine machine = machine_for(task.device_type, task.device_id);
    if (task.device_type == NATTEN_CUDA)
        return natten_cuda_merge(&task, &machine.gpu, stream);
    natten_floatmode mode = natten_floatmode_enter();
    natten_status status = natten_cpu_merge(&task, &machine);
    natten_floatmode_leave(mode);
    return status;
}

natten_status natten_merge(int64_t count, const natten_tensor *outputs,
                           const natten_tensor *lses, natten_tensor *out,
                           natten_tensor *lse, void *stream)
{
    enter("natten_merge");
    natten_merge_problem problem = {
        .count = count,
        .outputs = outputs,
        .lses = lses,
        .out = out,
        .lse = lse,
    };
    return merge(&problem, stream);
}

natten_status natten_merge_backward(int64_t count, const natten_tensor *outputs,
                                    const natten_tensor *lses, const natten_tensor *out,
                                    const natten_tensor *lse,
                                    const natten_tensor *grad_out,
                                    const natten_tensor *grad_lse,
                                    natten_tensor *grad_outputs,
                                    natten_tensor *grad_lses, void *stream)
{
    enter("natten_merge_backward");
    natten_merge_problem problem = {
        .backward = true,
        .count = count,
        .outputs = outputs,
        .lses = lses,
        .out = out,
        .lse = lse,
        .grad_out = grad_out,
        .grad_lse = grad_lse,
        .grad_outputs = grad_outputs,
        .grad_lses = grad_lses,
    };
    return merge(&problem, stream);
}

/* ---- questions about a call ---- */

/* The plan of a call that is described by the tensors that shape it; with all
 * gradients, or all but the bias's. */
static natten_status sketch(const natten_params *params, int32_t operation,
                            const natten_tensor *query, const natten_tensor *key,
                            const natten_tensor *value, const natten_tensor *additional,
                            bool grad_bias, natten_plan *plan)
{
    if (operation < NATTEN_FORWARD || operation > NATTEN_AV_BACKWARD)
        return natten_status_fail(NATTEN_ERR_ARGUMENT,
                                  "operation=%" PRId32 " not in [%d, %d]", operation,
                                  NATTEN_FORWARD, NATTEN_AV_BACKWARD);
    bool av = operation == NATTEN_AV || operation == NATTEN_AV_BACKWARD;
    natten_problem problem = {
        .operation = (natten_operation)operation,
        .params = params,
        .tensor =
            {
                [NATTEN_QUERY] = query,
                [NATTEN_KEY] = key,
                [NATTEN_VALUE] = value,
                [NATTEN_ADDITIONAL_KEYS] = additional,
            },
    };
    if (av)
        problem.tensor[NATTEN_ATTN] = query, problem.tensor[NATTEN_VALUE] = key,
        problem.tensor[NATTEN_ADDITIONAL_VALUES] = additional;
    natten_task task;
    natten_floatmode mode = natten_floatmode_enter();
    natten_status status = natten_problem_sketch(&problem, &task);
    if (!grad_bias)
        task.view[NATTEN_GRAD_BIAS].data = NULL;
    natten_machine machine = machine_for(task.device_type, task.device_id);
    if (status == NATTEN_OK)
        status = natten_plan_make(&task, &machine, plan);
    natten_floatmode_leave(mode);
    return status;
}

natten_status natten_workspace_size(const natten_params *params, int32_t operation,
                                    const natten_tensor *query,
                                    const natten_tensor *key,
                                    const natten_tensor *value,
                                    const natten_tensor *additional_keys, size_t *bytes)
{
    enter("natten_workspace_size");
    natten_plan plan;
    if (!bytes)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "bytes is NULL");
    NATTEN_TRY(
        sketch(params, operation, query, key, value, additional_keys, true, &plan));
    size_t wanted = plan.choice.workspace_bytes;
    if (wanted > PTRDIFF_MAX - SCRATCH_ALIGNMENT)
        return natten_status_fail(NATTEN_ERR_OVERFLOW,
                                  "a workspace of %zu bytes does not fit in memory",
                                  wanted);
    *bytes = wanted ? wanted + SCRATCH_ALIGNMENT : 0; /* room to align any address */
    return NATTEN_OK;
}

natten_status natten_supported(const natten_params *params, int32_t operation,
                               const natten_tensor *query, const natten_tensor *key,
                               const natten_tensor *value,
                               const natten_tensor *additional_keys)
{
    enter("natten_supported");
    natten_plan plan;
    return sketch(params, operation, query, key, value, additional_keys, true, &plan);
}

natten_status natten_plan_text(const natten_params *params, int32_t operation,
                               const natten_tensor *query, const natten_tensor *key,
                               const natten_tensor *value,
                               const natten_tensor *additional_keys, char *text,
                               size_t bytes)
{
    enter("natten_plan_text");
    natten_plan plan;
    if (!text)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "text is NULL");
    if (bytes < 1)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "bytes=0 not in [1, %zu]",
                                  (size_t)PTRDIFF_MAX);
    NATTEN_TRY(
        sketch(params, operation, query, key, value, additional_keys, false, &plan));
    natten_plan_print(&plan, text, bytes);
    return NATTEN_OK;
}
