/* SPDX-License-Identifier: MIT
 *
 * The contract of a backend: it says whether and how it would do a task (choose), and
 * does it (run).  A choice is a pure function of task and machine and never of the
 * thread count alone: bits must not depend on threads. */
#ifndef NATTEN_BACKEND_BACKEND_H
#define NATTEN_BACKEND_BACKEND_H

#include "machine/machine.h"
#include "problem/merge.h"
#include "problem/task.h"

enum { NATTEN_CHOICE_JOB_BYTES = 9216 };

/* How a backend will do a task. */
typedef struct natten_choice {
    natten_variant variant;
    int32_t tile[3];        /* queries (gradients of key and value: keys) per item */
    int64_t items;          /* independent pieces of work of the largest pass */
    int32_t threads;        /* that the workspace has room for */
    size_t workspace_bytes; /* scratch of all threads, and delta */
    double work; /* lanes times slots computed over pairs wanted, at least 1; on the CPU
                    counted for sketches alone */
    const char *kernel;       /* on a GPU: the family of kernels; else NULL */
    int32_t processors, arch; /* on a GPU: of the device */
    /* What else choose found out that run needs: plain data, the backend's own. */
    unsigned char job[NATTEN_CHOICE_JOB_BYTES];
} natten_choice;

/* A task and how it is done: immutable, made by plan/plan.c. */
typedef struct natten_plan {
    natten_task task;
    const struct natten_backend_entry *backend;
    natten_choice choice;
} natten_plan;

typedef struct natten_backend_entry {
    const char *name;
    natten_backend id;
    bool gpu; /* its tasks' tensors are in the memory of a GPU */
    /* Fill *choice, or say why not: NATTEN_ERR_UNSUPPORTED with a sentence. */
    natten_status (*choose)(const natten_task *task, const natten_machine *machine,
                            natten_choice *choice);
    /* Do it. `workspace` has choice.workspace_bytes, 64-byte aligned; nothing else is
     * allocated. Only NATTEN_ERR_INTERRUPTED can happen on the CPU. On a GPU workspace
     * is NULL where the caller gave none, and the backend takes some on the stream. */
    natten_status (*run)(const natten_plan *plan, void *workspace, void *stream);
} natten_backend_entry;

#endif
