/* SPDX-License-Identifier: MIT
 *
 * Illegal arguments, by table, through the public functions: the status, the sentence,
 * and that no byte was written.  Covers core/problem/problem.c, core/problem/axes.c,
 * core/problem/params.c, core/problem/roles.c and core/problem/roles.h.
 *
 * Length: the tables of illegal arguments are most of it, and belong in one place. */
#include "problem/problem.h"

#include "api/call.h"
#include "problem/roles.h"
#include "support/tap.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* All optional tensors; two axes, of which the second is undilated. */
#define FWD   "fwd fp32 b2 h4:2 d3:5 14x9 w3x5 e2x1 m2 bias scale0.5"
#define BWD   "bwd fp32 b2 h4:2 d3:5 14x9 w3x5 e2x1 m2 bias dlse"
#define QK    "qk fp32 b2 h4:2 d3 14x9 w3x5 e2x1 m2 bias"
#define QKBWD "qkbwd fp32 b2 h4:2 d3 14x9 w3x5 e2x1 m2 bias"
#define AV    "av fp32 b2 h4:2 d5 14x9 w3x5 e2x1 m2"
#define AVBWD "avbwd fp32 b2 h4:2 d5 14x9 w3x5 e2x1 m2"
#define PART  "fwd fp32 b1 h2 d3 5x6 w3x5 g14x9 q2x1 k4x0 n7x8"

/* ---- values of params, below, at and above their range ---- */

typedef struct limits {
    const char *text; /* the call */
    const char *name; /* as in the sentence */
    size_t offset;    /* in natten_params, of an int64_t */
    int64_t low, high;
    const char *why; /* end of the sentence */
} limits;

#define VALUE(field, axis) offsetof(natten_params, field) + sizeof(int64_t) * (axis)

static const limits per_axis[] = {
    {"fwd fp32 b1 h1 d2 14x9 w3x5 e2x1", "kernel_size[height]", VALUE(kernel_size, 0),
     1, 7, " (length 14 / dilation 2)"},
    {"fwd fp32 b1 h1 d2 14x9 w3x5 e2x1", "kernel_size[width]", VALUE(kernel_size, 1), 1,
     9, " (length 9)"},
    {"fwd fp32 b1 h1 d2 9 w3", "kernel_size[length]", VALUE(kernel_size, 0), 1, 9,
     " (length 9)"},
    {"fwd fp32 b1 h1 d2 5x3x4 w1x1x1", "kernel_size[depth]", VALUE(kernel_size, 0), 1,
     5, " (length 5)"},
    {"fwd fp32 b1 h1 d2 5x3x4 w1x1x1", "kernel_size[width]", VALUE(kernel_size, 2), 1,
     4, " (length 4)"},
    {"fwd fp32 b1 h1 d2 14x9 w1x5", "dilation[height]", VALUE(dilation, 0), 1, 14,
     " (length 14 / kernel_size 1)"},
    {"fwd fp32 b1 h1 d2 14x9 w3x1", "dilation[width]", VALUE(dilation, 1), 1, 9,
     " (length 9 / kernel_size 1)"},
    {"fwd fp32 b1 h1 d2 14x9 w3x5", "stride[width]", VALUE(stride, 1), 1, 5,
     " (kernel_size 5)"},
    {"fwd fp32 b1 h1 d2 14x9 w3x5", "is_causal[height]", VALUE(is_causal, 0), 0, 1, ""},
    {PART, "grid_length[height]", VALUE(grid_length, 0), 7, INT32_MAX,
     " (queries 5 and keys 7)"},
    {PART, "query_begin[height]", VALUE(query_begin, 0), 0, 9,
     " (length 14 - queries 5)"},
    {PART, "query_begin[width]", VALUE(query_begin, 1), 0, 3,
     " (length 9 - queries 6)"},
    {PART, "key_begin[width]", VALUE(key_begin, 1), 0, 1, " (length 9 - keys 8)"},
    {"fwd fp32 b1 h1 d2 9 w3", "query_begin[length]", VALUE(query_begin, 0), 0, 0,
     " (length 9 - queries 9)"},
    {"fwd fp32 b1 h1 d2 9 w3", "key_begin[length]", VALUE(key_begin, 0), 0, 0,
     " (length 9 - keys 9)"},
};

/* Its smallest value is legal only with smaller begins. */
static bool is_grid_length(const limits *l)
{
    return strncmp(l->name, "grid_length", 11) == 0;
}

static void set_value(call *c, const limits *l, int64_t value)
{
    memcpy((char *)&c->params + l->offset, &value, sizeof value);
}

START_TEST(a_value_at_either_end_of_its_range_is_legal)
{
    const limits *l = &per_axis[_i];
    for (int end = 0; end < 2; end++) {
        call c;
        call_make(&c, l->text);
        set_value(&c, l, end ? l->high : l->low);
        if (is_grid_length(l))
            c.params.query_begin[0] = c.params.key_begin[0] = 0;
        ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
        ck_assert(call_is_untouched(&c, false) && call_is_written(&c));
        call_free(&c);
    }
}
END_TEST

