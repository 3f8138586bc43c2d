/* SPDX-License-Identifier: MIT
 *
 * From a problem to tensors: which roles an operation has, what shapes they have, what
 * stands in them. */
#include "gradcheck_data.h"

#include <inttypes.h>
#include <string.h>

static natten_tensor *tensor(check *c, role which)
{
    return c->array[which].tensor.data ? &c->array[which].tensor : NULL;
}

/* Shape of a role's tensor; a gradient has that of what it belongs to. */
static int get_shape(const problem *p, role which, int64_t shape[NPY_MAX_NDIM])
{
    int rank = p->params.rank, ndim = 0;
    int64_t slots = 1;
    /* Where that is too much for 64 bits the window is illegal, and the library says
     * so. */
    for (int a = 0; a < rank; a++)
        if (__builtin_mul_overflow(slots, p->params.kernel_size[a], &slots))
            slots = 1;
    bool is_key = which == ROLE_KEY || which == ROLE_VALUE;
    if (which == ROLE_BIAS) {
        shape[ndim++] = p->heads;
        for (int a = 0; a < rank; a++)
            shape[ndim++] = 2 * p->params.kernel_size[a] - 1;
        return ndim;
    }
    shape[ndim++] = p->batch;
    if (which == ROLE_ADDITIONAL_KEYS || which == ROLE_ADDITIONAL_VALUES) {
        shape[ndim++] = p->extras;
        is_key = true;
    } else {
        for (int a = 0; a < rank; a++)
            shape[ndim++] = is_key ? p->length_key[a] : p->length[a];
    }
    shape[ndim++] = is_key ? p->heads_kv : p->heads;
    if (which == ROLE_LSE)
        return ndim;
    bool is_value =
        which == ROLE_VALUE || which == ROLE_ADDITIONAL_VALUES || which == ROLE_OUT;
    shape[ndim++] = which == ROLE_ATTN ? slots + p->extras
                    : is_value         ? p->head_dim_v
                                       : p->head_dim;
    return ndim;
}

/* The generator of docs/problem-text.md; `number` is its number of the role. */
static void fill(npy_array *array, int64_t seed, int64_t number)
{
    double *to = array->tensor.data;
    int64_t x = (seed * 1000003 + number * 7919 + 1) % 2147483647;
    x = x ? x : 1;
    for (int64_t i = 0; i < array->count; i++) {
        x = 48271 * x % 2147483647;
        to[i] = (double)(x / 8388608 - 128) / 64;
    }
}

/* What a role is like (for its shape) and which generator it has; -1: it is computed.
 */
static const struct {
    role like;
    int number;
} data[ROLES] = {
    [ROLE_QUERY] = {ROLE_QUERY, 0},
    [ROLE_KEY] = {ROLE_KEY, 1},
    [ROLE_VALUE] = {ROLE_VALUE, 2},
    [ROLE_BIAS] = {ROLE_BIAS, 3},
    [ROLE_ADDITIONAL_KEYS] = {ROLE_ADDITIONAL_KEYS, 4},
    [ROLE_ADDITIONAL_VALUES] = {ROLE_ADDITIONAL_VALUES, 5},
    [ROLE_ATTN] = {ROLE_ATTN, 6},
    [ROLE_OUT] = {ROLE_OUT, -1},
    [ROLE_LSE] = {ROLE_LSE, -1},
    [ROLE_GRAD_OUT] = {ROLE_OUT, 10},
    [ROLE_GRAD_LSE] = {ROLE_LSE, 11},
    [ROLE_GRAD_ATTN] = {ROLE_ATTN, 9},
    [ROLE_GRAD_QUERY] = {ROLE_QUERY, -1},
    [ROLE_GRAD_KEY] = {ROLE_KEY, -1},
    [ROLE_GRAD_VALUE] = {ROLE_VALUE, -1},
    [ROLE_GRAD_BIAS] = {ROLE_BIAS, -1},
    [ROLE_GRAD_ADDITIONAL_KEYS] = {ROLE_ADDITIONAL_KEYS, -1},
    [ROLE_GRAD_ADDITIONAL_VALUES] = {ROLE_ADDITIONAL_VALUES, -1},
};

