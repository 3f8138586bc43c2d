/* SPDX-License-Identifier: MIT
 *
 * The steps of an array command, in the order in which they are taken: read the inputs,
 * fill in the parameters, make room for the outputs, (call the library), write.  Each
 * step prints what is wrong and returns an exit status. */
#ifndef NATTEN_COMMAND_CALL_H
#define NATTEN_COMMAND_CALL_H

#include "options.h"

/* Read the files of these roles that were named, and convert them as --dtype says. */
int call_read(call *c, const role *inputs, int count);
/* params from the options; the rank is that of `main`, [batch, axes..., heads, x]. */
int call_params(call *c, role main, natten_params *params);
/* Room for an output, and for its file when one was named: the shape of `like`, with
 * the last size replaced by `last`, or dropped when that is LAST_DROP. */
enum { LAST_KEEP = -1, LAST_DROP = -2 };
int call_output(call *c, role which, role like, int64_t last);
/* The same for a bias gradient: [heads, 2 kernel_size - 1 per axis]. */
int call_output_bias(call *c, role main, const natten_params *params);

/* The tensor of a role, or NULL: not given, or not wanted. */
natten_tensor *call_tensor(call *c, role which);
static inline bool call_has(const call *c, role which)
{
    return c->array[which].tensor.data != NULL;
}

/* What the library is about to do, for --explain; roles as natten_plan_text() has them.
 */
typedef struct call_plan {
    int32_t operation;
    role query, key, value, additional_keys;
} call_plan;
int call_explain(call *c, const natten_params *params, const call_plan *plan);

/* Write and commit the outputs, and print the report if --json asks for it. */
int call_finish(call *c, const char *operation, double seconds);
/* Free everything; uncommitted outputs vanish. Returns `status`. */
int call_end(call *c, int status);

/* Seconds from some fixed moment. */
double call_clock(void);

#endif
