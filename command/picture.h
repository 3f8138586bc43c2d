/* SPDX-License-Identifier: MIT
 *
 * A picture, or a stack of frames, in memory: [frames, height, width, channels] floats
 * on the 8-bit scale, 0 to 255, whatever the file has.  An alpha channel is kept apart.
 */
#ifndef NATTEN_COMMAND_PICTURE_H
#define NATTEN_COMMAND_PICTURE_H

#include "element.h"
#include "output.h"

/* Sizes for which no product below can overflow; larger ones are refused on reading. */
enum { PICTURE_MAX_SIDE = 1 << 20, PICTURE_MAX_CHANNELS = 64 };
#define PICTURE_MAX_SAMPLES (INT64_C(1) << 40)

typedef struct picture {
    int64_t frames, height, width, channels; /* channels without alpha */
    float *samples;
    uint16_t *alpha; /* [frames, height, width] as in the file; NULL: none */
    element kind;    /* samples of the file: uint8, uint16, or a float of a .npy */
    int npy_ndim;    /* dimensions of the .npy it came from; 0: PNG or JPEG */
} picture;

/* Each prints what is wrong and returns an exit status. */
/* PNG, JPEG or .npy, told by the first bytes. */
int picture_read(picture *pic, const char *path);
/* PNG, or .npy where the name ends so. */
int picture_write(const picture *pic, output *out);
/* Whether picture_write() could, judged by the name, before any work. */
int picture_check_name(const picture *pic, const char *option, const char *path);

/* Memory for the samples (and alpha) of sizes that are set; false if there is none. */
bool picture_allocate(picture *pic, bool with_alpha);
/* The same picture with samples of its own, uninitialised. */
bool picture_like(picture *pic, const picture *model);
void picture_free(picture *pic);

/* Round samples to those that the file can hold, so that what is measured is what is
 * seen. */
void picture_quantize(picture *pic);
int64_t picture_samples(const picture *pic);

/* The formats, one per file. */
int picture_read_png(picture *pic, FILE *file, const char *path);
int picture_write_png(const picture *pic, FILE *file, const char *path);
int picture_read_jpeg(picture *pic, FILE *file, const char *path);
int picture_read_npy(picture *pic, const char *path);
int picture_write_npy(const picture *pic, FILE *file, const char *path);

#endif
