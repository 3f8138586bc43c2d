/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels of warpgroups without a GPU: scenarios of fake_cuda. */
#ifndef NATTEN_TESTS_CUDA_FAKE_WGMMA_H
#define NATTEN_TESTS_CUDA_FAKE_WGMMA_H

#include <stdbool.h>

bool fake_wgmma(void);
bool fake_wgmma_launches(void);
/* In a build that lacks them. */
bool fake_wgmma_lacking(void);

#endif