START_TEST(a_value_outside_its_range_is_refused_by_name)
{
    const limits *l = &per_axis[_i];
    const int64_t values[] = {l->low - 1, l->high + 1,
                              INT32_MIN,  INT32_MAX + INT64_C(1),
                              INT64_MIN,  INT64_MAX};
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
        char expected[256];
        call c;
        call_make(&c, l->text);
        set_value(&c, l, values[v]);
        snprintf(expected, sizeof expected,
                 "natten_forward: %s=%" PRId64 " not in [%" PRId64 ", %" PRId64 "]%s",
                 l->name, values[v], l->low, l->high, l->why);
        ck_assert_int_eq(call_run(&c), NATTEN_ERR_ARGUMENT);
        ck_assert_str_eq(natten_last_error(), expected);
        ck_assert(call_is_untouched(&c, true));
        call_free(&c);
    }
}
END_TEST

/* ---- everything else, one spoiled argument at a time ---- */

typedef enum edit {
    MISSING,     /* the argument is NULL */
    SHAPE_NULL,  /* its shape is */
    DATA_NULL,   /* its data is */
    SIZE,        /* shape[at] = value */
    STRIDE,      /* strides[at] = value */
    NDIM,        /* = value */
    DTYPE_CODE,  /* = value */
    DTYPE_BITS,  /* = value */
    DTYPE_LANES, /* = value */
    DEVICE_TYPE, /* = value */
    DEVICE_ID,   /* = value */
    BYTE_OFFSET, /* = value */
    ON_TOP_OF,   /* data is that of role `value`, `at` bytes further */
    RANK,        /* of params = value */
    BACKEND,     /* = value */
    FLAGS,       /* = value */
    RESERVED,    /* [at] = value */
    STRUCT_SIZE, /* = value */
    SCALE,       /* infinity (value 1), minus infinity (-1), NaN (0), 1e39 (2) */
    KERNEL_SIZE, /* [at] = value */
    DILATION,    /* [at] = value */
    GRID_LENGTH, /* [at] = value */
} edit;

typedef struct misuse {
    const char *text;
    edit edit;
    int role;
    int at;
    int64_t value;
    natten_status status;
    const char *sentence; /* extended regular expression behind the function's name */
} misuse;

#define ARG NATTEN_ERR_ARGUMENT
#define SHP NATTEN_ERR_SHAPE
#define TYP NATTEN_ERR_DTYPE
#define LAY NATTEN_ERR_LAYOUT
#define OVF NATTEN_ERR_OVERFLOW
#define DEV NATTEN_ERR_DEVICE
#define ABI NATTEN_ERR_ABI

