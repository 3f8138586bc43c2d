/* SPDX-License-Identifier: MIT
 *
 * The operations of natten.h as R calls them: see glue.h.  Each one reads its
 * arguments, makes its results and calls the library; what is allowed is decided there.
 */
#include "glue.h"

#include <string.h>

#include "call.h"

/* ---- neighborhood attention --------------------------------------------------- */

static int64_t last_size(const natten_tensor *t)
{
    return t ? t->shape[t->ndim - 1] : 1;
}

/* The params of a call: those of its arguments, or of plain attention, which is one
 * window over an axis. */
static void read_call(call *c, const natten_tensor *query, const natten_tensor *key,
                      int plain)
{
    read_params(c, plain ? NULL : query);
    if (plain && query && query->ndim == 4 && key && key->ndim == 4)
        c->params.kernel_size[0] = c->params.grid_length[0] =
            natten_attention_length(query->shape[1], key->shape[1]);
}

static SEXP forward(SEXP frame, int plain)
{
    static const char *const names[] = {"out", "lse", NULL};
    call c;
    PROTECT(open_call(&c, "natten_forward", frame, names));
    natten_tensor *query = input(&c, "query"), *key = input(&c, "key");
    natten_tensor *value = input(&c, "value"), *bias = input(&c, "bias");
    natten_tensor *keys = input(&c, "additional_keys");
    natten_tensor *values = input(&c, "additional_values");
    read_call(&c, query, key, plain);
    natten_tensor *out = output_last(&c, 0, query, last_size(value)), *lse = NULL;
    if (query && is_true(&c, "return_lse"))
        lse = output(&c, 1, query->ndim - 1, query->shape);
    int32_t gpu;
    int there = on_gpu(&c, &gpu);
    start(&c);
    natten_status status = there
                               ? natten_forward_host(&c.params, query, key, value, bias,
                                                     keys, values, out, lse, gpu)
                               : natten_forward(&c.params, query, key, value, bias,
                                                keys, values, out, lse, NULL, 0, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(1);
    return results;
}

SEXP natten_r_forward(SEXP frame)
{
    return forward(frame, 0);
}

SEXP natten_r_attention(SEXP frame)
{
    return forward(frame, 1);
}

static SEXP backward(SEXP frame, int plain)
{
    static const char *const names[] = {"grad_query",
                                        "grad_key",
                                        "grad_value",
                                        "grad_bias",
                                        "grad_additional_keys",
                                        "grad_additional_values",
                                        NULL};
    call c;
    PROTECT(open_call(&c, "natten_backward", frame, names));
    natten_tensor *query = input(&c, "query"), *key = input(&c, "key");
    natten_tensor *value = input(&c, "value"), *bias = input(&c, "bias");
    natten_tensor *keys = input(&c, "additional_keys");
    natten_tensor *values = input(&c, "additional_values");
    natten_tensor *out = input(&c, "out"), *lse = input(&c, "lse");
    natten_tensor *grad_out = input(&c, "grad_out"), *grad_lse = input(&c, "grad_lse");
    read_call(&c, query, key, plain);
    int needed = query && value && !out && !lse;
    natten_tensor made_out, made_lse;
    SEXP scratch = PROTECT(Rf_allocVector(VECSXP, 2));
    if (needed) {
        int64_t *shape = (int64_t *)R_alloc((size_t)query->ndim, sizeof *shape);
        memcpy(shape, query->shape, (size_t)query->ndim * sizeof *shape);
        SET_VECTOR_ELT(scratch, 1, new_array(&c, &made_lse, query->ndim - 1, shape));
        shape[query->ndim - 1] = last_size(value);
        SET_VECTOR_ELT(scratch, 0, new_array(&c, &made_out, query->ndim, shape));
    }
    natten_tensor *grad_query = output_like(&c, 0, query);
    natten_tensor *grad_key = output_like(&c, 1, key);
    natten_tensor *grad_value = output_like(&c, 2, value);
    natten_tensor *grad_bias = output_zeros(&c, 3, bias);
    natten_tensor *grad_keys = output_like(&c, 4, keys);
    natten_tensor *grad_values = output_like(&c, 5, values);
    int32_t gpu;
    int there = on_gpu(&c, &gpu);
    start(&c);
    natten_status status = NATTEN_OK;
    if (needed) {
        status = there ? natten_forward_host(&c.params, query, key, value, bias, keys,
                                             values, &made_out, &made_lse, gpu)
                       : natten_forward(&c.params, query, key, value, bias, keys,
                                        values, &made_out, &made_lse, NULL, 0, NULL);
        out = &made_out;
        lse = &made_lse;
    }
    if (status == NATTEN_OK && there)
        status =
            natten_backward_host(&c.params, query, key, value, bias, keys, values, out,
                                 lse, grad_out, grad_lse, grad_query, grad_key,
                                 grad_value, grad_bias, grad_keys, grad_values, gpu);
    else if (status == NATTEN_OK)
        status =
            natten_backward(&c.params, query, key, value, bias, keys, values, out, lse,
                            grad_out, grad_lse, grad_query, grad_key, grad_value,
                            grad_bias, grad_keys, grad_values, NULL, 0, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(2);
    return results;
}

SEXP natten_r_backward(SEXP frame)
{
    return backward(frame, 0);
}

SEXP natten_r_attention_backward(SEXP frame)
{
    return backward(frame, 1);
}

/* ---- the unfused pair --------------------------------------------------------- */

/* Refuse what the library refuses of qk's inputs, before kernel_size shapes a result;
 * in the name of the operation. */
static void check_inputs(const call *c, const natten_tensor *query,
                         const natten_tensor *key, const natten_tensor *keys)
{
    natten_status status =
        natten_supported(&c->params, NATTEN_QK, query, key, NULL, keys);
    const char *colon = strchr(natten_last_error(), ':');
    if (status != NATTEN_OK && colon)
        refuse(c, status, "%s", colon + 2);
    check(status);
}

SEXP natten_r_qk(SEXP frame)
{
    static const char *const names[] = {"attn", NULL};
    call c;
    PROTECT(open_call(&c, "natten_qk", frame, names));
    natten_tensor *query = input(&c, "query"), *key = input(&c, "key");
    natten_tensor *bias = input(&c, "bias"), *keys = input(&c, "additional_keys");
    read_params(&c, query);
    check_inputs(&c, query, key, keys);
    int64_t slots = 0;
    check(natten_attn_slots(&c.params, keys, &slots));
    natten_tensor *attn = output_last(&c, 0, query, slots);
    start(&c);
    natten_status status =
        natten_qk(&c.params, query, key, bias, keys, attn, NULL, 0, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(1);
    return results;
}

SEXP natten_r_qk_backward(SEXP frame)
{
    static const char *const names[] = {"grad_query", "grad_key", "grad_bias",
                                        "grad_additional_keys", NULL};
    call c;
    PROTECT(open_call(&c, "natten_qk_backward", frame, names));
    natten_tensor *query = input(&c, "query"), *key = input(&c, "key");
    natten_tensor *keys = input(&c, "additional_keys"), *bias = input(&c, "bias");
    natten_tensor *grad_attn = input(&c, "grad_attn");
    read_params(&c, query);
    natten_tensor *grad_query = output_like(&c, 0, query);
    natten_tensor *grad_key = output_like(&c, 1, key);
    natten_tensor *grad_bias = output_zeros(&c, 2, bias);
    natten_tensor *grad_keys = output_like(&c, 3, keys);
    start(&c);
    natten_status status =
        natten_qk_backward(&c.params, query, key, keys, grad_attn, grad_query, grad_key,
                           grad_bias, grad_keys, NULL, 0, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(1);
    return results;
}

SEXP natten_r_av(SEXP frame)
{
    static const char *const names[] = {"out", NULL};
    call c;
    PROTECT(open_call(&c, "natten_av", frame, names));
    natten_tensor *attn = input(&c, "attn"), *value = input(&c, "value");
    natten_tensor *values = input(&c, "additional_values");
    read_params(&c, attn);
    natten_tensor *out = output_last(&c, 0, attn, last_size(value));
    start(&c);
    natten_status status =
        natten_av(&c.params, attn, value, values, out, NULL, 0, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(1);
    return results;
}

SEXP natten_r_av_backward(SEXP frame)
{
    static const char *const names[] = {"grad_attn", "grad_value",
                                        "grad_additional_values", NULL};
    call c;
    PROTECT(open_call(&c, "natten_av_backward", frame, names));
    natten_tensor *attn = input(&c, "attn"), *value = input(&c, "value");
    natten_tensor *values = input(&c, "additional_values");
    natten_tensor *grad_out = input(&c, "grad_out");
    read_params(&c, attn);
    natten_tensor *grad_attn = output_like(&c, 0, attn);
    natten_tensor *grad_value = output_like(&c, 1, value);
    natten_tensor *grad_values = output_like(&c, 2, values);
    start(&c);
    natten_status status =
        natten_av_backward(&c.params, attn, value, values, grad_out, grad_attn,
                           grad_value, grad_values, NULL, 0, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(1);
    return results;
}

/* ---- merging ------------------------------------------------------------------ */

/* The elements of a list argument as an array of tensors. */
static natten_tensor *input_list(const call *c, const char *name, R_xlen_t *count)
{
    SEXP list = argument(c, name);
    if (TYPEOF(list) != VECSXP)
        refuse(c, NATTEN_ERR_ARGUMENT, "%s must be a list of arrays", name);
    *count = Rf_xlength(list);
    natten_tensor *tensors =
        (natten_tensor *)R_alloc((size_t)*count + 1, sizeof *tensors);
    for (R_xlen_t i = 0; i < *count; i++) {
        natten_tensor *t = input_value(c, name, VECTOR_ELT(list, i));
        if (!t)
            refuse(c, NATTEN_ERR_ARGUMENT, "%s[[%lld]] is NULL", name,
                   (long long)i + 1);
        tensors[i] = *t;
    }
    return tensors;
}

static void read_partials(const call *c, R_xlen_t *count, natten_tensor **outputs,
                          natten_tensor **lses)
{
    R_xlen_t lse_count;
    *outputs = input_list(c, "outputs", count);
    *lses = input_list(c, "lses", &lse_count);
    if (lse_count != *count)
        refuse(c, NATTEN_ERR_SHAPE, "outputs has %lld partials, lses has %lld",
               (long long)*count, (long long)lse_count);
}

SEXP natten_r_merge(SEXP frame)
{
    static const char *const names[] = {"out", "lse", NULL};
    call c;
    R_xlen_t count;
    natten_tensor *outputs, *lses;
    PROTECT(open_call(&c, "natten_merge", frame, names));
    read_partials(&c, &count, &outputs, &lses);
    natten_tensor *out = output_like(&c, 0, count ? outputs : NULL);
    natten_tensor *lse = output_like(&c, 1, count ? lses : NULL);
    start(&c);
    natten_status status = natten_merge(count, outputs, lses, out, lse, NULL);
    SEXP results = finish(&c, status);
    UNPROTECT(1);
    return results;
}

/* A list of new arrays shaped like some tensors, as result i; and their tensors. */
static natten_tensor *output_list(call *c, int i, R_xlen_t count,
                                  const natten_tensor *like)
{
    natten_tensor *tensors =
        (natten_tensor *)R_alloc((size_t)count + 1, sizeof *tensors);
    SET_VECTOR_ELT(c->results, i, Rf_allocVector(VECSXP, count));
    for (R_xlen_t n = 0; n < count; n++) {
        SEXP x = new_array(c, &tensors[n], like[n].ndim, like[n].shape);
        SET_VECTOR_ELT(VECTOR_ELT(c->results, i), n, x);
    }
    return tensors;
}

SEXP natten_r_merge_backward(SEXP frame)
{
    static const char *const names[] = {"grad_outputs", "grad_lses", NULL};
    call c;
    R_xlen_t count;
    natten_tensor *outputs, *lses, made_out, made_lse;
    PROTECT(open_call(&c, "natten_merge_backward", frame, names));
    SEXP scratch = PROTECT(Rf_allocVector(VECSXP, 2));
    read_partials(&c, &count, &outputs, &lses);
    natten_tensor *out = input(&c, "out"), *lse = input(&c, "lse");
    natten_tensor *grad_out = input(&c, "grad_out"), *grad_lse = input(&c, "grad_lse");
    natten_tensor *grad_outputs = output_list(&c, 0, count, outputs);
    natten_tensor *grad_lses = output_list(&c, 1, count, lses);
    int needed = count && !out && !lse;
    if (needed) {
        SEXP x = new_array(&c, &made_out, outputs->ndim, outputs->shape);
        SET_VECTOR_ELT(scratch, 0, x);
        x = new_array(&c, &made_lse, lses->ndim, lses->shape);
        SET_VECTOR_ELT(scratch, 1, x);
    }
    start(&c);
    natten_status status = NATTEN_OK;
    if (needed) {
        status = natten_merge(count, outputs, lses, &made_out, &made_lse, NULL);
        out = &made_out;
        lse = &made_lse;
    }
    if (status == NATTEN_OK)
        status = natten_merge_backward(count, outputs, lses, out, lse, grad_out,
                                       grad_lse, grad_outputs, grad_lses, NULL);
    SEXP results = PROTECT(finish(&c, status));
    for (R_xlen_t n = 0; n < count; n++) {
        widen(&c, &grad_outputs[n], VECTOR_ELT(VECTOR_ELT(results, 0), n));
        widen(&c, &grad_lses[n], VECTOR_ELT(VECTOR_ELT(results, 1), n));
    }
    UNPROTECT(3);
    return results;
}

/* ---- questions and the process ------------------------------------------------ */

SEXP natten_r_plan(SEXP frame)
{
    static const char *const names[] = {NULL};
    enum { TEXT_BYTES = 1 << 14 }; /* a plan is a few lines */
    call c;
    PROTECT(open_call(&c, "natten_plan_text", frame, names));
    int32_t operation = constant(&c, "operation", "natten_operation");
    natten_tensor *query = input(&c, "query"), *key = input(&c, "key");
    natten_tensor *value = input(&c, "value"), *keys = input(&c, "additional_keys");
    char *text = R_alloc(TEXT_BYTES, 1);
    read_params(&c, query);
    check(natten_plan_text(&c.params, operation, query, key, value, keys, text,
                           TEXT_BYTES));
    UNPROTECT(1);
    return Rf_mkString(text);
}

SEXP natten_r_set_num_threads(SEXP threads)
{
    const call c = {.function = "natten_set_num_threads"};
    if (Rf_xlength(threads) != 1)
        refuse(&c, NATTEN_ERR_ARGUMENT, "threads must be one number");
    int64_t count = whole_number(&c, "threads", threads, 0);
    if (count != (int32_t)count)
        refuse(&c, NATTEN_ERR_ARGUMENT, "threads=%lld is out of range",
               (long long)count);
    check(natten_set_num_threads((int32_t)count));
    return R_NilValue;
}

SEXP natten_r_get_num_threads(void)
{
    return Rf_ScalarInteger(natten_get_num_threads());
}

SEXP natten_r_set_cpu_variant(SEXP name)
{
    const call c = {.function = "natten_set_cpu_variant"};
    if (name != R_NilValue && (!Rf_isString(name) || Rf_xlength(name) != 1))
        refuse(&c, NATTEN_ERR_ARGUMENT, "name must be one string, or NULL");
    check(
        natten_set_cpu_variant(name == R_NilValue ? NULL : CHAR(STRING_ELT(name, 0))));
    return R_NilValue;
}

SEXP natten_r_cpu_variants(void)
{
    return Rf_mkString(natten_cpu_variants());
}

SEXP natten_r_version(void)
{
    return Rf_mkString(natten_version());
}

SEXP natten_r_build_info(void)
{
    return Rf_mkString(natten_build_info());
}

SEXP natten_r_abi_matches(void)
{
    return Rf_ScalarLogical(natten_abi_version() == NATTEN_ABI_VERSION);
}
