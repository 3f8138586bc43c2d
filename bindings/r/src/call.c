/* SPDX-License-Identifier: MIT
 *
 * R values in, R values out: see call.h.
 */
#include "call.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <R.h>
#include <Rversion.h>

/* Largest count of elements of an R array, and largest whole number that every smaller
 * one is exact next to. */
#define MAX_ELEMENTS     4503599627370496.0 /* 2^52 */
#define MAX_WHOLE_NUMBER 9007199254740992.0 /* 2^53 */

/* ---- failing ------------------------------------------------------------------ */

/* Call a function of the package's R code, in R/conditions.R. */
static SEXP call_r(SEXP expression)
{
    PROTECT(expression);
    SEXP name = PROTECT(Rf_mkString("natten"));
    SEXP result = Rf_eval(expression, PROTECT(R_FindNamespace(name)));
    UNPROTECT(3);
    return result;
}

_Noreturn void fail(natten_status status, const char *sentence)
{
    SEXP code = PROTECT(Rf_ScalarInteger(status));
    SEXP text = PROTECT(Rf_mkString(sentence));
    call_r(Rf_lang3(Rf_install("signal_failure"), code, text));
    Rf_error("%s", sentence); /* not reached: signal_failure() does not return */
}

_Noreturn void refuse(const call *c, natten_status status, const char *format, ...)
{
    char sentence[512];
    int length = snprintf(sentence, sizeof sentence, "%s: ", c->function);
    va_list values;
    va_start(values, format);
    vsnprintf(sentence + length, sizeof sentence - (size_t)length, format, values);
    va_end(values);
    fail(status, sentence);
}

void check(natten_status status)
{
    if (status != NATTEN_OK)
        fail(status, natten_last_error());
}

/* ---- arguments ---------------------------------------------------------------- */

SEXP argument(const call *c, const char *name)
{
    SEXP symbol = Rf_install(name);
#if R_VERSION >= R_Version(4, 2, 0)
    int known = R_existsVarInFrame(c->frame, symbol);
#else
    int known = Rf_findVarInFrame(c->frame, symbol) != R_UnboundValue;
#endif
    /* The value needs no protection: the frame holds it. */
    return known ? Rf_eval(symbol, c->frame) : R_NilValue;
}

int is_true(const call *c, const char *name)
{
    SEXP x = argument(c, name);
    int value = Rf_isLogical(x) && Rf_length(x) == 1 ? LOGICAL(x)[0] : NA_LOGICAL;
    if (value == NA_LOGICAL)
        refuse(c, NATTEN_ERR_ARGUMENT, "%s must be TRUE or FALSE", name);
    return value;
}

const char *string(const call *c, const char *name)
{
    SEXP x = argument(c, name);
    if (!Rf_isString(x) || Rf_xlength(x) < 1)
        refuse(c, NATTEN_ERR_ARGUMENT, "%s must be a string", name);
    return CHAR(STRING_ELT(x, 0));
}

int32_t constant(const call *c, const char *name, const char *enumeration)
{
    SEXP word = PROTECT(Rf_mkString(string(c, name)));
    SEXP table = Rf_install(enumeration); /* a symbol is never collected */
    SEXP value = call_r(Rf_lang3(Rf_install("constant_of_word"), word, table));
    UNPROTECT(1);
    if (Rf_asInteger(value) != NA_INTEGER)
        return Rf_asInteger(value);
    SEXP legal = PROTECT(call_r(Rf_lang2(Rf_install("legal_words"), table)));
    refuse(c, NATTEN_ERR_ARGUMENT, "%s=\"%s\" is not one of %s", name, string(c, name),
           CHAR(STRING_ELT(legal, 0)));
}

int on_gpu(const call *c, int32_t *device_id)
{
    int32_t type;
    check(natten_device_from_name(string(c, "device"), &type, device_id));
    return type == NATTEN_CUDA;
}

