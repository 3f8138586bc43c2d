/* SPDX-License-Identifier: MIT
 *
 * One call of the public API, made from a problem text, whose every argument a test can
 * then spoil; and a watch on all bytes that the call must leave alone. */
#ifndef NATTEN_TESTS_API_CALL_H
#define NATTEN_TESTS_API_CALL_H

#include "problem/problem_text.h"

/* Bytes around each tensor that belong to no one. */
enum { CALL_MARGIN = 64 };

typedef struct call {
    natten_problem_spec spec;
    natten_params params;
    natten_tensor tensor[NATTEN_ROLES];
    int64_t shape[NATTEN_ROLES][6], strides[NATTEN_ROLES][6];
    bool given[NATTEN_ROLES]; /* else the argument is NULL */
    void *workspace;
    size_t workspace_bytes;
    unsigned char *memory[NATTEN_ROLES], *before[NATTEN_ROLES]; /* with margins */
    size_t bytes[NATTEN_ROLES];
} call;

/* Compact tensors with the problem's data, results full of 0xff, backend reference;
 * strides are spelled out. `text` must parse. */
void call_make(call *c, const char *text);
void call_free(call *c);
/* The public function of the operation. */
natten_status call_run(call *c);
/* Do inputs, margins and, if asked, results have the bytes that call_make() gave them?
 */
bool call_is_untouched(const call *c, bool results_too);
/* Has every result been written: is no element left full of 0xff? */
bool call_is_written(const call *c);
/* Does the operation write this role? */
bool call_writes(const call *c, natten_role role);
/* Does natten_last_error() match the extended regular expression? */
bool call_said(const char *regex);

#endif