static int add(check *c, role which)
{
    int64_t shape[NPY_MAX_NDIM];
    int ndim = get_shape(&c->asked, data[which].like, shape);
    int status =
        npy_allocate(&c->array[which], ELEMENT_FP64, ndim, shape, role_name(which));
    if (!status && data[which].number >= 0)
        fill(&c->array[which], c->asked.seed, data[which].number);
    return status;
}

static int add_input(check *c, role input, role gradient)
{
    c->inputs[c->pairs] = input;
    c->gradients[c->pairs++] = gradient;
    int status = add(c, input);
    return status ? status : add(c, gradient);
}

static bool is_fused(const check *c)
{
    return c->asked.operation == NATTEN_FORWARD ||
           c->asked.operation == NATTEN_BACKWARD;
}

static bool is_qk(const check *c)
{
    return c->asked.operation == NATTEN_QK || c->asked.operation == NATTEN_QK_BACKWARD;
}

int check_create(check *c, const problem *asked)
{
    memset(c, 0, sizeof *c);
    c->asked = *asked;
    bool keys = is_fused(c) || is_qk(c), values = !is_qk(c);
    c->results[0] = is_qk(c) ? ROLE_ATTN : ROLE_OUT;
    c->weights[0] = is_qk(c) ? ROLE_GRAD_ATTN : ROLE_GRAD_OUT;
    c->results[1] = ROLE_LSE;
    c->weights[1] = ROLE_GRAD_LSE;
    int status = add(c, c->results[0]);
    if (!status)
        status = add(c, c->weights[0]);
    if (!status && is_fused(c))
        status = add(c, ROLE_LSE);
    if (!status && is_fused(c) && asked->grad_lse)
        status = add(c, ROLE_GRAD_LSE);
    if (!status && !keys)
        status = add_input(c, ROLE_ATTN, ROLE_GRAD_ATTN);
    if (!status && keys)
        status = add_input(c, ROLE_QUERY, ROLE_GRAD_QUERY);
    if (!status && keys)
        status = add_input(c, ROLE_KEY, ROLE_GRAD_KEY);
    if (!status && values)
        status = add_input(c, ROLE_VALUE, ROLE_GRAD_VALUE);
    if (!status && keys && asked->bias)
        status = add_input(c, ROLE_BIAS, ROLE_GRAD_BIAS);
    if (!status && keys && asked->extras)
        status = add_input(c, ROLE_ADDITIONAL_KEYS, ROLE_GRAD_ADDITIONAL_KEYS);
    if (!status && values && asked->extras)
        status = add_input(c, ROLE_ADDITIONAL_VALUES, ROLE_GRAD_ADDITIONAL_VALUES);
    return status;
}

void check_destroy(check *c)
{
    for (role which = 0; which < ROLES; which++)
        npy_free(&c->array[which]);
}

natten_status check_forward(check *c)
{
    const natten_params *params = &c->asked.params;
    natten_tensor *query = tensor(c, ROLE_QUERY), *key = tensor(c, ROLE_KEY);
    natten_tensor *value = tensor(c, ROLE_VALUE), *bias = tensor(c, ROLE_BIAS);
    natten_tensor *extra_keys = tensor(c, ROLE_ADDITIONAL_KEYS);
    natten_tensor *extra_values = tensor(c, ROLE_ADDITIONAL_VALUES);
    if (is_fused(c))
        return natten_forward(params, query, key, value, bias, extra_keys, extra_values,
                              tensor(c, ROLE_OUT), tensor(c, ROLE_LSE), NULL, 0, NULL);
    if (is_qk(c))
        return natten_qk(params, query, key, bias, extra_keys, tensor(c, ROLE_ATTN),
                         NULL, 0, NULL);
    return natten_av(params, tensor(c, ROLE_ATTN), value, extra_values,
                     tensor(c, ROLE_OUT), NULL, 0, NULL);
}

