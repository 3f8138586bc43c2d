/* SPDX-License-Identifier: MIT
 *
 * Patches as vectors, in three steps: weights of a patch's samples, the few directions
 * that are kept, and one correlation of the picture per direction.  A patch that
 * reaches over the border sees the picture mirrored there. */
#include "features.h"

#include "basis.h"
#include "command.h"
#include "rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Patches from which the directions are learnt: their error is far below what matters,
 * and the time small beside the attention. */
enum { SAMPLES = 4096 };

/* The patch's samples in order: where each lies from the centre, which channel, and the
 * square root of its weight (the weights sum to 1). */
typedef struct tap {
    int64_t frame, row, column, channel;
    double weight;
} tap;

/* Sanitizers run before the choice at load time that this needs. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__has_attribute) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if __has_attribute(target_clones)
#define SUMS_IN_WIDER_VECTORS __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef SUMS_IN_WIDER_VECTORS
#define SUMS_IN_WIDER_VECTORS
#endif

/* Tokens and directions that are computed at a time: their sums stay in registers. */
enum { TOKENS = 16, DIRECTIONS = 4 };

/* The picture, mirrored by the patch's radius on all sides (on the right up to a whole
 * number of TOKENS), planar, its mean removed: what is subtracted on both sides of a
 * distance does not matter to it, but small numbers keep their digits. */
typedef struct plane {
    int64_t frames, height, width; /* with the margins */
    int64_t radius[3];
    float *samples; /* [channels, frames, height, width] */
} plane;

static int64_t mirror(int64_t at, int64_t length)
{
    if (length == 1)
        return 0;
    int64_t period = 2 * (length - 1);
    at %= period;
    at = at < 0 ? at + period : at;
    return at < length ? at : period - at;
}

static double channel_mean(const picture *pic, int64_t channel)
{
    double sum = 0;
    int64_t count = picture_samples(pic);
    for (int64_t i = channel; i < count; i += pic->channels)
        sum += (double)pic->samples[i];
    return sum / (double)(count / pic->channels);
}

static bool make_plane(plane *made, const picture *pic, const int64_t patch[3])
{
    for (int a = 0; a < 3; a++)
        made->radius[a] = patch[a] / 2;
    made->frames = pic->frames + patch[0] - 1;
    made->height = pic->height + patch[1] - 1;
    made->width = (pic->width + TOKENS - 1) / TOKENS * TOKENS + patch[2] - 1;
    int64_t size = made->frames * made->height * made->width * pic->channels;
    made->samples = malloc((size_t)size * sizeof *made->samples);
    int64_t *column = malloc((size_t)made->width * sizeof *column);
    float *to = made->samples;
    for (int64_t x = 0; column && x < made->width; x++)
        column[x] = mirror(x - made->radius[2], pic->width) * pic->channels;
    for (int64_t c = 0; to && column && c < pic->channels; c++) {
        float mean = (float)channel_mean(pic, c);
        for (int64_t row = 0; row < made->frames * made->height; row++) {
            int64_t f = mirror(row / made->height - made->radius[0], pic->frames);
            int64_t y = mirror(row % made->height - made->radius[1], pic->height);
            const float *from =
                pic->samples + (f * pic->height + y) * pic->width * pic->channels + c;
            for (int64_t x = 0; x < made->width; x++)
                *to++ = from[column[x]] - mean;
        }
    }
    bool fine = to && column;
    free(column);
    return fine;
}

/* Where a tap of the patch around token (f, y, 0) lies in the plane. */
static const float *locate(const plane *in, const tap *t, int64_t f, int64_t y)
{
    int64_t frame = t->channel * in->frames + f + in->radius[0] + t->frame;
    int64_t row = frame * in->height + y + in->radius[1] + t->row;
    return in->samples + row * in->width + in->radius[2] + t->column;
}

