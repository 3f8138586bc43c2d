/* SPDX-License-Identifier: MIT
 *
 * Problems in one line of text, docs/problem-text.md, as a user of the library sees
 * them: an operation, sizes, and natten_params. */
#ifndef NATTEN_COMMAND_PROBLEM_H
#define NATTEN_COMMAND_PROBLEM_H

#include "element.h"

#include <natten.h>

typedef struct problem {
    int32_t operation; /* a natten_operation */
    element kind;
    int64_t batch, heads, heads_kv, head_dim, head_dim_v;
    int64_t length[NATTEN_MAX_RANK];     /* of query */
    int64_t length_key[NATTEN_MAX_RANK]; /* of key and value */
    int64_t extras;
    bool bias, grad_lse;
    int64_t seed;
    natten_params params;
} problem;

/* Read a text. On failure *token is where it stops making sense. */
bool problem_parse(problem *made, const char *text, const char **token);

#endif