int64_t whole_number(const call *c, const char *name, SEXP x, R_xlen_t i)
{
    double value = NA_REAL;
    if (TYPEOF(x) == REALSXP)
        value = REAL_ELT(x, i);
    else if (TYPEOF(x) == INTSXP && INTEGER_ELT(x, i) != NA_INTEGER)
        value = INTEGER_ELT(x, i);
    else if (TYPEOF(x) == LGLSXP && LOGICAL_ELT(x, i) != NA_LOGICAL)
        value = LOGICAL_ELT(x, i);
    else if (TYPEOF(x) != INTSXP && TYPEOF(x) != LGLSXP)
        refuse(c, NATTEN_ERR_ARGUMENT, "%s is of type %s, not numeric", name,
               Rf_type2char(TYPEOF(x)));
    if (ISNAN(value))
        refuse(c, NATTEN_ERR_ARGUMENT, "%s is NA", name);
    if (!(value >= -MAX_WHOLE_NUMBER && value <= MAX_WHOLE_NUMBER) ||
        value != (double)(int64_t)value)
        refuse(c, NATTEN_ERR_ARGUMENT, "%s=%.17g is not a whole number", name, value);
    return (int64_t)value;
}

/* ---- arrays in ---------------------------------------------------------------- */

/* The shape of an R array in C's order; a vector without dim has one axis. */
static void set_shape(natten_tensor *t, SEXP x)
{
    SEXP dim = Rf_getAttrib(x, R_DimSymbol);
    t->ndim = dim == R_NilValue ? 1 : (int32_t)Rf_length(dim);
    t->shape = (int64_t *)R_alloc((size_t)t->ndim, sizeof *t->shape);
    if (dim == R_NilValue)
        t->shape[0] = Rf_xlength(x);
    for (int32_t a = 0; dim != R_NilValue && a < t->ndim; a++)
        t->shape[a] = INTEGER_ELT(dim, t->ndim - 1 - a);
}

static void set_type(natten_tensor *t, int single)
{
    t->device_type = NATTEN_CPU;
    t->dtype_code = NATTEN_FLOAT;
    t->dtype_bits = single ? 32 : 64;
    t->dtype_lanes = 1;
}

/* Elements of x as fp32, in memory of this .Call.  Here and below one element more than
 * needed, because R_alloc() of nothing is NULL, which the library takes for no tensor.
 */
static float *narrowed(const double *x, R_xlen_t n)
{
    float *copy = (float *)R_alloc((size_t)n + 1, sizeof *copy);
    for (R_xlen_t i = 0; i < n; i++)
        copy[i] = (float)x[i];
    return copy;
}

/* Integers or logicals as doubles, NA as R's NA. */
static double *widened_integers(const int *x, R_xlen_t n)
{
    double *copy = (double *)R_alloc((size_t)n + 1, sizeof *copy);
    for (R_xlen_t i = 0; i < n; i++)
        copy[i] = x[i] == NA_INTEGER ? NA_REAL : x[i];
    return copy;
}

natten_tensor *input_value(const call *c, const char *name, SEXP x)
{
    if (x == R_NilValue)
        return NULL;
    const double *elements;
    if (TYPEOF(x) == REALSXP)
        elements = REAL_RO(x);
    else if (TYPEOF(x) == INTSXP && !Rf_isFactor(x))
        elements = widened_integers(INTEGER_RO(x), Rf_xlength(x));
    else if (TYPEOF(x) == LGLSXP)
        elements = widened_integers(LOGICAL_RO(x), Rf_xlength(x));
    else
        refuse(c, NATTEN_ERR_DTYPE, "%s is %s, not an array of numbers", name,
               Rf_isFactor(x) ? "a factor" : Rf_type2char(TYPEOF(x)));
    natten_tensor *t = (natten_tensor *)R_alloc(1, sizeof *t);
    memset(t, 0, sizeof *t);
    set_type(t, c->single);
    set_shape(t, x);
    /* The library does not write to its inputs; its struct has one pointer for both. */
    t->data = c->single ? (void *)narrowed(elements, Rf_xlength(x))
                        : (void *)(uintptr_t)elements;
    return t;
}