static void make_taps(tap *taps, const feature_options *options, int64_t channels)
{
    const int64_t *patch = options->patch;
    double softness = options->softness;
    tap *t = taps;
    double sum = 0;
    for (int64_t i = 0; i < patch[0] * patch[1] * patch[2] * channels; i++, t++) {
        t->channel = i % channels;
        t->column = i / channels % patch[2] - patch[2] / 2;
        t->row = i / channels / patch[2] % patch[1] - patch[1] / 2;
        t->frame = i / channels / patch[2] / patch[1] - patch[0] / 2;
        double x = (double)t->column / (double)patch[2];
        double y = (double)t->row / (double)patch[1];
        double z = (double)t->frame / (double)patch[0];
        t->weight = exp(-(x * x + y * y + z * z) / (2 * softness * softness));
        sum += t->weight;
    }
    while (t-- > taps)
        t->weight = sqrt(t->weight / sum);
}

/* Add the products of TOGETHER patches to the lower triangle of the matrix: so many at
 * a time, because the matrix is larger than the nearest cache. */
enum { TOGETHER = 4 };
SUMS_IN_WIDER_VECTORS
static void add_products(double *matrix, const double *patches, int64_t count)
{
    const double *a = patches, *b = a + count, *c = b + count, *d = c + count;
    for (int64_t t = 0; t < count; t++) {
        double at = a[t], bt = b[t], ct = c[t], dt = d[t], *row = matrix + t * count;
        for (int64_t u = 0; u <= t; u++)
            row[u] += (at * a[u] + bt * b[u]) + (ct * c[u] + dt * d[u]);
    }
}

/* Second moments [taps, taps] of the weighted patches, from some of them. `patches` has
 * room for TOGETHER. */
static void measure(const plane *in, const picture *pic, const tap *taps, int64_t count,
                    double *matrix, double *patches)
{
    int64_t tokens = pic->frames * pic->height * pic->width;
    int64_t samples = tokens < SAMPLES ? tokens : SAMPLES;
    /* Steps by the golden section spread evenly whatever their number. */
    double position = 0.5;
    memset(matrix, 0, (size_t)(count * count) * sizeof *matrix);
    for (int64_t s = 0; s < samples; s += TOGETHER) {
        memset(patches, 0, (size_t)(TOGETHER * count) * sizeof *patches);
        for (int64_t i = 0; i < TOGETHER && s + i < samples; i++) {
            position = fmod(position + 0.6180339887498949, 1);
            int64_t token =
                samples == tokens ? s + i : (int64_t)(position * (double)tokens);
            int64_t x = token % pic->width, row = token / pic->width;
            for (int64_t t = 0; t < count; t++)
                patches[i * count + t] =
                    taps[t].weight * (double)locate(in, &taps[t], row / pic->height,
                                                    row % pic->height)[x];
        }
        add_products(matrix, patches, count);
    }
    for (int64_t t = 0; t < count; t++)
        for (int64_t u = 0; u < t; u++)
            matrix[u * count + t] = matrix[t * count + u];
}

/* What a projection needs; made once, read by all threads. */
typedef struct projection {
    const plane *in;
    const picture *pic;
    const tap *taps;
    int64_t count;        /* taps */
    const float *weights; /* [groups of directions, taps, DIRECTIONS] */
    features *made;
} projection;

/* Several tokens side by side; compilers make of it what the machine has. */
typedef float lanes __attribute__((vector_size(TOKENS / 2 * sizeof(float))));

/* Sums over the taps for TOKENS tokens and DIRECTIONS directions. Wider vectors, where
 * the machine has them, change no bit: every sum keeps its order. */
SUMS_IN_WIDER_VECTORS
static void correlate(const float *const *from, int64_t x, const float *weights,
                      int64_t count, float sum[DIRECTIONS][TOKENS])
{
    lanes s[DIRECTIONS][2] = {{{0}}};
    for (int64_t t = 0; t < count; t++, weights += DIRECTIONS) {
        lanes left, right;
        memcpy(&left, from[t] + x, sizeof left);
        memcpy(&right, from[t] + x + TOKENS / 2, sizeof right);
        for (int d = 0; d < DIRECTIONS; d++) {
            s[d][0] += weights[d] * left;
            s[d][1] += weights[d] * right;
        }
    }
    memcpy(sum, s, sizeof s);
}

