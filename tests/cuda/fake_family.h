/* SPDX-License-Identifier: MIT
 *
 * The scenario of choosing a family of kernels. */
#ifndef NATTEN_TESTS_CUDA_FAKE_FAMILY_H
#define NATTEN_TESTS_CUDA_FAKE_FAMILY_H

#include <stdbool.h>

bool fake_family(void);

#endif
