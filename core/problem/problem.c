/* SPDX-License-Identifier: MIT
 *
 * The checks of a call, in the order that natten.h promises, and the task that comes
 * out.
 *
 * Shapes are checked by naming sizes: each role's shape is a row of symbols (roles.c),
 * the first tensor that has a symbol gives it its value, and all later ones must agree.
 */
#include "problem/problem.h"

#include "base/status.h"
#include "problem/axes.h"
#include "problem/params.h"
#include "problem/roles.h"
#include "problem/tensor.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A call while it is being checked. */
typedef struct call {
    const natten_problem *problem;
    const natten_operation_info *info;
    bool sketch;
    natten_params params;
    int64_t size[NATTEN_SYMBOLS][NATTEN_MAX_RANK]; /* first entry, or one per axis */
    const char *from[NATTEN_SYMBOLS]; /* the tensor that gave it, or NULL */
    natten_task *task;
} call;

/* Outputs that a sketch pretends to have point here. Never read or written. */
static char nowhere;

static const natten_tensor *given(const call *c, natten_role role)
{
    return c->problem->tensor[role];
}

static const char *name_of(natten_role role)
{
    return natten_roles_info(role)->name;
}

static int sizes_of(const call *c, natten_symbol symbol)
{
    return natten_roles_per_axis(symbol) ? c->params.rank : 1;
}

/* ---- presence ---- */

/* A question about a call needs only the tensors that shape the work. */
static bool needed(const call *c, const natten_use *use)
{
    if (use->optional)
        return false;
    bool shapes = use->role == NATTEN_QUERY || use->role == NATTEN_KEY ||
                  use->role == NATTEN_VALUE || use->role == NATTEN_ATTN;
    return !c->sketch || (shapes && !use->output);
}

static natten_status check_presence(const call *c)
{
    for (int i = 0; i < c->info->uses; i++) {
        const natten_use *use = &c->info->use[i];
        const natten_tensor *tensor = given(c, use->role);
        if (!tensor) {
            if (needed(c, use))
                return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s is NULL",
                                          name_of(use->role));
            continue;
        }
        if (!tensor->shape)
            return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s.shape is NULL",
                                      name_of(use->role));
        int partner = natten_roles_info(use->role)->partner;
        if (c->sketch || partner < 0 || given(c, (natten_role)partner) ||
            !natten_roles_takes(c->problem->operation, (natten_role)partner))
            continue;
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s is given, but %s is NULL",
                                  name_of(use->role), name_of((natten_role)partner));
    }
    return NATTEN_OK;
}

/* ---- types and devices ---- */

static natten_status check_types(const call *c)
{
    const char *first = NULL;
    natten_task *task = c->task;
    for (int i = 0; i < c->info->uses; i++) {
        natten_role role = c->info->use[i].role;
        const natten_role_info *info = natten_roles_info(role);
        const natten_tensor *tensor = given(c, role);
        if (!tensor)
            continue;
        natten_dtype dtype;
        NATTEN_TRY(natten_tensor_check_dtype(tensor, info->name, &dtype));
        if (!first) { /* every operation's first role has the io type */
            first = info->name;
            task->device_type = tensor->device_type;
            task->device_id = tensor->device_id;
            task->dtype = dtype;
            task->accumulator = natten_dtype_accumulator(dtype);
        }
        natten_dtype want = info->accumulator ? task->accumulator : task->dtype;
        if (dtype != want)
            return natten_status_fail(NATTEN_ERR_DTYPE, "%s is %s, not %s (%s is %s)",
                                      info->name, natten_dtype_name(dtype),
                                      natten_dtype_name(want), first,
                                      natten_dtype_name(task->dtype));
        NATTEN_TRY(natten_tensor_check_device(tensor, info->name));
        NATTEN_TRY(natten_tensor_check_together(tensor, info->name, task->device_type,
                                                task->device_id, first));
    }
    return NATTEN_OK;
}

