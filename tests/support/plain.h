/* SPDX-License-Identifier: MIT
 *
 * A plain computation in a 16-bit type, the yardstick of docs/definition.md, section
 * 12: products accumulated in fp32; S, P, dP, dS and the results each rounded to the
 * type.  */
#ifndef NATTEN_TESTS_SUPPORT_PLAIN_H
#define NATTEN_TESTS_SUPPORT_PLAIN_H

#include "support/trial.h"

/* Write the results of a forward or backward trial: out; grad_query, grad_key,
 * grad_value. */
void plain_run(trial *t);

#endif
