/* SPDX-License-Identifier: MIT
 *
 * The reference backend: it takes every task, uses one thread and a vector of scratch,
 * and computes in double what the definition says, pair by pair. */
#include "reference/reference.h"

#include "reference/operations.h"

static natten_reference_operation *const operations[] = {
    [NATTEN_FORWARD] = natten_reference_forward,
    [NATTEN_BACKWARD] = natten_reference_backward,
    [NATTEN_QK] = natten_reference_qk,
    [NATTEN_QK_BACKWARD] = natten_reference_qk_backward,
    [NATTEN_AV] = natten_reference_av,
    [NATTEN_AV_BACKWARD] = natten_reference_av_backward,
};

static natten_status choose(const natten_task *task, const natten_machine *machine,
                            natten_choice *choice)
{
    (void)machine;
    int64_t doubles = task->dim > task->dim_v ? task->dim : task->dim_v;
    int64_t items = task->batch * task->heads;
    for (int a = 0; a < 3; a++)
        items *= task->axis[a].query_count;
    *choice = (natten_choice){
        .variant = NATTEN_VARIANT_SCALAR,
        .tile = {1, 1, 1},
        .items = items,
        .threads = 1,
        .workspace_bytes = (size_t)doubles * sizeof(double),
        .work = 1,
    };
    return NATTEN_OK;
}

static natten_status run(const natten_plan *plan, void *workspace, void *stream)
{
    (void)stream;
    if (plan->task.batch == 0)
        return NATTEN_OK;
    return operations[plan->task.operation](&plan->task, workspace);
}

const natten_backend_entry natten_reference_backend = {
    .name = "reference",
    .id = NATTEN_BACKEND_REFERENCE,
    .choose = choose,
    .run = run,
};