/* clang-format off */
static const misuse misuses[] = {
    /* params */
    {FWD, STRUCT_SIZE, 0, 0, 0, ABI,
     "struct_size=0 not in \\[264, 4096\\] \\(natten_params\\)"},
    {FWD, STRUCT_SIZE, 0, 0, 263, ABI, "struct_size=263 not in"},
    {FWD, STRUCT_SIZE, 0, 0, 4097, ABI, "struct_size=4097 not in"},
    {FWD, STRUCT_SIZE, 0, 0, UINT32_MAX, ABI, "struct_size=4294967295 not in"},
    {FWD, RANK, 0, 0, 0, ARG, "rank=0 not in \\[1, 3\\]"},
    {FWD, RANK, 0, 0, 4, ARG, "rank=4 not in \\[1, 3\\]"},
    {FWD, RANK, 0, 0, INT32_MIN, ARG, "rank=-2147483648 not in \\[1, 3\\]"},
    {FWD, RANK, 0, 0, INT32_MAX, ARG, "rank=2147483647 not in \\[1, 3\\]"},
    {FWD, RANK, 0, 0, 1, SHP, "query\\.ndim=5 not in \\[4, 4\\] \\(rank 1\\)"},
    {FWD, BACKEND, 0, 0, -1, ARG, "backend=-1 not in \\[0, 3\\]"},
    {FWD, BACKEND, 0, 0, 4, ARG, "backend=4 not in \\[0, 3\\]"},
    {FWD, FLAGS, 0, 0, 4, ARG, "flags=0x4 has bits outside 0x3"},
    {FWD, FLAGS, 0, 0, -1, ARG, "flags=0xffffffffffffffff has bits outside 0x3"},
    {FWD, RESERVED, 0, 0, 1, ARG, "reserved=1 not in \\[0, 0\\]"},
    {FWD, RESERVED, 0, 7, -5, ARG, "reserved=-5 not in \\[0, 0\\]"},
    {FWD, SCALE, 0, 0, 0, ARG,
     "scale=-?nan not in \\[-3\\.40282e\\+38, 3\\.40282e\\+38\\] \\(fp32\\)"},
    {FWD, SCALE, 0, 0, 1, ARG, "scale=inf not in"},
    {FWD, SCALE, 0, 0, -1, ARG, "scale=-inf not in"},
    {FWD, SCALE, 0, 0, 2, ARG, "scale=1e\\+39 not in"},
    {AV, SCALE, 0, 0, 0, ARG, "scale=-?nan not in"},
    /* presence */
    {FWD, MISSING, NATTEN_QUERY, 0, 0, ARG, "query is NULL"},
    {FWD, MISSING, NATTEN_KEY, 0, 0, ARG, "key is NULL"},
    {FWD, MISSING, NATTEN_VALUE, 0, 0, ARG, "value is NULL"},
    {FWD, MISSING, NATTEN_OUT, 0, 0, ARG, "out is NULL"},
    {FWD, MISSING, NATTEN_ADDITIONAL_KEYS, 0, 0, ARG,
     "additional_values is given, but additional_keys is NULL"},
    {FWD, MISSING, NATTEN_ADDITIONAL_VALUES, 0, 0, ARG,
     "additional_keys is given, but additional_values is NULL"},
    {BWD, MISSING, NATTEN_ADDITIONAL_VALUES, 0, 0, ARG,
     "additional_keys is given, but additional_values is NULL"},
    {BWD, MISSING, NATTEN_OUT, 0, 0, ARG, "out is NULL"},
    {BWD, MISSING, NATTEN_LSE, 0, 0, ARG, "lse is NULL"},
    {BWD, MISSING, NATTEN_GRAD_OUT, 0, 0, ARG, "grad_out is NULL"},
    {BWD, MISSING, NATTEN_BIAS, 0, 0, ARG, "grad_bias is given, but bias is NULL"},
    {QK, MISSING, NATTEN_ATTN, 0, 0, ARG, "attn is NULL"},
    {QKBWD, MISSING, NATTEN_GRAD_ATTN, 0, 0, ARG, "grad_attn is NULL"},
    {QKBWD, MISSING, NATTEN_ADDITIONAL_KEYS, 0, 0, ARG,
     "grad_additional_keys is given, but additional_keys is NULL"},
    {AV, MISSING, NATTEN_ATTN, 0, 0, ARG, "attn is NULL"},
    {AVBWD, MISSING, NATTEN_GRAD_OUT, 0, 0, ARG, "grad_out is NULL"},
    {AVBWD, MISSING, NATTEN_ADDITIONAL_VALUES, 0, 0, ARG,
     "grad_additional_values is given, but additional_values is NULL"},
    {FWD, SHAPE_NULL, NATTEN_KEY, 0, 0, ARG, "key\\.shape is NULL"},
    {FWD, DATA_NULL, NATTEN_VALUE, 0, 0, ARG, "value\\.data is NULL"},
    {FWD, DATA_NULL, NATTEN_LSE, 0, 0, ARG, "lse\\.data is NULL"},
    /* types and devices */
    {FWD, DTYPE_BITS, NATTEN_QUERY, 0, 8, TYP,
     "query\\.dtype is code 2, 8 bits, 1 lanes: none of"},
    {FWD, DTYPE_CODE, NATTEN_QUERY, 0, 0, TYP, "query\\.dtype is code 0, 32 bits"},
    {FWD, DTYPE_CODE, NATTEN_QUERY, 0, 255, TYP, "query\\.dtype is code 255"},
    {FWD, DTYPE_LANES, NATTEN_QUERY, 0, 0, TYP,
     "query\\.dtype is code 2, 32 bits, 0 lanes"},
    {FWD, DTYPE_LANES, NATTEN_OUT, 0, 65535, TYP,
     "out\\.dtype is code 2, 32 bits, 65535 lanes"},
    {FWD, DTYPE_BITS, NATTEN_KEY, 0, 16, TYP,
     "key is fp16, not fp32 \\(query is fp32\\)"},
    {FWD, DTYPE_BITS, NATTEN_BIAS, 0, 64, TYP, "bias is fp64, not fp32"},
    {FWD, DTYPE_BITS, NATTEN_LSE, 0, 16, TYP, "lse is fp16, not fp32"},
    {"fwd bf16 b1 h1 d2 5 w3", DTYPE_BITS, NATTEN_LSE, 0, 64, TYP,
     "lse is fp64, not fp32 \\(query is bf16\\)"},
    {"fwd bf16 b1 h1 d2 5 w3", DTYPE_CODE, NATTEN_KEY, 0, 2, TYP,
     "key is fp16, not bf16"},
    {"fwd fp64 b1 h1 d2 5 w3", DTYPE_BITS, NATTEN_LSE, 0, 32, TYP,
     "lse is fp32, not fp64"},
    {AV, DTYPE_BITS, NATTEN_VALUE, 0, 64, TYP,
     "value is fp64, not fp32 \\(attn is fp32\\)"},
    {FWD, DEVICE_TYPE, NATTEN_QUERY, 0, 3, DEV,
     "query\\.device_type=3 not in \\[1, 2\\]"},
    {FWD, DEVICE_TYPE, NATTEN_KEY, 0, 2, DEV,
     "key is on device 0 of type 2, but query on"},
    {FWD, DEVICE_TYPE, NATTEN_OUT, 0, 0, DEV, "out\\.device_type=0 not in"},
    {FWD, DEVICE_ID, NATTEN_KEY, 0, 1, DEV, "key\\.device_id=1 not in \\[0, 0\\]"},
    /* shapes */
    {FWD, NDIM, NATTEN_QUERY, 0, 0, SHP,
     "query\\.ndim=0 not in \\[5, 5\\] \\(rank 2\\)"},
    {FWD, NDIM, NATTEN_KEY, 0, 4, SHP, "key\\.ndim=4 not in \\[5, 5\\]"},
    {FWD, NDIM, NATTEN_KEY, 0, INT32_MAX, SHP, "key\\.ndim=2147483647 not in"},
    {FWD, NDIM, NATTEN_BIAS, 0, 2, SHP, "bias\\.ndim=2 not in \\[3, 3\\]"},
    {FWD, NDIM, NATTEN_ADDITIONAL_KEYS, 0, 5, SHP,
     "additional_keys\\.ndim=5 not in \\[4, 4\\]"},
    {FWD, NDIM, NATTEN_LSE, 0, 5, SHP, "lse\\.ndim=5 not in \\[4, 4\\]"},
    {FWD, SIZE, NATTEN_QUERY, 0, -1, SHP,
     "query\\[batch\\]=-1 not in \\[0, 9223372036854775807\\]"},
    {FWD, SIZE, NATTEN_QUERY, 1, 0, SHP,
     "query\\[height\\]=0 not in \\[1, 2147483647\\]"},
    {FWD, SIZE, NATTEN_QUERY, 2, INT64_C(1) << 31, SHP,
     "query\\[width\\]=2147483648 not in \\[1, 2147483647\\]"},
    {FWD, SIZE, NATTEN_QUERY, 3, 0, SHP, "query\\[heads\\]=0 not in \\[1, "},
    {FWD, SIZE, NATTEN_QUERY, 4, INT64_MIN, SHP,
     "query\\[head_dim\\]=-9223372036854775808 not in \\[1, "},
    {FWD, SIZE, NATTEN_KEY, 0, 3, SHP,
     "key\\[batch\\]=3 not in \\[2, 2\\] \\(as query\\)"},
    {FWD, SIZE, NATTEN_KEY, 1, 13, SHP,
     "key\\[height\\]=13 not in \\[14, 14\\] \\(as query; parts of a grid need "
     "grid_length\\)"},
    {FWD, SIZE, NATTEN_KEY, 4, 4, SHP,
     "key\\[head_dim\\]=4 not in \\[3, 3\\] \\(as query\\)"},
    {FWD, SIZE, NATTEN_VALUE, 2, 8, SHP,
     "value\\[width\\]=8 not in \\[9, 9\\] \\(as key\\)"},
    {FWD, SIZE, NATTEN_VALUE, 3, 4, SHP,
     "value\\[heads_kv\\]=4 not in \\[2, 2\\] \\(as key\\)"},
    {FWD, SIZE, NATTEN_VALUE, 4, 0, SHP, "value\\[head_dim_v\\]=0 not in \\[1, "},
    {FWD, SIZE, NATTEN_BIAS, 0, 3, SHP,
     "bias\\[heads\\]=3 not in \\[4, 4\\] \\(as query\\)"},
    {FWD, SIZE, NATTEN_BIAS, 1, 4, SHP,
     "bias\\[height\\]=4 not in \\[5, 5\\] \\(as 2 kernel_size - 1\\)"},
    {FWD, SIZE, NATTEN_BIAS, 2, 0, SHP, "bias\\[width\\]=0 not in \\[1, "},
    {QKBWD, SIZE, NATTEN_GRAD_BIAS, 2, 5, SHP,
     "grad_bias\\[width\\]=5 not in \\[9, 9\\]"},
    {FWD, SIZE, NATTEN_ADDITIONAL_KEYS, 1, -1, SHP,
     "additional_keys\\[extras\\]=-1 not in \\[0, "},
    {FWD, SIZE, NATTEN_ADDITIONAL_VALUES, 1, 3, SHP,
     "additional_values\\[extras\\]=3 not in \\[2, 2\\] \\(as additional_keys\\)"},
    {FWD, SIZE, NATTEN_OUT, 4, 3, SHP,
     "out\\[head_dim_v\\]=3 not in \\[5, 5\\] \\(as value\\)"},
    {FWD, SIZE, NATTEN_LSE, 3, 2, SHP,
     "lse\\[heads\\]=2 not in \\[4, 4\\] \\(as query\\)"},
    {QK, SIZE, NATTEN_ATTN, 4, 15, SHP,
     "attn\\[slots\\]=15 not in \\[17, 17\\] \\(as the product of kernel_size, "
     "plus extras\\)"},
    {AVBWD, SIZE, NATTEN_GRAD_ATTN, 4, 16, SHP,
     "grad_attn\\[slots\\]=16 not in \\[17, 17\\] \\(as attn\\)"},
    {QKBWD, SIZE, NATTEN_GRAD_ATTN, 4, 18, SHP,
     "grad_attn\\[slots\\]=18 not in \\[17, 17\\]"},
    {AV, SIZE, NATTEN_VALUE, 1, 13, SHP,
     "value\\[height\\]=13 not in \\[14, 14\\] \\(as attn; parts"},
    {"fwd fp32 b1 h3:2 d2 5 w3", SIZE, NATTEN_QUERY, 0, 1, SHP,
     "query\\[heads\\]=3 not a multiple of key\\[heads_kv\\]=2"},
    {AV, SIZE, NATTEN_ATTN, 3, 5, SHP, "out\\[heads\\]=4 not in \\[5, 5\\]"},
    {FWD, SIZE, NATTEN_QUERY, 0, INT64_MAX, OVF,
     "query: the product of its sizes does not fit in 63 bits"},
    {FWD, SIZE, NATTEN_QUERY, 4, INT64_MAX / 4, OVF, "query: the product of its sizes"},
    {PART, GRID_LENGTH, 0, 0, -1, ARG,
     "grid_length\\[height\\]=-1 not in \\[7, 2147483647\\]"},
    {FWD, DILATION, 0, 0, 15, ARG,
     "dilation\\[height\\]=15 not in \\[1, 4\\] \\(length 14 / kernel_size 3\\)"},
    {FWD, DILATION, 0, 0, 5, ARG,
     "kernel_size\\[height\\]=3 not in \\[1, 2\\] \\(length 14 / dilation 5\\)"},
    /* what kernel_size decides comes after kernel_size */
    {FWD, KERNEL_SIZE, 0, 0, 0, ARG, "kernel_size\\[height\\]=0 not in \\[1, 7\\]"},
    {FWD, KERNEL_SIZE, 0, 1, 4, SHP, "bias\\[width\\]=9 not in \\[7, 7\\]"},
    {QK, KERNEL_SIZE, 0, 1, 99, ARG, "kernel_size\\[width\\]=99 not in \\[1, 9\\]"},
    /* strides and addresses */
    {FWD, STRIDE, NATTEN_QUERY, 1, -1, LAY, "query has a negative stride, -1"},
    {FWD, STRIDE, NATTEN_OUT, 4, -1, LAY, "out has a negative stride, -1"},
    {FWD, STRIDE, NATTEN_OUT, 4, 0, LAY,
     "out is written, but its strides make elements overlap"},
    {FWD, STRIDE, NATTEN_OUT, 3, 4, LAY,
     "out is written, but its strides make elements overlap"},
    {FWD, STRIDE, NATTEN_LSE, 0, 0, LAY,
     "lse is written, but its strides make elements overlap"},
    {FWD, STRIDE, NATTEN_QUERY, 0, INT64_MAX, OVF,
     "query: shape, strides and byte_offset reach past 63 bits"},
    {FWD, STRIDE, NATTEN_QUERY, 0, INT64_MAX / 4, OVF,
     "query: shape, strides and byte_offset"},
    {FWD, BYTE_OFFSET, NATTEN_QUERY, 0, INT64_MAX, OVF,
     "query: shape, strides and byte_offset"},
    {FWD, BYTE_OFFSET, NATTEN_QUERY, 0, -1, OVF,
     "query: shape, strides and byte_offset"},
    {FWD, BYTE_OFFSET, NATTEN_QUERY, 0, 2, LAY,
     "query is at address 0x[0-9a-f]+, not a multiple of its element's 4 bytes"},
    {FWD, BYTE_OFFSET, NATTEN_LSE, 0, 3, LAY,
     "lse is at address 0x[0-9a-f]+, not a multiple"},
    {"fwd fp16 b1 h1 d2 5 w3", BYTE_OFFSET, NATTEN_OUT, 0, 1, LAY,
     "out is at address 0x[0-9a-f]+, not a multiple of its element's 2 bytes"},
    /* overlap */
    {FWD, ON_TOP_OF, NATTEN_OUT, 0, NATTEN_QUERY, LAY, "out overlaps query in memory"},
    {FWD, ON_TOP_OF, NATTEN_LSE, 8, NATTEN_OUT, LAY, "out overlaps lse in memory"},
    {FWD, ON_TOP_OF, NATTEN_LSE, 4, NATTEN_KEY, LAY, "lse overlaps key in memory"},
    {BWD, ON_TOP_OF, NATTEN_GRAD_QUERY, 0, NATTEN_QUERY, LAY,
     "grad_query overlaps query in memory"},
    {BWD, ON_TOP_OF, NATTEN_GRAD_KEY, 0, NATTEN_GRAD_QUERY, LAY,
     "grad_query overlaps grad_key in memory"},
    {AVBWD, ON_TOP_OF, NATTEN_GRAD_ATTN, 0, NATTEN_ATTN, LAY,
     "grad_attn overlaps attn in memory"},
};
/* clang-format on */

