/* SPDX-License-Identifier: MIT
 *
 * The legal range of each per-axis value (docs/definition.md, section 10), with the
 * reason for the range in the sentence. */
#include "problem/axes.h"

#include "base/status.h"
#include "problem/roles.h"

#include <inttypes.h>
#include <stdio.h>

/* A value of one axis, its range, and the two facts that the range comes from. */
typedef struct axis_value {
    const char *name;
    int axis;
    int64_t value, low, high;
    const char *what;
    int64_t what_value;
    const char *with;
    int64_t with_value;
} axis_value;

static natten_status check_value(int rank, axis_value v)
{
    if (v.value >= v.low && v.value <= v.high)
        return NATTEN_OK;
    char why[96] = "";
    if (v.with)
        snprintf(why, sizeof why, " (%s %" PRId64 " %s %" PRId64 ")", v.what,
                 v.what_value, v.with, v.with_value);
    else if (v.what)
        snprintf(why, sizeof why, " (%s %" PRId64 ")", v.what, v.what_value);
    return natten_status_fail(
        NATTEN_ERR_ARGUMENT, "%s[%s]=%" PRId64 " not in [%" PRId64 ", %" PRId64 "]%s",
        v.name, natten_roles_axis_name(rank, v.axis), v.value, v.low, v.high, why);
}

/* In this order; each range may rest on the values before it. */
natten_status natten_axes_check(const natten_params *p, int a, int64_t queries,
                                int64_t keys, natten_axis *axis)
{
    int64_t tokens = queries > keys ? queries : keys;
    int64_t length = tokens, k = p->kernel_size[a], d = p->dilation[a],
            s = p->stride[a];
    int64_t q0 = p->query_begin[a], k0 = p->key_begin[a], causal = p->is_causal[a];
    int rank = p->rank;
    if (p->grid_length[a] != 0) {
        length = p->grid_length[a];
        NATTEN_TRY(check_value(
            rank, (axis_value){"grid_length", a, length, tokens > 1 ? tokens : 1,
                               INT32_MAX, "queries", queries, "and keys", keys}));
    }
    NATTEN_TRY(check_value(rank, (axis_value){"query_begin", a, q0, 0, length - queries,
                                              "length", length, "- queries", queries}));
    NATTEN_TRY(check_value(rank, (axis_value){"key_begin", a, k0, 0, length - keys,
                                              "length", length, "- keys", keys}));
    /* An illegal dilation is named in its turn, below. */
    NATTEN_TRY(check_value(
        rank,
        (axis_value){"kernel_size", a, k, 1, d > 1 && d <= length ? length / d : length,
                     "length", length, d > 1 ? "/ dilation" : NULL, d}));
    NATTEN_TRY(check_value(rank, (axis_value){"dilation", a, d, 1, length / k, "length",
                                              length, "/ kernel_size", k}));
    NATTEN_TRY(check_value(
        rank, (axis_value){"stride", a, s, 1, k, "kernel_size", k, NULL, 0}));
    NATTEN_TRY(check_value(
        rank, (axis_value){"is_causal", a, causal, 0, 1, NULL, 0, NULL, 0}));
    *axis = (natten_axis){
        .length = (int32_t)length,
        .window = (int32_t)k,
        .stride = (int32_t)s,
        .dilation = (int32_t)d,
        .causal = causal != 0,
        .query_begin = (int32_t)q0,
        .query_count = (int32_t)queries,
        .key_begin = (int32_t)k0,
        .key_count = (int32_t)keys,
    };
    return NATTEN_OK;
}