/* ---- shapes ---- */

static bool is_part(const call *c, int axis)
{
    return c->params.grid_length[axis] != 0;
}

/* Smallest and largest legal size. An axis of a part of a grid may have no tokens. */
static int64_t smallest(const call *c, natten_symbol symbol, int axis)
{
    if (symbol == NATTEN_SIZE_BATCH || symbol == NATTEN_SIZE_EXTRAS)
        return 0;
    bool tokens = symbol == NATTEN_SIZE_QUERIES || symbol == NATTEN_SIZE_KEYS;
    return tokens && is_part(c, axis) ? 0 : 1;
}

static int64_t largest(natten_symbol symbol)
{
    bool tokens = symbol == NATTEN_SIZE_QUERIES || symbol == NATTEN_SIZE_KEYS;
    return tokens ? INT32_MAX : INT64_MAX;
}

/* One size of one tensor and its range; `as`: whose size it has to be, `more`: what
 * else there is to say; both may be NULL. */
typedef struct size_value {
    natten_role role;
    natten_symbol symbol;
    int axis;
    int64_t value, low, high;
    const char *as, *more;
} size_value;

static natten_status check_size(const call *c, size_value v)
{
    if (v.value >= v.low && v.value <= v.high)
        return NATTEN_OK;
    const char *name = natten_roles_size_name(v.symbol, c->params.rank, v.axis);
    return natten_status_fail(
        NATTEN_ERR_SHAPE,
        "%s[%s]=%" PRId64 " not in [%" PRId64 ", %" PRId64 "]%s%s%s%s", name_of(v.role),
        name, v.value, v.low, v.high, v.as ? " (as " : "", v.as ? v.as : "",
        v.more ? v.more : "", v.as ? ")" : "");
}

/* Must key, seen for the first time, have query's length? Without grid_length both are
 * the whole grid. */
static bool must_be_whole(const call *c, natten_symbol symbol, int axis)
{
    return symbol == NATTEN_SIZE_KEYS && !c->from[symbol] &&
           c->from[NATTEN_SIZE_QUERIES] && !is_part(c, axis);
}

/* One size of one tensor: in its range, and the same as before. */
static natten_status bind(call *c, natten_role role, natten_symbol symbol, int axis,
                          int64_t value)
{
    size_value v = {.role = role, .symbol = symbol, .axis = axis, .value = value};
    v.low = smallest(c, symbol, axis);
    v.high = largest(symbol);
    NATTEN_TRY(check_size(c, v));
    bool whole = must_be_whole(c, symbol, axis);
    natten_symbol as = whole ? NATTEN_SIZE_QUERIES : symbol;
    if (c->from[as]) {
        v.low = v.high = c->size[as][axis];
        v.as = c->from[as];
        v.more = whole ? "; parts of a grid need grid_length" : NULL;
        NATTEN_TRY(check_size(c, v));
    }
    c->size[symbol][axis] = value;
    return NATTEN_OK;
}

static natten_status check_shape(call *c, natten_role role, const natten_tensor *tensor)
{
    const natten_role_info *info = natten_roles_info(role);
    int ndim = 0;
    for (int s = 0; s < info->symbols; s++)
        ndim += sizes_of(c, info->symbol[s]);
    if (tensor->ndim != ndim)
        return natten_status_fail(NATTEN_ERR_SHAPE,
                                  "%s.ndim=%" PRId32 " not in [%d, %d] (rank %d)",
                                  info->name, tensor->ndim, ndim, ndim, c->params.rank);
    int n = 0;
    for (int s = 0; s < info->symbols; s++) {
        natten_symbol symbol = info->symbol[s];
        for (int axis = 0; axis < sizes_of(c, symbol); axis++)
            NATTEN_TRY(bind(c, role, symbol, axis, tensor->shape[n++]));
        if (!c->from[symbol])
            c->from[symbol] = info->name;
    }
    int64_t bytes;
    natten_dtype dtype = info->accumulator ? c->task->accumulator : c->task->dtype;
    if (!natten_tensor_bytes(tensor->shape, ndim, dtype, &bytes))
        return natten_status_fail(
            NATTEN_ERR_OVERFLOW, "%s: the product of its sizes does not fit in 63 bits",
            info->name);
    return NATTEN_OK;
}

