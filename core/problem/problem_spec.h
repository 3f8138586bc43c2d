/* SPDX-License-Identifier: MIT
 *
 * What a problem text says (docs/problem-text.md), as a struct, and what follows from
 * it: the params of the call, and the shape and data of every tensor. */
#ifndef NATTEN_PROBLEM_PROBLEM_SPEC_H
#define NATTEN_PROBLEM_PROBLEM_SPEC_H

#include "problem/task.h"

#include <natten.h>

/* A text's content, every default filled in. Axes are those of the call, outermost
 * first. */
typedef struct natten_problem_spec {
    natten_operation operation;
    natten_dtype dtype;
    int rank;
    int64_t batch, heads, heads_kv, dim, dim_v, extras;
    int64_t queries[3], keys[3]; /* lengths of query's and key's axes */
    int64_t kernel_size[3], stride[3], dilation[3], is_causal[3];
    int64_t grid_length[3], query_begin[3], key_begin[3]; /* grid_length is never 0 */
    bool has_bias, has_scale, has_grad_lse, allows_tf32;
    double scale;
    int32_t seed;
} natten_problem_spec;

/* The problem of a task, with seed 1. A scale equal to the default counts as not given.
 */
void natten_problem_spec_from_task(const natten_task *task, natten_problem_spec *spec);
/* The params of the call, for `backend`. */
natten_params natten_problem_spec_params(const natten_problem_spec *spec,
                                         natten_backend backend);

/* Is the role's tensor given in this call? Gradients of inputs that are given are
 * wanted. */
bool natten_problem_spec_has(const natten_problem_spec *spec, natten_role role);
/* Element type of the role's tensor. */
natten_dtype natten_problem_spec_dtype(const natten_problem_spec *spec,
                                       natten_role role);
/* Sizes of the role's tensor; returns how many there are, at most 6. */
int natten_problem_spec_shape(const natten_problem_spec *spec, natten_role role,
                              int64_t shape[6]);
/* Fill `count` compact elements with the role's data. */
void natten_problem_spec_fill(const natten_problem_spec *spec, natten_role role,
                              void *data, int64_t count);

#endif
