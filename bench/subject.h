/* SPDX-License-Identifier: MIT
 *
 * What is timed: one call of the public API with its tensors, made from a problem text
 * (docs/problem-text.md), workspace included, so that nothing but the call is measured.
 */
#ifndef NATTEN_BENCH_SUBJECT_H
#define NATTEN_BENCH_SUBJECT_H

#include "problem/problem_text.h"

typedef struct subject {
    natten_problem_spec spec;
    natten_params params;
    natten_tensor tensor[NATTEN_ROLES]; /* data NULL: not part of the call */
    int64_t shape[NATTEN_ROLES][6];
    void *workspace;
    size_t workspace_bytes;
    natten_task task; /* the call as kernels see it */
    int64_t pairs;    /* visible (query, key) pairs, over batch and heads */
} subject;

/* Tensors with values of normal distribution (results: NaN), and for backward out and
 * lse of a forward. The workspace is for as many threads as are set now, or fewer.
 * Free it with subject_free(), also after a failure. */
natten_status subject_make(subject *s, const natten_problem_spec *spec,
                           natten_backend backend);
void subject_free(subject *s);

/* Forward or backward. */
natten_status subject_run(subject *s);

/* The results become NaN, so that a judge sees what is not written. */
void subject_forget(subject *s);

/* Useful floating-point operations of a call: 2 per multiply-add of the products that
 * the definition needs, two forward and five backward. */
double subject_flop(const subject *s);

/* NULL where the call has no such tensor. */
static inline natten_tensor *subject_tensor(subject *s, natten_role role)
{
    return s->tensor[role].data ? &s->tensor[role] : NULL;
}

#endif
