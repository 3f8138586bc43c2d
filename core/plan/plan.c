/* SPDX-License-Identifier: MIT
 *
 * Planning: ask the backends in the registry's order, keep the first that accepts. */
#include "plan/plan.h"

#include "base/status.h"
#include "problem/problem_text.h"
#include "registry/registry.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

natten_status natten_plan_make(const natten_task *task, const natten_machine *machine,
                               natten_plan *plan)
{
    plan->task = *task;
    natten_status status = NATTEN_ERR_UNSUPPORTED;
    bool asked = false;
    for (const natten_backend_entry *const *entry = natten_registry; *entry; entry++) {
        if (task->backend != NATTEN_BACKEND_AUTO &&
            task->backend != (int32_t)(*entry)->id)
            continue;
        if ((*entry)->gpu != (task->device_type == NATTEN_CUDA)) {
            if (task->backend == NATTEN_BACKEND_AUTO)
                continue;
            return natten_status_fail(
                NATTEN_ERR_DEVICE,
                "backend=%" PRId32 " (%s) computes on %s, and the tensors are not "
                "there",
                task->backend, (*entry)->name, (*entry)->gpu ? "a GPU" : "the CPU");
        }
        asked = true;
        status = (*entry)->choose(task, machine, &plan->choice);
        if (status == NATTEN_OK) {
            plan->backend = *entry;
            return NATTEN_OK;
        }
    }
    if (asked) /* the last one asked has said why not */
        return status;
    return natten_status_fail(status, "backend=%" PRId32 " is not part of this build",
                              task->backend);
}

/* Append to text, which stays NUL-terminated, what fits. */
__attribute__((format(printf, 3, 4))) static void append(char **text, size_t *bytes,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(*text, *bytes, format, arguments);
    va_end(arguments);
    if (wanted < 0)
        return;
    size_t used = (size_t)wanted < *bytes ? (size_t)wanted : *bytes - 1;
    *text += used;
    *bytes -= used;
}

void natten_plan_print(const natten_plan *plan, char *text, size_t bytes)
{
    const natten_choice *choice = &plan->choice;
    char problem[NATTEN_PROBLEM_TEXT_BYTES];
    natten_problem_spec spec;
    natten_problem_spec_from_task(&plan->task, &spec);
    natten_problem_text_print(&spec, problem);
    append(&text, &bytes, "problem    %s\n", problem);
    append(&text, &bytes, "backend    %s", plan->backend->name);
    if (plan->backend->id == NATTEN_BACKEND_CPU)
        append(&text, &bytes, ", variant %s",
               natten_machine_variant_name(choice->variant));
    if (choice->kernel != NULL)
        append(&text, &bytes, ", device %" PRId32 ", kernel %s\n", plan->task.device_id,
               choice->kernel);
    else
        append(&text, &bytes, "\nthreads    %" PRId32 "\n", choice->threads);
    append(&text, &bytes,
           "tile       %" PRId32 "x%" PRId32 "x%" PRId32 ", %" PRId64 " items\n",
           choice->tile[0], choice->tile[1], choice->tile[2], choice->items);
    append(&text, &bytes, "workspace  %zu bytes\n", choice->workspace_bytes);
    append(&text, &bytes, "pairs      %" PRId64 " visible per batch item and head\n",
           natten_task_pairs(&plan->task));
    append(&text, &bytes, "work       %.3f of what the visible pairs need\n",
           choice->work);
}