natten_tensor *input(const call *c, const char *name)
{
    return input_value(c, name, argument(c, name));
}

/* ---- parameters --------------------------------------------------------------- */

/* One value for all axes or one for each, in the arrays' order: the reverse of C's. */
static void read_axes(const call *c, const char *name, int64_t *values)
{
    SEXP x = argument(c, name);
    if (x == R_NilValue)
        return;
    R_xlen_t count = Rf_xlength(x);
    int32_t rank = c->params.rank;
    if (count != 1 && count != rank)
        refuse(c, NATTEN_ERR_ARGUMENT, "%s has %lld values, not %s", name,
               (long long)count,
               rank == 1   ? "1"
               : rank == 2 ? "1 or 2 (width, height)"
                           : "1 or 3 (width, height, depth)");
    for (int32_t a = 0; a < rank; a++)
        values[a] = whole_number(c, name, x, count == 1 ? 0 : rank - 1 - a);
}

static void read_scale(call *c)
{
    SEXP x = argument(c, "scale");
    if (x == R_NilValue)
        return;
    if (!Rf_isNumeric(x) || Rf_xlength(x) != 1)
        refuse(c, NATTEN_ERR_ARGUMENT, "scale must be one number, or NULL");
    c->params.has_scale = 1;
    c->params.scale = Rf_asReal(x);
}

void read_params(call *c, const natten_tensor *first)
{
    natten_params *p = &c->params;
    int32_t rank = first ? first->ndim - 3 : 1, legal = rank;
    if (rank < 1)
        legal = 1;
    else if (rank > NATTEN_MAX_RANK)
        legal = NATTEN_MAX_RANK;
    check(natten_params_init(p, sizeof *p, legal));
    p->backend = constant(c, "backend", "natten_backend");
    read_scale(c);
    if (rank != legal)
        return; /* the library is going to say what is wrong with that shape */
    read_axes(c, "kernel_size", p->kernel_size);
    read_axes(c, "stride", p->stride);
    read_axes(c, "dilation", p->dilation);
    read_axes(c, "is_causal", p->is_causal);
    read_axes(c, "grid_length", p->grid_length);
    read_axes(c, "query_begin", p->query_begin);
    read_axes(c, "key_begin", p->key_begin);
}

/* ---- arrays out --------------------------------------------------------------- */

SEXP new_array(const call *c, natten_tensor *t, int ndim, const int64_t *shape)
{
    double count = 1;
    SEXP dim = PROTECT(Rf_allocVector(INTSXP, ndim));
    memset(t, 0, sizeof *t);
    t->ndim = ndim;
    t->shape = (int64_t *)R_alloc((size_t)ndim, sizeof *t->shape);
    for (int a = 0; a < ndim; a++) {
        count *= (double)shape[a];
        if (shape[a] > INT_MAX || count > MAX_ELEMENTS)
            refuse(c, NATTEN_ERR_OVERFLOW, "the result does not fit in an R array");
        t->shape[a] = shape[a];
        INTEGER(dim)[ndim - 1 - a] = (int)shape[a];
    }
    SEXP x = PROTECT(Rf_allocVector(REALSXP, (R_xlen_t)count));
    Rf_setAttrib(x, R_DimSymbol, dim);
    set_type(t, c->single);
    t->data = c->single ? (void *)R_alloc((size_t)count + 1, sizeof(float)) : REAL(x);
    UNPROTECT(2);
    return x;
}

natten_tensor *output(call *c, int i, int ndim, const int64_t *shape)
{
    natten_tensor *t = (natten_tensor *)R_alloc(1, sizeof *t);
    SET_VECTOR_ELT(c->results, i, new_array(c, t, ndim, shape));
    return c->outputs[i] = t;
}

natten_tensor *output_like(call *c, int i, const natten_tensor *like)
{
    return like ? output(c, i, like->ndim, like->shape) : NULL;
}