enum { MISUSES = sizeof misuses / sizeof misuses[0] };

/* Edits of params; false if `m` is one of a tensor. */
static bool spoil_params(call *c, const misuse *m)
{
    static const double scales[] = {-INFINITY, NAN, INFINITY, 1e39};
    natten_params *p = &c->params;
    switch (m->edit) {
    case RANK:
        p->rank = (int32_t)m->value;
        return true;
    case BACKEND:
        p->backend = (int32_t)m->value;
        return true;
    case FLAGS:
        p->flags = (uint64_t)m->value;
        return true;
    case RESERVED:
        p->reserved[m->at] = m->value;
        return true;
    case STRUCT_SIZE:
        p->struct_size = (uint32_t)m->value;
        return true;
    case SCALE:
        p->has_scale = 1;
        p->scale = scales[m->value + 1];
        return true;
    case KERNEL_SIZE:
        p->kernel_size[m->at] = m->value;
        return true;
    case DILATION:
        p->dilation[m->at] = m->value;
        return true;
    case GRID_LENGTH:
        p->grid_length[m->at] = m->value;
        return true;
    default:
        return false;
    }
}

static void spoil_tensor(call *c, const misuse *m)
{
    natten_tensor *t = &c->tensor[m->role];
    switch (m->edit) {
    case MISSING:
        c->given[m->role] = false;
        break;
    case SHAPE_NULL:
        t->shape = NULL;
        break;
    case DATA_NULL:
        t->data = NULL;
        break;
    case SIZE:
        t->shape[m->at] = m->value;
        break;
    case STRIDE:
        t->strides[m->at] = m->value;
        break;
    case NDIM:
        t->ndim = (int32_t)m->value;
        break;
    case DTYPE_CODE:
        t->dtype_code = (uint8_t)m->value;
        break;
    case DTYPE_BITS:
        t->dtype_bits = (uint8_t)m->value;
        break;
    case DTYPE_LANES:
        t->dtype_lanes = (uint16_t)m->value;
        break;
    case DEVICE_TYPE:
        t->device_type = (int32_t)m->value;
        break;
    case DEVICE_ID:
        t->device_id = (int32_t)m->value;
        break;
    case BYTE_OFFSET:
        t->byte_offset = (uint64_t)m->value;
        break;
    default: /* ON_TOP_OF */
        t->data = (char *)c->tensor[m->value].data + m->at;
        break;
    }
}

