/* SPDX-License-Identifier: MIT
 *
 * The judge: docs/definition.md evaluated pair by pair in extended precision, and with
 * every element the error that section 12 allows it.  It shares the window rule and the
 * element types with the library and nothing else: it walks from queries to keys only
 * and scatters gradients, where the backends gather them.
 *
 * P and dS are taken to stay in the accumulator type (u_p = 0), unless the trial says
 * that whoever does it rounds them to the tensors' type: judge_for() asks the backend.
 * Section 12 leaves three things to the reader.  The gradients' bounds carry the same
 * terms for underflow as out's: a flushed P is off by at most 2^-126 (2^-1022 in fp64),
 * a product by the smallest subnormal.  Backward's out is an input like any other, so
 * it has no error of its own.  And E_i is a sum over all keys that lse was made of;
 * where some are not in the part, backward's has 2 u |lse| max(0, 1 - sum p_ij) in
 * their stead: the error of s - lse in proportion to what is missing (court_fused.c
 * derives it). */
#ifndef NATTEN_TESTS_SUPPORT_JUDGE_H
#define NATTEN_TESTS_SUPPORT_JUDGE_H

#include "support/trial.h"

/* What a tensor must be, element by element in row-major order. A value that is not
 * finite has bound 0 where exactly that is wanted, and bound infinity where any
 * non-finite will do. */
typedef struct verdict {
    int64_t count; /* 0: not a result of this trial */
    long double *value;
    double *bound;
    natten_dtype dtype; /* that it is stored in */
} verdict;

typedef struct judgement {
    verdict of[NATTEN_ROLES];
} judgement;

/* What the trial's results must be, given its inputs as they are stored. */
void judge_evaluate(const trial *t, judgement *j);
void judge_free(judgement *j);
/* The same for results of `backend`: if its plan rounds weights, the trial says so, and
 * they are judged so. */
void judge_for(trial *t, natten_backend backend, judgement *j);
/* Make an evaluated judgement one for results of `backend`, which is cheap where that
 * rounds weights as whoever it was evaluated for does. */
void judge_turn_to(trial *t, natten_backend backend, judgement *j);

void judge_verdict_make(verdict *v, natten_dtype dtype, int64_t count);
void judge_verdict_free(verdict *v);

/* Largest error over its bound; infinity where a NaN or an infinity is where it should
 * not be or is missing. The element in *worst, if not NULL. */
double judge_ratio(const verdict *v, const array *a, int64_t *worst);
/* Root mean square of the errors. */
double judge_rms(const verdict *v, const array *a);

/* Store what forward should give, rounded, as the trial's out and lse. */
void judge_give_forward(trial *t);
/* Make the slots of attn or grad_attn that hold no visible key NaN. */
void judge_poison_slots(trial *t, natten_role role);

#endif
