/* SPDX-License-Identifier: MIT
 *
 * What makes two places of a picture alike: the patch around each, as a short vector.
 * The squared distance of two such vectors is the weighted mean squared difference of
 * the patches, or as much of it as lies in the directions in which this picture's
 * patches differ most (their principal components), which is most of the picture and
 * little of the noise. */
#ifndef NATTEN_COMMAND_FEATURES_H
#define NATTEN_COMMAND_FEATURES_H

#include "picture.h"

typedef struct feature_options {
    int64_t patch[3];   /* frames, rows, columns: odd full widths */
    double softness;    /* width of a patch's Gaussian weights, in patches */
    int64_t components; /* length of the vector; 0: the whole patch, exactly */
} feature_options;

typedef struct features {
    int64_t count;      /* length of a vector */
    float *vectors;     /* [frames, height, width, count] */
    double noise_share; /* part of the noise's variance that is left in a distance */
} features;

/* Most samples of a patch: patch[0] patch[1] patch[2] channels. */
enum { FEATURES_MAX_TAPS = 1200 };

/* Prints what is wrong and returns an exit status. */
int features_make(features *made, const picture *pic, const feature_options *options);
void features_free(features *made);

#endif
