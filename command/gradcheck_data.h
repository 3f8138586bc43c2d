/* SPDX-License-Identifier: MIT
 *
 * The tensors of a problem for natten gradcheck, and the two calls that are compared.
 *
 * What a problem text says, which tensors it has, their shapes and their data is
 * core/problem's to say: the one thing of the library's inside that the command links,
 * so that there is one reader of these texts. */
#ifndef NATTEN_COMMAND_GRADCHECK_DATA_H
#define NATTEN_COMMAND_GRADCHECK_DATA_H

#include "npy.h"
#include "problem/problem_text.h"

typedef struct check {
    /* The problem as either operation, whichever of the two the text named. */
    natten_problem_spec forward, backward;
    natten_params params;
    npy_array array[NATTEN_ROLES]; /* fp64; no data: the problem has no such tensor */
} check;

/* What belongs together: an input and its gradient, a result and its weight. */
typedef struct check_pair {
    natten_role tensor, gradient;
} check_pair;

enum { CHECK_PAIRS = 9 };
extern const check_pair check_pairs[CHECK_PAIRS];

/* Is it what forward computes, rather than what it is given? */
bool check_is_result(const check *c, natten_role tensor);

/* Prints what is wrong and returns an exit status; destroy in any case. */
int check_create(check *c, const natten_problem_spec *asked);
void check_destroy(check *c);

natten_status check_forward(check *c);
natten_status check_backward(check *c);

/* A legal problem with some of every option; of four successive seeds two are
 * attention, one is qk and one av. */
natten_problem_spec check_random_problem(uint32_t seed);

#endif
