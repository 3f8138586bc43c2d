/* SPDX-License-Identifier: MIT
 *
 * The tensors of a problem for natten gradcheck, filled as docs/problem-text.md says,
 * and the two calls that are compared. */
#ifndef NATTEN_COMMAND_GRADCHECK_DATA_H
#define NATTEN_COMMAND_GRADCHECK_DATA_H

#include "options.h"
#include "problem.h"

typedef struct check {
    problem asked;
    npy_array array[ROLES];
    /* results[i] is weighted by weights[i]; where there is only one, the second has no
     * data. */
    role results[2], weights[2];
    role inputs[6], gradients[6];
    int pairs; /* inputs with a gradient */
} check;

/* Prints what is wrong and returns an exit status; destroy in any case. */
int check_create(check *c, const problem *asked);
void check_destroy(check *c);

natten_status check_forward(check *c);
natten_status check_backward(check *c);

/* A legal problem with some of every option. */
void check_random_text(char *text, size_t size, uint32_t seed);

#endif
