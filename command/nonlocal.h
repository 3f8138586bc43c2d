/* SPDX-License-Identifier: MIT
 *
 * Non-local means: each pixel becomes the mean of the pixels in a search window around
 * it, weighted by how alike the patches around them are.  That is one neighborhood
 * attention. */
#ifndef NATTEN_COMMAND_NONLOCAL_H
#define NATTEN_COMMAND_NONLOCAL_H

#include "features.h"

typedef struct nonlocal_options {
    feature_options features;
    int64_t search[3]; /* frames, rows, columns: full widths, at most the picture's */
    double sigma;      /* standard deviation of the noise, 8-bit scale */
    double h;          /* decay of the weights: exp(-distance / h^2) */
    int32_t backend;   /* a natten_backend */
    bool on_gpu;       /* compute on GPU number `gpu` */
    int32_t gpu;
    bool explain; /* print the plan on standard error */
} nonlocal_options;

/* Write into `clean`, a picture like `noisy`.  Prints what is wrong, returns an exit
 * status. */
int nonlocal_means(picture *clean, const picture *noisy,
                   const nonlocal_options *options);

#endif
