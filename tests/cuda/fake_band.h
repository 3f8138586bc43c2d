/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels that go down bands of a grid without a GPU: scenarios of
 * fake_cuda. */
#ifndef NATTEN_TESTS_CUDA_FAKE_BAND_H
#define NATTEN_TESTS_CUDA_FAKE_BAND_H

#include <stdbool.h>

bool fake_band(void);
bool fake_band_launches(void);

#endif