static void project_rows(void *data, int64_t begin, int64_t end)
{
    const projection *p = data;
    const float *from[FEATURES_MAX_TAPS];
    int64_t directions = p->made->count, width = p->pic->width, height = p->pic->height;
    for (int64_t row = begin; row < end && !command_interrupted(); row++) {
        for (int64_t t = 0; t < p->count; t++)
            from[t] = locate(p->in, &p->taps[t], row / height, row % height);
        float *to = p->made->vectors + row * width * directions;
        for (int64_t x = 0; x < width; x += TOKENS)
            for (int64_t d = 0; d < directions; d += DIRECTIONS) {
                float sum[DIRECTIONS][TOKENS];
                correlate(from, x, p->weights + d * p->count, p->count, sum);
                for (int64_t i = 0; i < TOKENS && x + i < width; i++)
                    for (int64_t e = 0; e < DIRECTIONS && d + e < directions; e++)
                        to[(x + i) * directions + d + e] = sum[e][i];
            }
    }
}

/* Find the directions, fold the weights into them, and project.  False: no memory. */
static bool reduce(features *made, const plane *in, const picture *pic, const tap *taps,
                   int64_t count)
{
    int64_t groups = (made->count + DIRECTIONS - 1) / DIRECTIONS;
    double *matrix = malloc((size_t)(count * count) * sizeof *matrix);
    double *basis = malloc((size_t)(made->count * count) * sizeof *basis);
    double *scratch = malloc((size_t)(TOGETHER * count) * sizeof *scratch);
    float *weights = calloc((size_t)(groups * DIRECTIONS * count), sizeof *weights);
    bool fine = matrix && basis && scratch && weights;
    if (fine && made->count < count) {
        measure(in, pic, taps, count, matrix, scratch);
        basis_make(matrix, count, made->count, basis, scratch);
    }
    for (int64_t d = 0; fine && d < made->count; d++)
        for (int64_t t = 0; t < count; t++) {
            /* The whole patch is its own basis. */
            double entry = made->count < count ? basis[d * count + t] : d == t;
            entry *= taps[t].weight;
            weights[(d / DIRECTIONS * count + t) * DIRECTIONS + d % DIRECTIONS] =
                (float)entry;
            made->noise_share += entry * entry;
        }
    projection all = {in, pic, taps, count, weights, made};
    if (fine)
        rows_run(project_rows, &all, pic->frames * pic->height);
    free(matrix);
    free(basis);
    free(scratch);
    free(weights);
    return fine;
}

int features_make(features *made, const picture *pic, const feature_options *options)
{
    static tap taps[FEATURES_MAX_TAPS];
    memset(made, 0, sizeof *made);
    int64_t count = pic->channels;
    for (int a = 0; a < 3; a++)
        count *= options->patch[a];
    if (count > FEATURES_MAX_TAPS)
        return command_fail(EXIT_USAGE,
                            "--patch: %lld samples with all channels, more than %d",
                            (long long)count, FEATURES_MAX_TAPS);
    made->count = options->components ? options->components : count;
    made->count = made->count < count ? made->count : count;
    int64_t tokens = pic->frames * pic->height * pic->width;
    made->vectors = malloc((size_t)(tokens * made->count) * sizeof *made->vectors);
    plane in = {.samples = NULL};
    make_taps(taps, options, pic->channels);
    bool fine = made->vectors && make_plane(&in, pic, options->patch) &&
                reduce(made, &in, pic, taps, count);
    free(in.samples);
    if (fine)
        return EXIT_FINE;
    features_free(made);
    return command_fail(EXIT_IO, "out of memory");
}

void features_free(features *made)
{
    free(made->vectors);
    made->vectors = NULL;
}
