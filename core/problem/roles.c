/* SPDX-License-Identifier: MIT
 *
 * The tables of roles and operations.  A new tensor is a row of the first, a new
 * operation a row of the second; the checks in problem.c need no change. */
#include "problem/roles.h"

#define B NATTEN_SIZE_BATCH
#define Q NATTEN_SIZE_QUERIES
#define K NATTEN_SIZE_KEYS
#define R NATTEN_SIZE_OFFSETS
#define H NATTEN_SIZE_HEADS
#define G NATTEN_SIZE_HEADS_KV
#define D NATTEN_SIZE_DIM
#define V NATTEN_SIZE_DIM_V
#define M NATTEN_SIZE_EXTRAS
#define S NATTEN_SIZE_SLOTS

enum { IO = false, ACC = true, ALONE = -1 };

/* clang-format off */
static const natten_role_info roles[NATTEN_ROLES] = {
    [NATTEN_QUERY]             = {"query",             4, {B, Q, H, D}, IO,  ALONE},
    [NATTEN_KEY]               = {"key",               4, {B, K, G, D}, IO,  ALONE},
    [NATTEN_VALUE]             = {"value",             4, {B, K, G, V}, IO,  ALONE},
    [NATTEN_BIAS]              = {"bias",              2, {H, R},       ACC, ALONE},
    [NATTEN_ADDITIONAL_KEYS] =
        {"additional_keys", 4, {B, M, G, D}, IO, NATTEN_ADDITIONAL_VALUES},
    [NATTEN_ADDITIONAL_VALUES] =
        {"additional_values", 4, {B, M, G, V}, IO, NATTEN_ADDITIONAL_KEYS},
    [NATTEN_ATTN]              = {"attn",              4, {B, Q, H, S}, IO,  ALONE},
    [NATTEN_OUT]               = {"out",               4, {B, Q, H, V}, IO,  ALONE},
    [NATTEN_LSE]               = {"lse",               3, {B, Q, H},    ACC, ALONE},
    [NATTEN_GRAD_ATTN]         = {"grad_attn",         4, {B, Q, H, S}, IO,  ALONE},
    [NATTEN_GRAD_OUT]          = {"grad_out",          4, {B, Q, H, V}, IO,  ALONE},
    [NATTEN_GRAD_LSE]          = {"grad_lse",          3, {B, Q, H},    ACC, ALONE},
    [NATTEN_GRAD_QUERY]        = {"grad_query",        4, {B, Q, H, D}, IO,  ALONE},
    [NATTEN_GRAD_KEY]          = {"grad_key",          4, {B, K, G, D}, IO,  ALONE},
    [NATTEN_GRAD_VALUE]        = {"grad_value",        4, {B, K, G, V}, IO,  ALONE},
    [NATTEN_GRAD_BIAS] =
        {"grad_bias", 2, {H, R}, ACC, NATTEN_BIAS},
    [NATTEN_GRAD_ADDITIONAL_KEYS] =
        {"grad_additional_keys", 4, {B, M, G, D}, IO, NATTEN_ADDITIONAL_KEYS},
    [NATTEN_GRAD_ADDITIONAL_VALUES] =
        {"grad_additional_values", 4, {B, M, G, V}, IO, NATTEN_ADDITIONAL_VALUES},
};

#define IN(role)       {NATTEN_##role, false, false}
#define IN_MAYBE(role) {NATTEN_##role, false, true}
#define TO(role)       {NATTEN_##role, true, false}
#define TO_MAYBE(role) {NATTEN_##role, true, true}

static const natten_operation_info operations[] = {
    [NATTEN_FORWARD] = {8, {
        IN(QUERY), IN(KEY), IN(VALUE), IN_MAYBE(BIAS),
        IN_MAYBE(ADDITIONAL_KEYS), IN_MAYBE(ADDITIONAL_VALUES),
        TO(OUT), TO_MAYBE(LSE)}},
    [NATTEN_BACKWARD] = {16, {
        IN(QUERY), IN(KEY), IN(VALUE), IN_MAYBE(BIAS),
        IN_MAYBE(ADDITIONAL_KEYS), IN_MAYBE(ADDITIONAL_VALUES),
        IN(OUT), IN(LSE), IN(GRAD_OUT), IN_MAYBE(GRAD_LSE),
        TO_MAYBE(GRAD_QUERY), TO_MAYBE(GRAD_KEY), TO_MAYBE(GRAD_VALUE),
        TO_MAYBE(GRAD_BIAS), TO_MAYBE(GRAD_ADDITIONAL_KEYS),
        TO_MAYBE(GRAD_ADDITIONAL_VALUES)}},
    [NATTEN_QK] = {5, {
        IN(QUERY), IN(KEY), IN_MAYBE(BIAS), IN_MAYBE(ADDITIONAL_KEYS), TO(ATTN)}},
    [NATTEN_QK_BACKWARD] = {8, {
        IN(QUERY), IN(KEY), IN_MAYBE(ADDITIONAL_KEYS), IN(GRAD_ATTN),
        TO_MAYBE(GRAD_QUERY), TO_MAYBE(GRAD_KEY), TO_MAYBE(GRAD_BIAS),
        TO_MAYBE(GRAD_ADDITIONAL_KEYS)}},
    [NATTEN_AV] = {4, {
        IN(ATTN), IN(VALUE), IN_MAYBE(ADDITIONAL_VALUES), TO(OUT)}},
    [NATTEN_AV_BACKWARD] = {7, {
        IN(ATTN), IN(VALUE), IN_MAYBE(ADDITIONAL_VALUES), IN(GRAD_OUT),
        TO_MAYBE(GRAD_ATTN), TO_MAYBE(GRAD_VALUE), TO_MAYBE(GRAD_ADDITIONAL_VALUES)}},
};
/* clang-format on */

static const char *const size_names[NATTEN_SYMBOLS] = {
    [B] = "batch",      [H] = "heads",  [G] = "heads_kv", [D] = "head_dim",
    [V] = "head_dim_v", [M] = "extras", [S] = "slots",
};

/* Names of the axes, by rank. */
static const char *const axis_names[NATTEN_MAX_RANK][NATTEN_MAX_RANK] = {
    {"length"},
    {"height", "width"},
    {"depth", "height", "width"},
};

const natten_role_info *natten_roles_info(natten_role role)
{
    return &roles[role];
}

const natten_operation_info *natten_roles_of(natten_operation operation)
{
    return &operations[operation];
}

bool natten_roles_takes(natten_operation operation, natten_role role)
{
    const natten_operation_info *info = &operations[operation];
    for (int i = 0; i < info->uses; i++)
        if (info->use[i].role == role)
            return true;
    return false;
}

const char *natten_roles_axis_name(int rank, int axis)
{
    return axis_names[rank - 1][axis];
}

const char *natten_roles_size_name(natten_symbol symbol, int rank, int axis)
{
    return natten_roles_per_axis(symbol) ? axis_names[rank - 1][axis]
                                         : size_names[symbol];
}