static natten_status check_shapes(call *c)
{
    for (int i = 0; i < c->info->uses; i++) {
        natten_role role = c->info->use[i].role;
        if (given(c, role))
            NATTEN_TRY(check_shape(c, role, given(c, role)));
    }
    int64_t heads = c->size[NATTEN_SIZE_HEADS][0],
            kv = c->size[NATTEN_SIZE_HEADS_KV][0];
    if (heads % kv != 0)
        return natten_status_fail(
            NATTEN_ERR_SHAPE,
            "%s[heads]=%" PRId64 " not a multiple of %s[heads_kv]=%" PRId64,
            c->from[NATTEN_SIZE_HEADS], heads, c->from[NATTEN_SIZE_HEADS_KV], kv);
    return NATTEN_OK;
}

/* ---- windows ---- */

/* Axes in front that the call does not have are one token long. */
static natten_status check_axes(call *c)
{
    const natten_axis one = {1, 1, 1, 1, false, 0, 1, 0, 1};
    int front = NATTEN_MAX_RANK - c->params.rank;
    for (int a = 0; a < front; a++)
        c->task->axis[a] = one;
    for (int a = 0; a < c->params.rank; a++)
        NATTEN_TRY(natten_axes_check(&c->params, a, c->size[NATTEN_SIZE_QUERIES][a],
                                     c->size[NATTEN_SIZE_KEYS][a],
                                     &c->task->axis[front + a]));
    return NATTEN_OK;
}

/* The sizes that kernel_size decides: those of bias and attn. */
static natten_status check_window_sizes(call *c)
{
    for (int a = 0; a < c->params.rank; a++) {
        size_value v = {.symbol = NATTEN_SIZE_OFFSETS, .axis = a};
        v.role = given(c, NATTEN_BIAS) ? NATTEN_BIAS : NATTEN_GRAD_BIAS;
        v.value = c->size[NATTEN_SIZE_OFFSETS][a];
        v.low = v.high = 2 * c->params.kernel_size[a] - 1;
        v.as = "2 kernel_size - 1";
        if (c->from[NATTEN_SIZE_OFFSETS])
            NATTEN_TRY(check_size(c, v));
        c->size[NATTEN_SIZE_OFFSETS][a] = v.low;
    }
    size_value v = {.symbol = NATTEN_SIZE_SLOTS};
    v.role = given(c, NATTEN_ATTN) ? NATTEN_ATTN : NATTEN_GRAD_ATTN;
    v.value = c->size[NATTEN_SIZE_SLOTS][0];
    v.low = v.high = natten_task_slots(c->task);
    v.as = "the product of kernel_size, plus extras";
    if (c->from[NATTEN_SIZE_SLOTS])
        NATTEN_TRY(check_size(c, v));
    c->size[NATTEN_SIZE_SLOTS][0] = v.low;
    return NATTEN_OK;
}

static natten_status check_scale(call *c)
{
    natten_task *task = c->task;
    bool qk = task->operation == NATTEN_QK || task->operation == NATTEN_QK_BACKWARD;
    double most = task->accumulator == NATTEN_FP64 ? DBL_MAX : (double)FLT_MAX;
    task->scale = qk || task->dim == 0 ? 1 : 1 / sqrt((double)task->dim);
    if (!c->params.has_scale)
        return NATTEN_OK;
    task->scale = c->params.scale;
    if (fabs(task->scale) <= most)
        return NATTEN_OK;
    return natten_status_fail(NATTEN_ERR_ARGUMENT, "scale=%g not in [%g, %g] (%s)",
                              task->scale, -most, most,
                              natten_dtype_name(task->accumulator));
}