START_TEST(an_illegal_argument_is_refused_by_name_and_nothing_is_written)
{
    static const char *const functions[] = {"forward",     "backward", "qk",
                                            "qk_backward", "av",       "av_backward"};
    const misuse *m = &misuses[_i];
    char regex[256];
    call c;
    call_make(&c, m->text);
    /* The whole grid by default, so that sizes are held against query's. */
    if (m->text != (const char *)PART && strstr(m->text, " g") == NULL)
        memset(c.params.grid_length, 0, sizeof c.params.grid_length);
    if (!spoil_params(&c, m))
        spoil_tensor(&c, m);
    snprintf(regex, sizeof regex, "^natten_%s: %s", functions[c.spec.operation],
             m->sentence);
    natten_status status = call_run(&c);
    ck_assert_msg(call_said(regex), "%s\nis not %s", natten_last_error(), regex);
    ck_assert_int_eq(status, m->status);
    ck_assert(call_is_untouched(&c, true));
    call_free(&c);
}
END_TEST

START_TEST(params_that_are_null_are_refused)
{
    ck_assert_int_eq(natten_forward(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                    NULL, NULL, 0, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_str_eq(natten_last_error(), "natten_forward: params is NULL");
}
END_TEST

/* ---- what is legal although it looks odd ---- */

static const char *const operations[] = {FWD, BWD, QK, QKBWD, AV, AVBWD};

START_TEST(every_operation_writes_all_of_its_results_and_nothing_else)
{
    call c;
    call_make(&c, operations[_i]);
    ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
    ck_assert(call_is_untouched(&c, false));
    ck_assert(call_is_written(&c));
    call_free(&c);
}
END_TEST

START_TEST(every_optional_tensor_may_be_left_out)
{
    call c;
    call_make(&c, "bwd fp32 b1 h2 d3 5x4 w3x2");
    for (int role = NATTEN_GRAD_QUERY; role < NATTEN_ROLES; role++)
        c.given[role] = false;
    ck_assert_int_eq(call_run(&c), NATTEN_OK);
    ck_assert(call_is_untouched(&c, true));
    call_free(&c);
    call_make(&c, "fwd fp32 b1 h2 d3 5x4 w3x2");
    c.given[NATTEN_LSE] = false;
    ck_assert_int_eq(call_run(&c), NATTEN_OK);
    call_free(&c);
}
END_TEST

START_TEST(a_batch_of_zero_is_success_without_any_memory)
{
    call c;
    call_make(&c, operations[_i]);
    for (int role = 0; role < NATTEN_ROLES; role++) {
        bool has_batch = role != NATTEN_BIAS && role != NATTEN_GRAD_BIAS;
        if (!c.given[role] || !has_batch)
            continue;
        c.shape[role][0] = 0;
        c.tensor[role].data = NULL;
    }
    ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
    ck_assert(call_is_untouched(&c, true));
    c.params.stride[0] = 0; /* but its other arguments are checked */
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_ARGUMENT);
    call_free(&c);
}
END_TEST

START_TEST(no_extra_tokens_are_as_if_none_were_given)
{
    call with, without;
    call_make(&with, "bwd fp64 b1 h2 d3 5x4 w3x2 m2");
    call_make(&without, "bwd fp64 b1 h2 d3 5x4 w3x2");
    static const natten_role extras[] = {
        NATTEN_ADDITIONAL_KEYS, NATTEN_ADDITIONAL_VALUES, NATTEN_GRAD_ADDITIONAL_KEYS,
        NATTEN_GRAD_ADDITIONAL_VALUES};
    for (int i = 0; i < 4; i++) {
        with.shape[extras[i]][1] = 0;
        with.tensor[extras[i]].data = NULL;
    }
    ck_assert_int_eq(call_run(&with), NATTEN_OK);
    ck_assert_int_eq(call_run(&without), NATTEN_OK);
    for (int role = NATTEN_GRAD_QUERY; role <= NATTEN_GRAD_VALUE; role++)
        ck_assert_mem_eq(with.memory[role], without.memory[role], with.bytes[role]);
    ck_assert(call_is_untouched(&with, false));
    call_free(&with);
    call_free(&without);
}
END_TEST

START_TEST(inputs_may_be_the_same_memory)
{
    call c;
    call_make(&c, "fwd fp32 b1 h2 d3 5x4 w3x2");
    c.tensor[NATTEN_KEY] = c.tensor[NATTEN_VALUE] = c.tensor[NATTEN_QUERY];
    ck_assert_int_eq(call_run(&c), NATTEN_OK);
    call_free(&c);
}
END_TEST

START_TEST(strides_of_sizes_of_one_play_no_part)
{
    call c;
    call_make(&c, "fwd fp32 b1 h1 d1 5x1 w3x1");
    for (int role = 0; role < NATTEN_ROLES; role++)
        for (int n = 0; c.given[role] && n < c.tensor[role].ndim; n++)
            if (c.shape[role][n] == 1)
                c.strides[role][n] = n % 2 ? -7 : INT64_MAX;
    ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
    ck_assert(call_is_written(&c));
    call_free(&c);
}
END_TEST

START_TEST(adjacent_results_do_not_overlap)
{
    call c;
    call_make(&c, "fwd fp32 b1 h2 d3 5x4 w3x2");
    float memory[5 * 4 * 2 * (3 + 1) + 1];
    c.tensor[NATTEN_OUT].data = memory;
    c.tensor[NATTEN_LSE].data = memory + 5 * 4 * 2 * 3;
    ck_assert_int_eq(call_run(&c), NATTEN_OK);
    c.tensor[NATTEN_LSE].data = memory + 5 * 4 * 2 * 3 - 1;
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_LAYOUT);
    ck_assert(call_said("out overlaps lse in memory"));
    call_free(&c);
}
END_TEST

