/* SPDX-License-Identifier: MIT
 *
 * The judge on merging partial attentions (docs/definition.md, sections 9 and 12). */
#ifndef NATTEN_TESTS_SUPPORT_JUDGE_MERGE_H
#define NATTEN_TESTS_SUPPORT_JUDGE_MERGE_H

#include "support/judge.h"

/* Inputs of a merge; the last four for its gradient only. */
typedef struct merge_inputs {
    int count;
    const array *outputs, *lses; /* `count` each */
    const array *out, *lse, *grad_out;
    const array *grad_lse; /* NULL: 0 */
} merge_inputs;

/* A partial whose lse is -inf saw nothing: what its out holds does not matter. */
void judge_merge(const merge_inputs *in, verdict *out, verdict *lse);
/* `count` verdicts each. */
void judge_merge_backward(const merge_inputs *in, verdict *grad_outputs,
                          verdict *grad_lses);

#endif
