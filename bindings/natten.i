/* SPDX-License-Identifier: MIT
 *
 * The one interface file: SWIG reads it, and the layers of Python, R and Julia come out.
 *
 * Sections, in this order: Julia (the header alone: its generator works on SWIG's parse
 * tree and wants the C types as they are), what Python and R share, Python, R, and at the
 * end the header itself, which the typemaps above it shape.  The C code behind the typemaps
 * lives in files of its own, so that it can be read and compiled as C:
 * python/arrays.h for Python.
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
#endif /* SWIGPYTHON */

/* ---- R ---------------------------------------------------------------------------- */
#if defined(SWIGR)
#endif /* SWIGR */

/* ---- the interface ---------------------------------------------------------------- */
%include "natten.h"
#endif /* NATTEN_FOR_JULIA */
