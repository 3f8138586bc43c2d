/* SPDX-License-Identifier: MIT
 *
 * The checks of merge and its gradient, in the order of natten.h.  All tensors have one
 * of two shapes: that of out, [batch, axes..., heads, head_dim_v], or that of lse,
 * without the last size; the first partial's output says which sizes. */
#include "problem/merge.h"

#include "base/status.h"
#include "problem/roles.h"
#include "problem/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One argument: `count` tensors (array), or a single one. */
typedef struct argument {
    const char *name;
    const natten_tensor *tensors;
    bool array, is_lse, output, optional;
} argument;

enum { ARGUMENTS = 8 };

typedef struct call {
    int64_t count;
    argument argument[ARGUMENTS];
    natten_merge_task *task;
} call;

enum { NAME_BYTES = 64 };

/* Languages count from 0 or from 1: "lses[2 of 3]" is the second in all of them. */
static void name_tensor(const call *c, const argument *a, int64_t n,
                        char name[NAME_BYTES])
{
    if (a->array)
        snprintf(name, NAME_BYTES, "%s[%" PRId64 " of %" PRId64 "]", a->name, n + 1,
                 c->count);
    else
        snprintf(name, NAME_BYTES, "%s", a->name);
}

static int64_t tensors_of(const call *c, const argument *a)
{
    return !a->tensors ? 0 : a->array ? c->count : 1;
}

static natten_dtype dtype_of(const call *c, const argument *a)
{
    return a->is_lse ? c->task->accumulator : c->task->dtype;
}

/* Checks of one tensor alone; each stage of the order is one function of this type. */
typedef natten_status stage(const call *c, const argument *a,
                            const natten_tensor *tensor, const char *name);

static natten_status check_presence(const call *c, const argument *a,
                                    const natten_tensor *tensor, const char *name)
{
    (void)c, (void)a;
    if (tensor->shape)
        return NATTEN_OK;
    return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s.shape is NULL", name);
}

static natten_status check_type(const call *c, const argument *a,
                                const natten_tensor *tensor, const char *name)
{
    natten_dtype dtype, want = dtype_of(c, a);
    NATTEN_TRY(natten_tensor_check_dtype(tensor, name, &dtype));
    if (dtype != want)
        return natten_status_fail(NATTEN_ERR_DTYPE,
                                  "%s is %s, not %s (the first of outputs is %s)", name,
                                  natten_dtype_name(dtype), natten_dtype_name(want),
                                  natten_dtype_name(c->task->dtype));
    NATTEN_TRY(natten_tensor_check_device(tensor, name));
    return natten_tensor_check_together(tensor, name, c->task->device_type,
                                        c->task->device_id, "the first of outputs");
}

/* Name of size n of a tensor of out's shape. */
static const char *size_name(int rank, int n)
{
    if (n >= 1 && n <= rank)
        return natten_roles_axis_name(rank, n - 1);
    return n == 0 ? "batch" : n == rank + 1 ? "heads" : "head_dim_v";
}

static natten_status check_shape(const call *c, const argument *a,
                                 const natten_tensor *tensor, const char *name)
{
    const natten_tensor *first = &c->argument[0].tensors[0];
    int rank = first->ndim - 3, ndim = first->ndim - a->is_lse;
    if (tensor->ndim != ndim)
        return natten_status_fail(NATTEN_ERR_SHAPE,
                                  "%s.ndim=%" PRId32 " not in [%d, %d] (rank %d)", name,
                                  tensor->ndim, ndim, ndim, rank);
    for (int n = 0; n < ndim; n++)
        if (tensor->shape[n] != first->shape[n])
            return natten_status_fail(NATTEN_ERR_SHAPE,
                                      "%s[%s]=%" PRId64 " not in [%" PRId64 ", %" PRId64
                                      "] (as the first of outputs)",
                                      name, size_name(rank, n), tensor->shape[n],
                                      first->shape[n], first->shape[n]);
    return NATTEN_OK;
}

