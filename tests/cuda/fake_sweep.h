/* SPDX-License-Identifier: MIT
 *
 * The scenarios of gradients in one pass. */
#ifndef NATTEN_TESTS_CUDA_FAKE_SWEEP_H
#define NATTEN_TESTS_CUDA_FAKE_SWEEP_H

#include <stdbool.h>

bool fake_sweep(void);
bool fake_sweep_bias(void);
bool fake_sweep_launches(void);

#endif