/* ---- views and memory ---- */

static void set_stride(const call *c, natten_view *view, natten_symbol symbol, int axis,
                       int64_t stride)
{
    switch (symbol) {
    case NATTEN_SIZE_BATCH:
        view->batch = stride;
        break;
    case NATTEN_SIZE_QUERIES:
    case NATTEN_SIZE_KEYS:
    case NATTEN_SIZE_OFFSETS:
        view->axis[NATTEN_MAX_RANK - c->params.rank + axis] = stride;
        break;
    case NATTEN_SIZE_EXTRAS:
        view->axis[NATTEN_MAX_RANK - 1] = stride;
        break;
    case NATTEN_SIZE_HEADS:
    case NATTEN_SIZE_HEADS_KV:
        view->head = stride;
        break;
    default:
        view->item = stride;
        break;
    }
}

static natten_view view_of(const call *c, natten_role role, const natten_tensor *tensor)
{
    const natten_role_info *info = natten_roles_info(role);
    natten_view view = {.data = natten_tensor_address(tensor)};
    int n = 0;
    for (int s = 0; s < info->symbols; s++)
        for (int axis = 0; axis < sizes_of(c, info->symbol[s]); axis++, n++)
            set_stride(c, &view, info->symbol[s], axis,
                       natten_tensor_stride(tensor, n));
    return view;
}

/* A compact tensor of the right shape for a sketch. One that would not fit in 63 bits
 * can't be given in the call either, and stays away if it is optional. */
static natten_status pretend(const call *c, const natten_use *use)
{
    const natten_role_info *info = natten_roles_info(use->role);
    int64_t shape[NATTEN_TENSOR_DIMS];
    int ndim = 0;
    for (int s = 0; s < info->symbols; s++)
        for (int axis = 0; axis < sizes_of(c, info->symbol[s]); axis++)
            shape[ndim++] = c->size[info->symbol[s]][axis];
    natten_tensor tensor = {.data = &nowhere, .ndim = ndim, .shape = shape};
    int64_t bytes;
    natten_dtype dtype = info->accumulator ? c->task->accumulator : c->task->dtype;
    if (natten_tensor_bytes(shape, ndim, dtype, &bytes))
        c->task->view[use->role] = view_of(c, use->role, &tensor);
    else if (!use->optional)
        return natten_status_fail(
            NATTEN_ERR_OVERFLOW, "%s: the product of its sizes does not fit in 63 bits",
            info->name);
    return NATTEN_OK;
}

static bool of_extras(natten_role role)
{
    const natten_role_info *info = natten_roles_info(role);
    return info->symbol[1] == NATTEN_SIZE_EXTRAS;
}

static natten_status make_views(call *c)
{
    for (int i = 0; i < c->info->uses; i++) {
        const natten_use *use = &c->info->use[i];
        const natten_tensor *tensor = given(c, use->role);
        if (of_extras(use->role) && c->task->extras == 0)
            continue;
        if (tensor)
            c->task->view[use->role] = view_of(c, use->role, tensor);
        else if (c->sketch && (use->output || !use->optional))
            NATTEN_TRY(pretend(c, use));
    }
    return NATTEN_OK;
}

/* The extents of all tensors that are given, with checks of each alone. */
static natten_status check_memory(const call *c, natten_extent extent[NATTEN_ROLES])
{
    for (int i = 0; i < c->info->uses; i++) {
        const natten_use *use = &c->info->use[i];
        const natten_tensor *tensor = given(c, use->role);
        extent[i].begin = extent[i].end = 0; /* meets nothing */
        if (!tensor)
            continue;
        const natten_role_info *info = natten_roles_info(use->role);
        natten_dtype dtype = info->accumulator ? c->task->accumulator : c->task->dtype;
        NATTEN_TRY(natten_tensor_check_strides(tensor, info->name));
        if (!c->sketch)
            NATTEN_TRY(natten_tensor_check_memory(tensor, info->name, dtype,
                                                  use->output, &extent[i]));
    }
    return NATTEN_OK;
}