static natten_status check_strides(const call *c, const argument *a,
                                   const natten_tensor *tensor, const char *name)
{
    natten_extent extent;
    NATTEN_TRY(natten_tensor_check_strides(tensor, name));
    return natten_tensor_check_memory(tensor, name, dtype_of(c, a), a->output, &extent);
}

static natten_status check_each(const call *c, stage *check)
{
    for (int i = 0; i < ARGUMENTS; i++)
        for (int64_t n = 0; n < tensors_of(c, &c->argument[i]); n++) {
            char name[NAME_BYTES];
            name_tensor(c, &c->argument[i], n, name);
            NATTEN_TRY(check(c, &c->argument[i], &c->argument[i].tensors[n], name));
        }
    return NATTEN_OK;
}

static natten_status check_given(const call *c)
{
    if (c->count < 1)
        return natten_status_fail(NATTEN_ERR_ARGUMENT,
                                  "count=%" PRId64 " not in [1, %" PRId64 "]", c->count,
                                  INT64_MAX);
    for (int i = 0; i < ARGUMENTS; i++)
        if (!c->argument[i].tensors && !c->argument[i].optional)
            return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s is NULL",
                                      c->argument[i].name);
    return NATTEN_OK;
}

/* The sizes of the first partial's output: those that all others are held against. */
static natten_status check_first(const call *c)
{
    const natten_tensor *first = &c->argument[0].tensors[0];
    natten_merge_task *task = c->task;
    int rank = first->ndim - 3;
    char name[NAME_BYTES];
    name_tensor(c, &c->argument[0], 0, name);
    if (rank < 1 || rank > NATTEN_MAX_RANK)
        return natten_status_fail(NATTEN_ERR_SHAPE, "%s.ndim=%" PRId32 " not in [4, 6]",
                                  name, first->ndim);
    for (int n = 0; n < first->ndim; n++) {
        int64_t low = n <= rank ? 0 : 1, /* of a part without queries, too */
            high = n >= 1 && n <= rank ? INT32_MAX : INT64_MAX;
        if (first->shape[n] < low || first->shape[n] > high)
            return natten_status_fail(
                NATTEN_ERR_SHAPE,
                "%s[%s]=%" PRId64 " not in [%" PRId64 ", %" PRId64 "]", name,
                size_name(rank, n), first->shape[n], low, high);
    }
    int64_t bytes;
    if (!natten_tensor_bytes(first->shape, first->ndim, NATTEN_FP64, &bytes))
        return natten_status_fail(
            NATTEN_ERR_OVERFLOW, "%s: the product of its sizes does not fit in 63 bits",
            name);
    task->batch = first->shape[0];
    for (int a = 0; a < 3; a++) {
        int own = a - (3 - rank);
        task->extent[a] = own < 0 ? 1 : (int32_t)first->shape[1 + own];
    }
    task->heads = first->shape[rank + 1];
    task->dim_v = first->shape[rank + 2];
    return NATTEN_OK;
}

/* ---- overlap ---- */

typedef struct region {
    natten_extent extent;
    bool output;
    char name[NAME_BYTES];
} region;

static int by_begin(const void *x, const void *y)
{
    const region *a = x, *b = y;
    return a->extent.begin < b->extent.begin ? -1 : a->extent.begin > b->extent.begin;
}

/* Sorted by address, a region can only overlap those that begin before it ends. */
static natten_status check_regions(const region *regions, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = i + 1;
             j < count && regions[j].extent.begin < regions[i].extent.end; j++) {
            const region *a = &regions[i], *b = &regions[j];
            if ((a->output || b->output) &&
                natten_extent_overlap(&a->extent, &b->extent))
                return natten_status_fail(NATTEN_ERR_LAYOUT, "%s overlaps %s in memory",
                                          (a->output ? a : b)->name,
                                          (a->output ? b : a)->name);
        }
    return NATTEN_OK;
}

