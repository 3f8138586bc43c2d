/* SPDX-License-Identifier: MIT
 *
 * The scenario of choosing a family of kernels, and what those of families ask. */
#ifndef NATTEN_TESTS_CUDA_FAKE_FAMILY_H
#define NATTEN_TESTS_CUDA_FAKE_FAMILY_H

#include "cuda/cuda_family.h"

bool fake_family(void);
/* Compute capability 9.0: does a family take the passes of a problem for which it
 * counts the fewest clocks, and no other? */
bool fake_fewest_clocks_win(const char *text, natten_cuda_set set);

#endif