START_TEST(gradients_may_be_slices_of_one_array)
{
    call c;
    enum { TOKENS = 20, HEADS = 2, DIM = 3 };
    static float packed[TOKENS][3][HEADS][DIM];
    call_make(&c, "bwd fp32 b1 h2 d3 5x4 w3x2");
    for (int n = 0; n < 3; n++) {
        int role = NATTEN_GRAD_QUERY + n;
        c.tensor[role].data = packed[0][n];
        c.strides[role][1] = 4 * 3 * HEADS * DIM;
        c.strides[role][2] = 3 * HEADS * DIM;
    }
    ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
    c.tensor[NATTEN_GRAD_KEY].data = &packed[0][1][0][0] - 1;
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_LAYOUT);
    ck_assert(call_said("grad_query overlaps grad_key in memory"));
    call_free(&c);
}
END_TEST

/* Parts with nothing in them, along one axis or all, with and without extra tokens. */
static const char *const empty_parts[] = {
    "fwd fp32 b1 h2 d3 5 w3 g9 q2 n1",
    "fwd fp64 b2 h4:2 d3:5 5x4 w3x2 e2x1 m2 g9x7 q2x0 n1x3",
    "bwd fp32 b1 h2 d3 5 w3 bias g9 q2 n1",
    "bwd fp64 b2 h4:2 d3:5 5x4 w3x2 e2x1 m2 bias g9x7 q2x0 n1x3 dlse",
    "qk fp32 b1 h2 d3 5x4 w3x2 m2 g9x7 n1x3",
    "qkbwd fp32 b1 h2 d3 5x4 w3x2 m2 bias g9x7 n1x3",
    "av fp32 b1 h2 d3 5x4 w3x2 m2 g9x7 n1x3",
    "avbwd fp32 b1 h2 d3 5x4 w3x2 m2 g9x7 n1x3",
};