/* The only allocation that a check makes: there may be any number of partials. */
static natten_status check_overlap(const call *c)
{
    int64_t total = 0;
    for (int i = 0; i < ARGUMENTS; i++)
        total += tensors_of(c, &c->argument[i]);
    region *regions = calloc((size_t)total, sizeof *regions);
    if (!regions)
        return natten_status_fail(NATTEN_ERR_MEMORY,
                                  "no memory to compare %" PRId64 " tensors", total);
    region *next = regions;
    natten_status status = NATTEN_OK;
    for (int i = 0; i < ARGUMENTS; i++) {
        const argument *a = &c->argument[i];
        for (int64_t n = 0; n < tensors_of(c, a) && status == NATTEN_OK; n++, next++) {
            name_tensor(c, a, n, next->name);
            next->output = a->output;
            status = natten_tensor_check_memory(&a->tensors[n], next->name,
                                                dtype_of(c, a), false, &next->extent);
        }
    }
    if (status == NATTEN_OK) {
        qsort(regions, (size_t)total, sizeof *regions, by_begin);
        status = check_regions(regions, total);
    }
    free(regions);
    return status;
}

/* ---- the whole ---- */

natten_view natten_merge_view(const natten_tensor *tensor, bool has_item)
{
    natten_view view = {.data = natten_tensor_address(tensor)};
    int head = tensor->ndim - 1 - has_item;
    view.batch = natten_tensor_stride(tensor, 0);
    for (int n = 1; n < head; n++)
        view.axis[3 - head + n] = natten_tensor_stride(tensor, n);
    view.head = natten_tensor_stride(tensor, head);
    view.item = has_item ? natten_tensor_stride(tensor, head + 1) : 0;
    return view;
}

static natten_view optional_view(const natten_tensor *tensor, bool has_item)
{
    return tensor ? natten_merge_view(tensor, has_item) : (natten_view){0};
}

natten_status natten_merge_check(const natten_merge_problem *problem,
                                 natten_merge_task *task)
{
    const natten_merge_problem *p = problem;
    bool forward = !p->backward;
    call c = {
        .count = p->count,
        .task = task,
        .argument =
            {
                {"outputs", p->outputs, true, false, false, false},
                {"lses", p->lses, true, true, false, false},
                {"out", p->out, false, false, forward, false},
                {"lse", p->lse, false, true, forward, forward},
                {"grad_out", p->grad_out, false, false, false, forward},
                {"grad_lse", p->grad_lse, false, true, false, true},
                {"grad_outputs", p->grad_outputs, true, false, true, forward},
                {"grad_lses", p->grad_lses, true, true, true, forward},
            },
    };
    memset(task, 0, sizeof *task);
    NATTEN_TRY(check_given(&c));
    NATTEN_TRY(check_each(&c, check_presence));
    NATTEN_TRY(natten_tensor_check_dtype(&p->outputs[0], "the first of outputs",
                                         &task->dtype));
    task->accumulator = natten_dtype_accumulator(task->dtype);
    task->device_type = p->outputs[0].device_type;
    task->device_id = p->outputs[0].device_id;
    NATTEN_TRY(check_each(&c, check_type));
    NATTEN_TRY(check_first(&c));
    NATTEN_TRY(check_each(&c, check_shape));
    NATTEN_TRY(check_each(&c, check_strides));
    NATTEN_TRY(check_overlap(&c));
    task->backward = p->backward;
    task->count = p->count;
    task->outputs = p->outputs;
    task->lses = p->lses;
    task->grad_outputs = p->grad_outputs;
    task->grad_lses = p->grad_lses;
    task->out = natten_merge_view(p->out, true);
    task->lse = optional_view(p->lse, false);
    task->grad_out = optional_view(p->grad_out, true);
    task->grad_lse = optional_view(p->grad_lse, false);
    return NATTEN_OK;
}
