/* SPDX-License-Identifier: MIT
 *
 * One (query, key) pair of a task and the walks over pairs that the reference consists
 * of: the keys of a query, and the queries of a key.  A pair knows where its two ends
 * lie in the tensors, which bias entry is its own and which slot of a row of attn it
 * fills.  Extra tokens are keys too: a walk over a query's keys ends with them. */
#ifndef NATTEN_REFERENCE_PAIR_H
#define NATTEN_REFERENCE_PAIR_H

#include "problem/task.h"

typedef struct natten_pair {
    const natten_task *task;
    int64_t batch, head; /* head of the query */
    int32_t query[3];    /* where it lies along the axes of query, out, lse */
    int32_t key[3];      /* along the axes of key; of an extra token: (0, 0, which) */
    bool extra;          /* the key is an extra token */
    int32_t bias[3];     /* along the axes of bias; extra tokens have none */
    int64_t slot;        /* of the query's row of attn */
    /* State of a walk: the present positions (in their residue classes) and their
     * spans. */
    natten_class axis[3];
    int32_t query_position[3], key_position[3];
    natten_span span[3];
} natten_pair;

/* Walk the keys of query `index` (counts batch, axes and heads, row-major): begin, then
 * next until it says false. A walk may be empty. */
natten_pair natten_pair_row(const natten_task *task, int64_t index);
bool natten_pair_next_key(natten_pair *pair);

/* Walk the queries, of all heads of the group, that see key `index` (counts batch, axes
 * and heads_kv). */
natten_pair natten_pair_column(const natten_task *task, int64_t index);
bool natten_pair_next_query(natten_pair *pair);

/* Make the pair of the walk natten_pair_row() and the key at bias entry `entry` (per
 * axis); false if the query does not see it, or it is not in the part. */
bool natten_pair_at_bias(natten_pair *pair, const int32_t entry[3]);
/* Make the pair of the walk natten_pair_row() and extra token `which`. */
void natten_pair_at_extra(natten_pair *pair, int32_t which);

/* How many rows and columns there are. */
int64_t natten_pair_rows(const natten_task *task);
int64_t natten_pair_columns(const natten_task *task);

/* A vector of a tensor: `item` elements apart, of the task's type. NULL data: not
 * given. */
typedef struct natten_pair_vector {
    void *data;
    int64_t item;
} natten_pair_vector;

/* The vector of `role` at the query's end, or at the key's end: of key or value, given
 * as the role for tokens of the grid and the role for extra tokens. */
natten_pair_vector natten_pair_at_query(const natten_pair *pair, natten_role role);
natten_pair_vector natten_pair_at_key(const natten_pair *pair, natten_role grid,
                                      natten_role extra);
/* The element of lse or grad_lse of the pair's query; `otherwise` if not given. */
double natten_pair_scalar(const natten_pair *pair, natten_role role, double otherwise);

/* scale <query, key> + bias (definition.md, section 6). */
double natten_pair_logit(const natten_pair *pair);
/* <a, b> over `count` elements of the task's type. */
double natten_pair_dot(const natten_task *task, natten_pair_vector a,
                       natten_pair_vector b, int64_t count);
/* sum += factor * vector; and vector = sum, rounded once. */
void natten_pair_add(const natten_task *task, double *sum, double factor,
                     natten_pair_vector vector, int64_t count);
void natten_pair_store(const natten_task *task, const double *sum,
                       natten_pair_vector vector, int64_t count);

#endif