/* No output shares a byte with another tensor. */
static natten_status check_overlap(const call *c,
                                   const natten_extent extent[NATTEN_ROLES])
{
    for (int i = 0; i < c->info->uses; i++)
        for (int j = 0; c->info->use[i].output && j < c->info->uses; j++) {
            bool seen = c->info->use[j].output && j < i;
            if (j == i || seen || !natten_extent_overlap(&extent[i], &extent[j]))
                continue;
            return natten_status_fail(NATTEN_ERR_LAYOUT, "%s overlaps %s in memory",
                                      name_of(c->info->use[i].role),
                                      name_of(c->info->use[j].role));
        }
    return NATTEN_OK;
}

/* ---- the whole ---- */

static natten_status check(const natten_problem *problem, bool sketch,
                           natten_task *task)
{
    call c = {.problem = problem, .sketch = sketch, .task = task};
    c.info = natten_roles_of(problem->operation);
    memset(task, 0, sizeof *task);
    NATTEN_TRY(natten_params_read(problem->params, &c.params));
    task->operation = problem->operation;
    task->sketch = sketch;
    task->rank = c.params.rank;
    task->backend = c.params.backend;
    task->flags = c.params.flags;
    NATTEN_TRY(check_presence(&c));
    NATTEN_TRY(check_types(&c));
    NATTEN_TRY(check_shapes(&c));
    task->batch = c.size[NATTEN_SIZE_BATCH][0];
    task->heads = c.size[NATTEN_SIZE_HEADS][0];
    task->heads_kv = c.size[NATTEN_SIZE_HEADS_KV][0];
    task->dim = c.size[NATTEN_SIZE_DIM][0];
    task->dim_v = c.size[NATTEN_SIZE_DIM_V][0];
    task->extras = c.size[NATTEN_SIZE_EXTRAS][0];
    NATTEN_TRY(check_axes(&c));
    NATTEN_TRY(check_window_sizes(&c));
    NATTEN_TRY(check_scale(&c));
    natten_extent extent[NATTEN_ROLES];
    NATTEN_TRY(check_memory(&c, extent));
    NATTEN_TRY(make_views(&c));
    return check_overlap(&c, extent);
}

natten_status natten_problem_check(const natten_problem *problem, natten_task *task)
{
    return check(problem, false, task);
}

natten_status natten_problem_sketch(const natten_problem *problem, natten_task *task)
{
    return check(problem, true, task);
}

natten_status natten_problem_check_workspace(const natten_problem *problem,
                                             const void *workspace, size_t bytes)
{
    const natten_operation_info *info = natten_roles_of(problem->operation);
    uintptr_t begin = (uintptr_t)workspace, end;
    if (bytes > PTRDIFF_MAX || __builtin_add_overflow(begin, bytes, &end))
        return natten_status_fail(NATTEN_ERR_OVERFLOW,
                                  "workspace_bytes=%zu reaches past the address space",
                                  bytes);
    natten_extent scratch = {.begin = begin, .end = end, .bytes = (int64_t)bytes};
    for (int i = 0; i < info->uses; i++) {
        natten_role role = info->use[i].role;
        const natten_tensor *tensor = problem->tensor[role];
        natten_extent extent;
        natten_dtype dtype;
        if (!tensor)
            continue;
        NATTEN_TRY(natten_tensor_check_dtype(tensor, name_of(role), &dtype));
        NATTEN_TRY(
            natten_tensor_check_memory(tensor, name_of(role), dtype, false, &extent));
        if (natten_extent_overlap(&scratch, &extent))
            return natten_status_fail(NATTEN_ERR_LAYOUT,
                                      "workspace overlaps %s in memory", name_of(role));
    }
    return NATTEN_OK;
}
