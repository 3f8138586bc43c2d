/* SPDX-License-Identifier: MIT
 *
 * The one interface file: SWIG reads it, and the layers of Python, R and Julia come out.
 *
 * Sections, in this order: Julia (the header alone: its generator works on SWIG's parse
 * tree and wants the C types as they are), what Python and R share, Python, R, and at the
 * end the header itself, which the typemaps above it shape.  The C code behind the typemaps
 * lives in files of its own, so that it can be read and compiled as C:
 * python/stable.h, python/arrays.h, python/params.h and python/xla.h for Python.
 *
 * A trap: locals of %typemap(in) A, B (T tmp) belong to the last pattern only, so each
 * pattern gets a typemap of its own. */
%module natten

#if defined(NATTEN_FOR_JULIA)
/* ---- Julia: no typemaps ----------------------------------------------------------- */
%include <stdint.i>
%include "natten.h"

#else
/* ---- shared by Python and R ------------------------------------------------------- */
%{
#include "natten.h"
%}
%include <stdint.i>

/* Arrays describe themselves, parameters are filled by each language's section, and the
 * callback is how the sections hear Ctrl-C. */
%ignore natten_tensor;
%ignore natten_params_init;
%ignore natten_cancel_callback;
%ignore natten_set_cancel_callback;

/* ---- Python ----------------------------------------------------------------------- */
#if defined(SWIGPYTHON)
%feature("autodoc", "2");

%ignore natten_params;

%{
#include "arrays.h"
#include "params.h"
#include "xla.h"
%}

/* Arrays: `const` ones are read, the others written; None stands for NULL. */
%typemap(arginit) const natten_tensor *, natten_tensor *
    "memset(&lent$argnum, 0, sizeof lent$argnum);"
%typemap(in) const natten_tensor * (py_array lent) {
    if ($input != Py_None) {
        if (array_acquire($input, "$1_name", 0, &lent) < 0)
            SWIG_fail;
        $1 = &lent.tensor;
    }
}
%typemap(in) natten_tensor * (py_array lent) {
    if ($input != Py_None) {
        if (array_acquire($input, "$1_name", 1, &lent) < 0)
            SWIG_fail;
        $1 = &lent.tensor;
    }
}
%typemap(freearg) const natten_tensor *, natten_tensor * "array_release(&lent$argnum);"

/* Sequences of arrays, for merging.  The first says how many there are: it fills arg1. */
%typemap(arginit) (int64_t count, const natten_tensor *outputs),
    const natten_tensor *lses, natten_tensor *grad_outputs, natten_tensor *grad_lses
    "memset(&many$argnum, 0, sizeof many$argnum);"
%typemap(in) (int64_t count, const natten_tensor *outputs) (py_arrays many) {
    if (arrays_acquire($input, "$2_name", 0, -1, &many) < 0)
        SWIG_fail;
    $1 = many.count;
    $2 = many.tensors;
}
%typemap(in) const natten_tensor *lses (py_arrays many) {
    if (arrays_acquire($input, "$1_name", 0, arg1, &many) < 0)
        SWIG_fail;
    $1 = many.tensors;
}
%typemap(in) natten_tensor *grad_outputs (py_arrays many) {
    if (arrays_acquire($input, "$1_name", 1, arg1, &many) < 0)
        SWIG_fail;
    $1 = many.tensors;
}
%typemap(in) natten_tensor *grad_lses (py_arrays many) {
    if (arrays_acquire($input, "$1_name", 1, arg1, &many) < 0)
        SWIG_fail;
    $1 = many.tensors;
}
%typemap(freearg) (int64_t count, const natten_tensor *outputs),
    const natten_tensor *lses, natten_tensor *grad_outputs, natten_tensor *grad_lses
    "arrays_release(&many$argnum);"

/* Parameters: the tuple natten._functional.Params. */
%typemap(in) const natten_params * (natten_params filled) {
    if (params_of($input, &filled) < 0)
        SWIG_fail;
    $1 = &filled;
}

/* The library allocates its scratch itself. */
%typemap(in, numinputs=0) (void *workspace, size_t workspace_bytes) {
    $1 = NULL;
    $2 = 0;
}
/* A device's stream as an integer, or None. */
%typemap(in) void *stream {
    $1 = $input == Py_None ? NULL : PyLong_AsVoidPtr($input);
    if (PyErr_Occurred())
        SWIG_fail;
}

/* Results beside the status. */
%typemap(in, numinputs=0) size_t *bytes (size_t bytes) "$1 = &bytes;"
%typemap(argout) size_t *bytes {
    $result = and_result($result, PyLong_FromSize_t(*$1));
}
%typemap(in, numinputs=0) int64_t *slots (int64_t slots) "$1 = &slots;"
%typemap(argout) int64_t *slots {
    $result = and_result($result, PyLong_FromLongLong(*$1));
}
%typemap(in, numinputs=0) (char *text, size_t bytes) (char text[8192]) {
    $1 = text;
    $2 = sizeof text;
}
%typemap(argout) (char *text, size_t bytes) {
    $result = and_result($result, PyUnicode_FromString($1));
}

%typemap(in, numinputs=0) (int32_t *device_type, int32_t *device_id)
    (int32_t type, int32_t id) "$1 = &type; $2 = &id;"
%typemap(argout) (int32_t *device_type, int32_t *device_id) {
    $result = and_result($result, PyLong_FromLong(*$1));
    $result = and_result($result, PyLong_FromLong(*$2));
}

/* A status is an exception or nothing. */
%typemap(out) natten_status {
    if ($1 != NATTEN_OK) {
        raise_status($1);
        SWIG_fail;
    }
    $result = SWIG_Py_Void();
}

/* Computing calls let other threads run, and on the main thread hear Ctrl-C.  A handler may
 * make such a call too: when that ends, the one that it interrupted hears again. */
%nothread;
%define COMPUTES(name)
%thread name;
%exception name {
    double looked = seconds(), *outer = NULL;
    bool hears = hears_signals();
    if (hears)
        outer = hear_signals(&looked);
    $action
    if (hears)
        hear_signals(outer);
}
%enddef
COMPUTES(natten_forward)
COMPUTES(natten_backward)
COMPUTES(natten_forward_host)
COMPUTES(natten_backward_host)
COMPUTES(natten_qk)
COMPUTES(natten_qk_backward)
COMPUTES(natten_av)
COMPUTES(natten_av_backward)
COMPUTES(natten_merge)
COMPUTES(natten_merge_backward)

/* Shape and element type of anything that can be lent. */
%rename(describe) array_describe;
PyObject *array_describe(PyObject *object, const char *name);

/* For compiled programs of JAX: what they call, and its parameters as bytes. */
PyObject *xla_target(bool cuda);
PyObject *xla_params(const natten_params *params);
#endif /* SWIGPYTHON */

/* ---- R ---------------------------------------------------------------------------- */
#if defined(SWIGR)
/* Flat functions on R values only, for the reason that r/src/glue.h gives; so R takes that
 * header in place of natten.h, and SWIG adds the registration and a stub for each. */
%{
#include "glue.h"
%}
%typemap(rtype) SEXP "ANY"
%typemap(scoercein) SEXP ""
%typemap(scoerceout) SEXP ""
%typemap(in) SEXP "$1 = $input;"
%typemap(out) SEXP "$result = $1;"
%include "r/src/glue.h"
#endif /* SWIGR */

/* ---- the interface ---------------------------------------------------------------- */
#if !defined(SWIGR)
%include "natten.h"
#endif
#endif /* NATTEN_FOR_JULIA */
