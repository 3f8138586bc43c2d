/* SPDX-License-Identifier: MIT
 *
 * The scenario of planning for large windows. */
#ifndef NATTEN_TESTS_CUDA_FAKE_MMA_H
#define NATTEN_TESTS_CUDA_FAKE_MMA_H

#include <stdbool.h>

bool fake_mma(void);

#endif
