/* SPDX-License-Identifier: MIT
 *
 * natten_merge() and its gradient on the CPU, the same for every backend that computes
 * there: threads share out runs of rows, and the variant's kernels do them
 * (cpu_merge.h). */
#include "cpu/cpu.h"

#include "base/parallel.h"
#include "cpu/cpu_pass.h"

/* Rows of one item of work: enough to make fetching it cheap. */
enum { ITEM_ROWS = 64 };

typedef struct merging {
    const natten_merge_task *task;
    const natten_cpu_kernels *kernels;
    int64_t rows;
} merging;

static void run_item(void *context, int64_t item, int thread)
{
    (void)thread;
    const merging *m = context;
    int64_t begin = item * ITEM_ROWS, end = begin + ITEM_ROWS;
    m->kernels->merge(m->task, begin, end < m->rows ? end : m->rows);
}

natten_status natten_cpu_merge(const natten_merge_task *task,
                               const natten_machine *machine)
{
    merging m = {.task = task,
                 .kernels =
                     natten_cpu_pass_kernels(machine->variant, task->accumulator),
                 .rows = task->batch * task->heads};
    for (int a = 0; a < 3; a++)
        m.rows *= task->extent[a];
    return natten_parallel_run(machine->threads, (m.rows + ITEM_ROWS - 1) / ITEM_ROWS,
                               run_item, &m);
}