enum { EMPTY_PARTS = sizeof empty_parts / sizeof empty_parts[0] };

/* Take all tokens along the first axis from the tensors that have this size. */
static void empty(call *c, natten_symbol symbol)
{
    for (int role = 0; role < NATTEN_ROLES; role++)
        if (c->given[role] &&
            natten_roles_info((natten_role)role)->symbol[1] == symbol) {
            c->shape[role][1] = 0;
            c->tensor[role].data = NULL;
        }
}

/* The data lie within 2 of 0 and sums have at most 8 terms of at most 5 products each,
 * so section 12 allows each backend less than 500 roundoffs. */
enum { ALLOWED_ROUNDOFFS = 2 * 500 };

START_TEST(a_part_without_keys_or_queries_gives_the_same_from_every_backend)
{
    natten_symbol symbol = _i % 2 ? NATTEN_SIZE_KEYS : NATTEN_SIZE_QUERIES;
    call fast, plain;
    call_make(&fast, empty_parts[_i / 2]);
    call_make(&plain, empty_parts[_i / 2]);
    empty(&fast, symbol);
    empty(&plain, symbol);
    fast.params.backend = NATTEN_BACKEND_AUTO;
    ck_assert_msg(call_run(&fast) == NATTEN_OK, "%s", natten_last_error());
    ck_assert_msg(call_run(&plain) == NATTEN_OK, "%s", natten_last_error());
    for (int role = 0; role < NATTEN_ROLES; role++) {
        if (!fast.given[role] || !call_writes(&fast, (natten_role)role) ||
            !fast.tensor[role].data)
            continue;
        natten_dtype dtype = natten_problem_spec_dtype(&fast.spec, (natten_role)role);
        double roundoff = dtype == NATTEN_FP64 ? 0x1p-53 : 0x1p-24;
        size_t bytes = fast.bytes[role] - 2 * CALL_MARGIN;
        int64_t count = (int64_t)(bytes / natten_dtype_bytes(dtype));
        double largest = 1;
        for (int64_t i = 0; i < count; i++) {
            double y = fabs(natten_dtype_load(dtype, plain.tensor[role].data, i));
            largest = isfinite(y) && y > largest ? y : largest;
        }
        for (int64_t i = 0; i < count; i++) {
            double x = natten_dtype_load(dtype, fast.tensor[role].data, i);
            double y = natten_dtype_load(dtype, plain.tensor[role].data, i);
            ck_assert(x == y || fabs(x - y) < ALLOWED_ROUNDOFFS * roundoff * largest);
        }
    }
    ck_assert(call_is_untouched(&fast, false) && call_is_untouched(&plain, false));
    call_free(&fast);
    call_free(&plain);
}
END_TEST

