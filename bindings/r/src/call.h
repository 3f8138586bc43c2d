/* SPDX-License-Identifier: MIT
 *
 * One call from R: reading its arguments, making its results, running it, failing.
 *
 * call.c turns R values into what natten.h wants and back, for any operation; glue.c
 * has the operations, a screen each.  Everything here may leave by R's longjmp, which
 * is why all memory comes from R (freed when .Call ends, however it ends) and why none
 * of it is called while the library runs, poll_interrupt() in call.c excepted, which
 * doesn't jump.
 */
#ifndef NATTEN_R_CALL_H
#define NATTEN_R_CALL_H

#include <Rinternals.h>

#include "natten.h"

/* More than any operation has results. */
#define MAX_RESULTS 8

typedef struct call {
    const char *function; /* of natten.h, the first word of every sentence */
    SEXP frame;           /* environment of the R function: the arguments by name */
    natten_params params;
    int single;                          /* compute in fp32 */
    SEXP results;                        /* named list; its owner protects it */
    natten_tensor *outputs[MAX_RESULTS]; /* behind results; NULL: not wanted */
    int interrupted;                     /* the user pressed Ctrl-C */
} call;

/* Signal an R condition of class c(<status>, "natten_error", "error", "condition"). */
_Noreturn void fail(natten_status status, const char *sentence);
/* The same with a sentence that starts with the function's name. */
_Noreturn void refuse(const call *c, natten_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* fail() with the library's own sentence, unless status is NATTEN_OK. */
void check(natten_status status);

/* Begin a call: read `precision`, and make the list of results, one for each of `names`
 * (NULL-terminated).  The caller protects what it returns. */
SEXP open_call(call *c, const char *function, SEXP frame, const char *const *names);

/* The value of an argument; NULL if the R function has none of that name. */
SEXP argument(const call *c, const char *name);
/* A logical argument. */
int is_true(const call *c, const char *name);
/* A string argument; of several, as a default may have, the first. */
const char *string(const call *c, const char *name);
/* The value that a string argument names in an enumeration of natten.h. */
int32_t constant(const call *c, const char *name, const char *enumeration);
/* Does `device` name a GPU, and which? */
int on_gpu(const call *c, int32_t *device_id);
/* x[i] as a whole number. */
int64_t whole_number(const call *c, const char *name, SEXP x, R_xlen_t i);

/* An array argument as a tensor of the call's type; NULL if it isn't there or is NULL.
 * Doubles are used where they are, unless the call is in fp32; other numbers are
 * copied. */
natten_tensor *input(const call *c, const char *name);
/* The same for an array that is not itself an argument; `name` is for sentences. */
natten_tensor *input_value(const call *c, const char *name, SEXP x);

/* Fill in params: the rank from `first`, the tensor that has the queries' axes, and the
 * rest from the arguments. */
void read_params(call *c, const natten_tensor *first);

/* A new array for result i, of that shape (in C's order). */
natten_tensor *output(call *c, int i, int ndim, const int64_t *shape);
/* The same, shaped like another tensor; NULL if that is NULL. */
natten_tensor *output_like(call *c, int i, const natten_tensor *like);
/* The same, filled with 0: a batch of nothing leaves a sum over the batch untouched. */
natten_tensor *output_zeros(call *c, int i, const natten_tensor *like);
/* Shaped like another tensor, with another last size. */
natten_tensor *output_last(call *c, int i, const natten_tensor *like, int64_t last);
/* A new R array of that shape, and the tensor behind it. */
SEXP new_array(const call *c, natten_tensor *t, int ndim, const int64_t *shape);
/* After the call: make fp32 results doubles. */
void widen(const call *c, const natten_tensor *t, SEXP x);

/* Around the library's function: let Ctrl-C stop it; then signal that or its failure,
 * or bring the results home and return the list of those that were wanted. */
void start(call *c);
SEXP finish(call *c, natten_status status);

#endif /* NATTEN_R_CALL_H */