natten_tensor *output_zeros(call *c, int i, const natten_tensor *like)
{
    natten_tensor *t = output_like(c, i, like);
    size_t bytes = c->single ? sizeof(float) : sizeof(double);
    for (int a = 0; t && a < t->ndim; a++)
        bytes *= (size_t)t->shape[a];
    if (t)
        memset(t->data, 0, bytes);
    return t;
}

natten_tensor *output_last(call *c, int i, const natten_tensor *like, int64_t last)
{
    if (!like)
        return NULL;
    size_t bytes = (size_t)like->ndim * sizeof *like->shape;
    int64_t *shape = (int64_t *)R_alloc(bytes, 1);
    memcpy(shape, like->shape, bytes);
    shape[like->ndim - 1] = last;
    return output(c, i, like->ndim, shape);
}

void widen(const call *c, const natten_tensor *t, SEXP x)
{
    const float *from = (const float *)t->data;
    R_xlen_t count = Rf_xlength(x);
    if (!c->single)
        return; /* the library wrote into x itself */
    for (R_xlen_t i = 0; i < count; i++)
        REAL(x)[i] = (double)from[i];
}

/* ---- the call ----------------------------------------------------------------- */

SEXP open_call(call *c, const char *function, SEXP frame, const char *const *names)
{
    int count = 0;
    while (names[count])
        count++;
    memset(c, 0, sizeof *c);
    c->function = function;
    c->frame = frame;
    const char *precision = string(c, "precision");
    c->single = strcmp(precision, "single") == 0;
    if (!c->single && strcmp(precision, "double") != 0)
        refuse(c, NATTEN_ERR_ARGUMENT,
               "precision=\"%s\" is not one of \"double\", \"single\"", precision);
    SEXP results = PROTECT(Rf_allocVector(VECSXP, count));
    SEXP labels = PROTECT(Rf_allocVector(STRSXP, count));
    for (int i = 0; i < count; i++)
        SET_STRING_ELT(labels, i, Rf_mkChar(names[i]));
    Rf_setAttrib(results, R_NamesSymbol, labels);
    UNPROTECT(2);
    return c->results = results;
}

static void check_interrupt(void *unused)
{
    (void)unused;
    R_CheckUserInterrupt();
}

/* Asked by the library, on R's own thread.  R_ToplevelExec catches the jump with which
 * R answers Ctrl-C, so that it does not go through the library's frames. */
static int32_t poll_interrupt(void *user)
{
    call *c = (call *)user;
    if (!c->interrupted && !R_ToplevelExec(check_interrupt, NULL))
        c->interrupted = 1;
    return c->interrupted;
}

void start(call *c)
{
    natten_set_cancel_callback(poll_interrupt, c);
}

SEXP finish(call *c, natten_status status)
{
    natten_set_cancel_callback(NULL, NULL);
    if (c->interrupted)
        call_r(Rf_lang1(Rf_install("signal_interrupt")));
    check(status);
    int count = (int)Rf_xlength(c->results), wanted = 0;
    for (int i = 0; i < count; i++) {
        if (c->outputs[i])
            widen(c, c->outputs[i], VECTOR_ELT(c->results, i));
        wanted += VECTOR_ELT(c->results, i) != R_NilValue;
    }
    SEXP results = PROTECT(Rf_allocVector(VECSXP, wanted));
    SEXP labels = PROTECT(Rf_allocVector(STRSXP, wanted));
    SEXP all_labels = PROTECT(Rf_getAttrib(c->results, R_NamesSymbol));
    for (int i = 0, j = 0; i < count; i++) {
        if (VECTOR_ELT(c->results, i) == R_NilValue)
            continue;
        SET_VECTOR_ELT(results, j, VECTOR_ELT(c->results, i));
        SET_STRING_ELT(labels, j++, STRING_ELT(all_labels, i));
    }
    Rf_setAttrib(results, R_NamesSymbol, labels);
    UNPROTECT(3);
    return results;
}