natten_status check_backward(check *c)
{
    const natten_params *params = &c->asked.params;
    natten_tensor *query = tensor(c, ROLE_QUERY), *key = tensor(c, ROLE_KEY);
    natten_tensor *value = tensor(c, ROLE_VALUE), *bias = tensor(c, ROLE_BIAS);
    natten_tensor *extra_keys = tensor(c, ROLE_ADDITIONAL_KEYS);
    natten_tensor *extra_values = tensor(c, ROLE_ADDITIONAL_VALUES);
    natten_tensor *grad_query = tensor(c, ROLE_GRAD_QUERY);
    natten_tensor *grad_key = tensor(c, ROLE_GRAD_KEY);
    natten_tensor *grad_value = tensor(c, ROLE_GRAD_VALUE);
    natten_tensor *grad_bias = tensor(c, ROLE_GRAD_BIAS);
    natten_tensor *grad_extra_keys = tensor(c, ROLE_GRAD_ADDITIONAL_KEYS);
    natten_tensor *grad_extra_values = tensor(c, ROLE_GRAD_ADDITIONAL_VALUES);
    if (is_fused(c))
        return natten_backward(params, query, key, value, bias, extra_keys,
                               extra_values, tensor(c, ROLE_OUT), tensor(c, ROLE_LSE),
                               tensor(c, ROLE_GRAD_OUT), tensor(c, ROLE_GRAD_LSE),
                               grad_query, grad_key, grad_value, grad_bias,
                               grad_extra_keys, grad_extra_values, NULL, 0, NULL);
    if (is_qk(c))
        return natten_qk_backward(params, query, key, extra_keys,
                                  tensor(c, ROLE_GRAD_ATTN), grad_query, grad_key,
                                  grad_bias, grad_extra_keys, NULL, 0, NULL);
    return natten_av_backward(params, tensor(c, ROLE_ATTN), value, extra_values,
                              tensor(c, ROLE_GRAD_OUT), tensor(c, ROLE_GRAD_ATTN),
                              grad_value, grad_extra_values, NULL, 0, NULL);
}

static int below(uint32_t *state, int most)
{
    *state = *state * 1664525U + 1013904223U;
    return (int)((uint64_t)(*state >> 8) * (uint64_t)most >> 24);
}

/* " s2x1": a value per axis, each made by the caller. */
static int print_axes(char *text, size_t size, const char *prefix, int rank,
                      const int *values)
{
    int length = snprintf(text, size, " %s", prefix);
    for (int a = 0; a < rank; a++)
        length +=
            snprintf(text + length, size - (size_t)length, a ? "x%d" : "%d", values[a]);
    return length;
}

void check_random_text(char *text, size_t size, uint32_t seed)
{
    static const char *const operations[] = {"bwd", "bwd", "qkbwd", "avbwd"};
    int length[3], window[3], stride[3], dilation[3];
    seed = seed * 2654435761U + 1;
    below(&seed, 2);
    int rank = 1 + below(&seed, 3);
    for (int a = 0; a < rank; a++) {
        length[a] = (rank == 1 ? 9 : 3) + below(&seed, rank == 1 ? 8 : 4);
        dilation[a] = 1 + below(&seed, 2);
        window[a] = 1 + below(&seed, length[a] / dilation[a]);
        stride[a] = 1 + below(&seed, window[a]);
    }
    /* One number per statement: the order of a call's arguments is the compiler's. */
    int operation = below(&seed, 4), batch = 1 + below(&seed, 2);
    int heads_kv = 1 + below(&seed, 2), heads = heads_kv * (1 + below(&seed, 2));
    int head_dim = 1 + below(&seed, 5), head_dim_v = 1 + below(&seed, 5);
    int at = snprintf(text, size, "%s fp64 b%d h%d:%d d%d:%d", operations[operation],
                      batch, heads, heads_kv, head_dim, head_dim_v);
    at += print_axes(text + at, size - (size_t)at, "", rank, length);
    at += print_axes(text + at, size - (size_t)at, "w", rank, window);
    at += print_axes(text + at, size - (size_t)at, "s", rank, stride);
    at += print_axes(text + at, size - (size_t)at, "e", rank, dilation);
    at += snprintf(text + at, size - (size_t)at, " causal");
    for (int a = 0; a < rank; a++)
        at += snprintf(text + at, size - (size_t)at, "%d", below(&seed, 2));
    int extras = below(&seed, 4), bias = below(&seed, 2), grad_lse = below(&seed, 2);
    if (extras)
        at += snprintf(text + at, size - (size_t)at, " m%d", extras);
    if (bias && operation < 3)
        at += snprintf(text + at, size - (size_t)at, " bias");
    if (grad_lse && operation < 2)
        at += snprintf(text + at, size - (size_t)at, " dlse");
    snprintf(text + at, size - (size_t)at, " seed%d", 1 + below(&seed, 2000));
}
