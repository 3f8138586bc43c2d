/* SPDX-License-Identifier: MIT
 *
 * The scenarios of planning and launching for large windows. */
#ifndef NATTEN_TESTS_CUDA_FAKE_MMA_H
#define NATTEN_TESTS_CUDA_FAKE_MMA_H

#include <stdbool.h>

bool fake_mma(void);
/* Launches on a GPU with much shared memory, and on one with little. */
bool fake_mma_launches(void);
bool fake_mma_one_stage(void);

#endif
