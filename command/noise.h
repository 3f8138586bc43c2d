/* SPDX-License-Identifier: MIT
 *
 * Gaussian noise that is the same everywhere, and how much of it is left. */
#ifndef NATTEN_COMMAND_NOISE_H
#define NATTEN_COMMAND_NOISE_H

#include "picture.h"

/* Add noise of standard deviation `sigma` (8-bit scale) to each sample, in row-major
 * order, and round to what the picture's file can hold. */
void noise_add(picture *pic, double sigma, uint64_t seed);
/* Peak signal-to-noise ratio in dB, peak 255; infinite for equal pictures. */
double noise_psnr(const picture *clean, const picture *pic);

#endif
