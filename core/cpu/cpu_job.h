/* SPDX-License-Identifier: MIT
 *
 * A call's job: which variant, which passes in which order, what the workspace holds.
 *
 *     workspace   delta | slices of sums | units and progress of GRAD_ALL |
 *                 scratch of each thread
 *
 * Slices take what one thread's scratch leaves of the memory that is promised per
 * thread (cpu_tile.h); those of the items of GRAD_ALL 16 MiB. */
#ifndef NATTEN_CPU_JOB_H
#define NATTEN_CPU_JOB_H

#include "backend/backend.h"
#include "cpu/cpu_pass.h"
#include "cpu/cpu_share.h"

enum { NATTEN_CPU_PASSES = 4 };

/* The fused passes of a task, or the steps of the unfused pair, and the workspace. */
typedef struct natten_cpu_job {
    const natten_task *task;
    const natten_cpu_kernels *kernels;
    const natten_machine *machine; /* while the job is made */
    int passes, threads;
    int64_t step_rows[NATTEN_CPU_STEPS]; /* of the unfused pair; 0: no such step */
    int64_t step_rows_per_item[NATTEN_CPU_STEPS], step_items[NATTEN_CPU_STEPS];
    int64_t items;      /* of the pass or step that has most */
    int64_t most_items; /* of any pass, wanted or not: the size of the workspace, and so
                           the threads that have scratch, must do for every choice */
    size_t delta_bytes, sums_bytes, shared_bytes, progress_bytes, scratch_bytes;
    size_t other_bytes;      /* of the scratch, without sums of grad_bias by lanes */
    int64_t sums_at_a_time;  /* of the extra tokens: batch items times heads */
    int64_t units_at_a_time; /* of GRAD_ALL: cpu_share.h */
    char *sums, *scratch;
    /* Of the run under way: */
    const natten_cpu_pass *now;
    natten_cpu_step step;
    int64_t round, rounds, combos; /* of each slice; of each sum */
    natten_cpu_share share;        /* of GRAD_ALL */
    int64_t first_sum, first_extra;
    natten_cpu_pass pass[NATTEN_CPU_PASSES]; /* the last: those unused are not copied */
} natten_cpu_job;

_Static_assert(sizeof(natten_cpu_job) <= NATTEN_CHOICE_JOB_BYTES,
               "a choice has room for it");

/* Everything about the job but addresses. */
void natten_cpu_job_make(natten_cpu_job *job, const natten_task *task,
                         const natten_cpu_kernels *kernels,
                         const natten_machine *machine);

/* From choose to run: the job goes into the choice, and comes back with a workspace. */
void natten_cpu_job_keep(const natten_cpu_job *job, natten_choice *choice);
void natten_cpu_job_resume(natten_cpu_job *job, const natten_plan *plan,
                           char *workspace);

int64_t natten_cpu_job_bias_entries(const natten_task *task); /* of a head */

/* Elements that the sums of an extra token take: cpu_extra.h. */
int64_t natten_cpu_job_extra_elements(const natten_cpu_job *job);

#endif
