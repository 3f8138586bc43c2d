/* SPDX-License-Identifier: MIT
 *
 * From a spec to a call.  Shapes come from the table of roles, so a spec knows no
 * operation by name. */
#include "problem/problem_spec.h"

#include "problem/roles.h"

#include <math.h>
#include <string.h>

static bool is_qk(natten_operation operation)
{
    return operation == NATTEN_QK || operation == NATTEN_QK_BACKWARD;
}

void natten_problem_spec_from_task(const natten_task *task, natten_problem_spec *spec)
{
    int front = NATTEN_MAX_RANK - task->rank;
    *spec = (natten_problem_spec){
        .operation = task->operation,
        .dtype = task->dtype,
        .rank = task->rank,
        .batch = task->batch,
        .heads = task->heads,
        .heads_kv = task->heads_kv,
        .dim = task->dim ? task->dim : task->dim_v, /* av has no dim, qk no dim_v */
        .dim_v = task->dim_v ? task->dim_v : task->dim,
        .extras = task->extras,
        .has_bias =
            task->view[NATTEN_BIAS].data || (task->operation == NATTEN_QK_BACKWARD &&
                                             task->view[NATTEN_GRAD_BIAS].data),
        .has_grad_lse = task->view[NATTEN_GRAD_LSE].data,
        .allows_tf32 = (task->flags & NATTEN_FLAG_ALLOW_TF32) != 0,
        .scale = task->scale,
        .seed = 1,
    };
    double usual =
        is_qk(task->operation) || task->dim == 0 ? 1 : 1 / sqrt((double)task->dim);
    spec->has_scale = task->scale != usual;
    for (int a = 0; a < task->rank; a++) {
        const natten_axis *axis = &task->axis[front + a];
        spec->queries[a] = axis->query_count;
        spec->keys[a] = axis->key_count;
        spec->kernel_size[a] = axis->window;
        spec->stride[a] = axis->stride;
        spec->dilation[a] = axis->dilation;
        spec->is_causal[a] = axis->causal;
        spec->grid_length[a] = axis->length;
        spec->query_begin[a] = axis->query_begin;
        spec->key_begin[a] = axis->key_begin;
    }
}

natten_params natten_problem_spec_params(const natten_problem_spec *spec,
                                         natten_backend backend)
{
    natten_params params = {
        .struct_size = sizeof params,
        .rank = spec->rank,
        .backend = (int32_t)backend,
        .has_scale = spec->has_scale,
        .scale = spec->scale,
        .flags = spec->allows_tf32 ? NATTEN_FLAG_ALLOW_TF32 : 0,
    };
    for (int a = 0; a < NATTEN_MAX_RANK; a++) {
        params.kernel_size[a] = spec->kernel_size[a];
        params.stride[a] = spec->stride[a];
        params.dilation[a] = spec->dilation[a];
        params.is_causal[a] = spec->is_causal[a];
        params.grid_length[a] = spec->grid_length[a];
        params.query_begin[a] = spec->query_begin[a];
        params.key_begin[a] = spec->key_begin[a];
    }
    return params;
}

bool natten_problem_spec_has(const natten_problem_spec *spec, natten_role role)
{
    if (!natten_roles_takes(spec->operation, role))
        return false;
    switch (role) {
    case NATTEN_BIAS:
    case NATTEN_GRAD_BIAS:
        return spec->has_bias;
    case NATTEN_GRAD_LSE:
        return spec->has_grad_lse;
    case NATTEN_ADDITIONAL_KEYS:
    case NATTEN_ADDITIONAL_VALUES:
    case NATTEN_GRAD_ADDITIONAL_KEYS:
    case NATTEN_GRAD_ADDITIONAL_VALUES:
        return spec->extras > 0;
    default:
        return true;
    }
}

natten_dtype natten_problem_spec_dtype(const natten_problem_spec *spec,
                                       natten_role role)
{
    bool accumulator = natten_roles_info(role)->accumulator;
    return accumulator ? natten_dtype_accumulator(spec->dtype) : spec->dtype;
}

/* The spec's own numbers: what they multiply to is for the call's checks to judge. */
static int64_t size_of(const natten_problem_spec *spec, natten_symbol symbol, int axis)
{
    switch (symbol) {
    case NATTEN_SIZE_BATCH:
        return spec->batch;
    case NATTEN_SIZE_QUERIES:
        return spec->queries[axis];
    case NATTEN_SIZE_KEYS:
        return spec->keys[axis];
    case NATTEN_SIZE_OFFSETS:
        return 2 * spec->kernel_size[axis] - 1;
    case NATTEN_SIZE_HEADS:
        return spec->heads;
    case NATTEN_SIZE_HEADS_KV:
        return spec->heads_kv;
    case NATTEN_SIZE_DIM:
        return spec->dim;
    case NATTEN_SIZE_DIM_V:
        return spec->dim_v;
    case NATTEN_SIZE_EXTRAS:
        return spec->extras;
    default: {
        int64_t slots = 1;
        for (int a = 0; a < spec->rank; a++)
            if (__builtin_mul_overflow(slots, spec->kernel_size[a], &slots))
                return INT64_MAX;
        return __builtin_add_overflow(slots, spec->extras, &slots) ? INT64_MAX : slots;
    }
    }
}

int natten_problem_spec_shape(const natten_problem_spec *spec, natten_role role,
                              int64_t shape[6])
{
    const natten_role_info *info = natten_roles_info(role);
    int ndim = 0;
    for (int s = 0; s < info->symbols; s++) {
        int sizes = natten_roles_per_axis(info->symbol[s]) ? spec->rank : 1;
        for (int axis = 0; axis < sizes; axis++)
            shape[ndim++] = size_of(spec, info->symbol[s], axis);
    }
    return ndim;
}

void natten_problem_spec_fill(const natten_problem_spec *spec, natten_role role,
                              void *data, int64_t count)
{
    const int64_t modulus = 2147483647, factor = 48271;
    natten_dtype dtype = natten_problem_spec_dtype(spec, role);
    int64_t x = (spec->seed * INT64_C(1000003) + (int64_t)role * 7919 + 1) % modulus;
    x = x ? x : 1;
    for (int64_t i = 0; i < count; i++) {
        x = factor * x % modulus;
        natten_dtype_store(dtype, data, i, (double)(x / 8388608 - 128) / 64);
    }
}