START_TEST(a_row_without_keys_gives_zero_and_minus_infinity)
{
    call c;
    call_make(&c, "fwd fp32 b1 h2 d3 5 w3 g9 q2 n1");
    empty(&c, NATTEN_SIZE_KEYS);
    c.params.backend = _i; /* auto, reference */
    ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
    for (int i = 0; i < 5 * 2 * 3; i++)
        ck_assert(((float *)c.tensor[NATTEN_OUT].data)[i] == 0);
    for (int i = 0; i < 5 * 2; i++)
        ck_assert(((float *)c.tensor[NATTEN_LSE].data)[i] == -INFINITY);
    call_free(&c);
}
END_TEST

START_TEST(keys_without_queries_have_gradients_of_zero)
{
    call c;
    call_make(&c, "bwd fp32 b1 h2 d3 1 w3 bias g9 q2 n5");
    empty(&c, NATTEN_SIZE_QUERIES);
    c.params.backend = _i; /* auto, reference */
    ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
    for (int i = 0; i < 5 * 2 * 3; i++)
        ck_assert(((float *)c.tensor[NATTEN_GRAD_KEY].data)[i] == 0 &&
                  ((float *)c.tensor[NATTEN_GRAD_VALUE].data)[i] == 0);
    for (int i = 0; i < 2 * 5; i++)
        ck_assert(((float *)c.tensor[NATTEN_GRAD_BIAS].data)[i] == 0);
    call_free(&c);
}
END_TEST

/* ---- struct_size ---- */

START_TEST(a_longer_struct_is_legal_while_its_tail_is_zero)
{
    struct {
        natten_params params;
        char tail[100];
    } longer;
    call c;
    call_make(&c, "fwd fp32 b1 h2 d3 5x4 w3x2");
    memset(&longer, 0, sizeof longer);
    longer.params = c.params;
    longer.params.struct_size = sizeof longer;
    natten_tensor *t = c.tensor;
    for (int tail = 0; tail < 2; tail++) {
        longer.tail[90] = (char)tail;
        natten_status status = natten_forward(
            &longer.params, &t[NATTEN_QUERY], &t[NATTEN_KEY], &t[NATTEN_VALUE], NULL,
            NULL, NULL, &t[NATTEN_OUT], NULL, NULL, 0, NULL);
        ck_assert_int_eq(status, tail ? NATTEN_ERR_ABI : NATTEN_OK);
    }
    ck_assert(call_said("^natten_forward: struct_size=[0-9]+, but byte 354 is not 0"));
    call_free(&c);
}
END_TEST

START_TEST(defaults_fill_a_struct_of_any_known_size)
{
    union {
        natten_params params;
        unsigned char bytes[512];
    } u;
    for (size_t size = sizeof(natten_params); size <= 300; size++) {
        memset(&u, 0xee, sizeof u);
        ck_assert_int_eq(natten_params_init(&u.params, size, 3), NATTEN_OK);
        ck_assert_uint_eq(u.params.struct_size, size);
        ck_assert_int_eq(u.params.dilation[2], 1);
        ck_assert_int_eq(u.params.stride[0], 1);
        ck_assert_int_eq(u.params.kernel_size[0], 0);
        for (size_t at = sizeof(natten_params); at < sizeof u; at++)
            ck_assert_int_eq(u.bytes[at], at < size ? 0 : 0xee);
    }
    ck_assert_int_eq(natten_params_init(&u.params, sizeof(natten_params) - 1, 1),
                     NATTEN_ERR_ABI);
    ck_assert_int_eq(natten_params_init(&u.params, SIZE_MAX, 1), NATTEN_ERR_ABI);
    ck_assert_int_eq(natten_params_init(&u.params, sizeof(natten_params), 0),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_params_init(&u.params, sizeof(natten_params), 4),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_params_init(NULL, sizeof(natten_params), 1),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_str_eq(natten_last_error(), "natten_params_init: params is NULL");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("problem");
    TCase *tests = tcase_create("problem");
    int limit_rows = sizeof per_axis / sizeof per_axis[0];
    tcase_add_loop_test(tests, a_value_at_either_end_of_its_range_is_legal, 0,
                        limit_rows);
    tcase_add_loop_test(tests, a_value_outside_its_range_is_refused_by_name, 0,
                        limit_rows);
    tcase_add_loop_test(tests,
                        an_illegal_argument_is_refused_by_name_and_nothing_is_written,
                        0, MISUSES);
    tcase_add_test(tests, params_that_are_null_are_refused);
    tcase_add_loop_test(
        tests, every_operation_writes_all_of_its_results_and_nothing_else, 0, 6);
    tcase_add_test(tests, every_optional_tensor_may_be_left_out);
    tcase_add_loop_test(tests, a_batch_of_zero_is_success_without_any_memory, 0, 6);
    tcase_add_test(tests, no_extra_tokens_are_as_if_none_were_given);
    tcase_add_test(tests, inputs_may_be_the_same_memory);
    tcase_add_test(tests, strides_of_sizes_of_one_play_no_part);
    tcase_add_test(tests, adjacent_results_do_not_overlap);
    tcase_add_test(tests, gradients_may_be_slices_of_one_array);
    tcase_add_loop_test(
        tests, a_part_without_keys_or_queries_gives_the_same_from_every_backend, 0,
        2 * EMPTY_PARTS);
    tcase_add_loop_test(tests, a_row_without_keys_gives_zero_and_minus_infinity, 0, 2);
    tcase_add_loop_test(tests, keys_without_queries_have_gradients_of_zero, 0, 2);
    tcase_add_test(tests, a_longer_struct_is_legal_while_its_tail_is_zero);
    tcase_add_test(tests, defaults_fill_a_struct_of_any_known_size);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
