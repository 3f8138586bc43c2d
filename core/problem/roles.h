/* SPDX-License-Identifier: MIT
 *
 * What each role's tensor looks like, and which roles each operation takes: the two
 * tables that problem.c checks calls by. */
#ifndef NATTEN_PROBLEM_ROLES_H
#define NATTEN_PROBLEM_ROLES_H

#include "problem/task.h"

/* Sizes that shapes are made of. QUERIES, KEYS and OFFSETS stand for one size per axis.
 */
typedef enum natten_symbol {
    NATTEN_SIZE_BATCH,
    NATTEN_SIZE_QUERIES,
    NATTEN_SIZE_KEYS,
    NATTEN_SIZE_OFFSETS, /* 2 kernel_size - 1 */
    NATTEN_SIZE_HEADS,
    NATTEN_SIZE_HEADS_KV,
    NATTEN_SIZE_DIM,
    NATTEN_SIZE_DIM_V,
    NATTEN_SIZE_EXTRAS,
    NATTEN_SIZE_SLOTS, /* product of kernel_size, and the extras */
    NATTEN_SYMBOLS
} natten_symbol;

enum { NATTEN_ROLE_SYMBOLS = 4 };

typedef struct natten_role_info {
    const char *name; /* as in natten.h */
    int symbols;
    natten_symbol symbol[NATTEN_ROLE_SYMBOLS]; /* of the shape, outermost first */
    bool accumulator;                          /* has the accumulator type */
    int partner; /* a role that must be given too, if the operation takes it; or -1 */
} natten_role_info;

/* One argument of an operation. */
typedef struct natten_use {
    natten_role role;
    bool output, optional;
} natten_use;

typedef struct natten_operation_info {
    int uses;
    natten_use use[NATTEN_ROLES]; /* in the order of natten.h */
} natten_operation_info;

const natten_role_info *natten_roles_info(natten_role role);
const natten_operation_info *natten_roles_of(natten_operation operation);
/* Does the operation take this role? */
bool natten_roles_takes(natten_operation operation, natten_role role);

/* "batch", "heads", ...; for a symbol with one size per axis the name of axis `axis` of
 * `rank`: length; height, width; depth, height, width. */
const char *natten_roles_size_name(natten_symbol symbol, int rank, int axis);
const char *natten_roles_axis_name(int rank, int axis);
/* Does the symbol stand for one size per axis? */
static inline bool natten_roles_per_axis(natten_symbol symbol)
{
    return symbol >= NATTEN_SIZE_QUERIES && symbol <= NATTEN_SIZE_OFFSETS;
}

#endif
