/* SPDX-License-Identifier: MIT
 *
 * Pictures whatever their format: which reader and which writer, memory, rounding, and
 * .npy stacks. */
#include "config.h"

#include "picture.h"

#include "command.h"
#include "npy.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int64_t picture_samples(const picture *pic)
{
    return pic->frames * pic->height * pic->width * pic->channels;
}

bool picture_allocate(picture *pic, bool with_alpha)
{
    pic->samples = malloc((size_t)picture_samples(pic) * sizeof *pic->samples);
    pic->alpha = NULL;
    if (pic->samples && with_alpha) {
        pic->alpha =
            malloc((size_t)(picture_samples(pic) / pic->channels) * sizeof *pic->alpha);
        if (!pic->alpha)
            picture_free(pic);
    }
    return pic->samples != NULL;
}

bool picture_like(picture *pic, const picture *model)
{
    *pic = *model;
    if (!picture_allocate(pic, model->alpha != NULL))
        return false;
    if (pic->alpha)
        memcpy(pic->alpha, model->alpha,
               (size_t)(picture_samples(pic) / pic->channels) * sizeof *pic->alpha);
    return true;
}

void picture_free(picture *pic)
{
    free(pic->samples);
    free(pic->alpha);
    pic->samples = NULL;
    pic->alpha = NULL;
}

void picture_quantize(picture *pic)
{
    float steps =
        pic->kind == ELEMENT_UINT16 ? 257 : 1; /* per unit of the 8-bit scale */
    if (pic->kind <= ELEMENT_FP16)
        return;
    int64_t count = picture_samples(pic);
    for (int64_t i = 0; i < count; i++) {
        float x = pic->samples[i];
        x = x > 0 ? x : 0; /* NaN too */
        pic->samples[i] = nearbyintf((x < 255 ? x : 255) * steps) / steps;
    }
}

static bool ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcasecmp(path + length - tail, end) == 0;
}

int picture_read(picture *pic, const char *path)
{
    memset(pic, 0, sizeof *pic);
    unsigned char start[4] = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return command_fail(EXIT_IO, "%s: %s", path, strerror(errno));
    int status;
    if (fread(start, 1, sizeof start, file) != sizeof start) {
        status =
            command_fail(EXIT_IO, "%s: %s", path,
                         ferror(file) ? strerror(errno) : "neither PNG, JPEG nor .npy");
    } else if (fseek(file, 0, SEEK_SET) != 0) {
        status = command_fail(EXIT_IO, "%s: %s", path, strerror(errno));
    } else if (memcmp(start, "\x89PNG", 4) == 0) {
        status = picture_read_png(pic, file, path);
    } else if (memcmp(start, "\xff\xd8\xff", 3) == 0) {
        status = picture_read_jpeg(pic, file, path);
    } else if (memcmp(start, "\x93NUM", 4) == 0) {
        status = picture_read_npy(pic, path);
    } else {
        status = command_fail(EXIT_IO, "%s: neither PNG, JPEG nor .npy", path);
    }
    fclose(file);
    if (status)
        picture_free(pic);
    return status;
}

int picture_check_name(const picture *pic, const char *option, const char *path)
{
    if (ends_with(path, ".npy"))
        return EXIT_FINE;
    if (ends_with(path, ".jpg") || ends_with(path, ".jpeg"))
        return command_fail(EXIT_USAGE,
                            "%s %s: pictures are written as PNG: name it .png", option,
                            path);
    if (pic->frames > 1)
        return command_fail(EXIT_USAGE,
                            "%s %s: a stack of frames is written as .npy: name "
                            "it so",
                            option, path);
    if ((pic->channels != 1 && pic->channels != 3))
        return command_fail(EXIT_USAGE,
                            "%s %s: %d channels are written as .npy: name it so",
                            option, path, (int)pic->channels);
#ifdef NATTEN_HAVE_PNG
    return EXIT_FINE;
#else
    return command_fail(EXIT_IO,
                        "%s %s: this natten was built without libpng; .npy works",
                        option, path);
#endif
}

int picture_write(const picture *pic, output *out)
{
    FILE *file = output_stream(out);
    if (!file)
        return command_fail(EXIT_IO, "%s: %s", out->path, strerror(errno));
    return ends_with(out->path, ".npy") ? picture_write_npy(pic, file, out->path)
                                        : picture_write_png(pic, file, out->path);
}

/* Sizes from [h, w], [frames, h, w] or [frames, h, w, channels]; false: none of those.
 */
static bool set_sizes(picture *pic, const npy_array *array)
{
    int ndim = array->tensor.ndim;
    int64_t size[4] = {1, 1, 1, 1};
    if (ndim < 2 || ndim > 4)
        return false;
    for (int i = 0; i < ndim; i++)
        size[ndim == 2 ? i + 1 : i] = array->shape[i];
    for (int i = 0; i < 4; i++)
        if (size[i] < 1 || size[i] > (i == 3 ? PICTURE_MAX_CHANNELS : PICTURE_MAX_SIDE))
            return false;
    pic->frames = size[0];
    pic->height = size[1];
    pic->width = size[2];
    pic->channels = size[3];
    pic->npy_ndim = ndim;
    pic->kind = array->kind;
    return array->count <= PICTURE_MAX_SAMPLES;
}

int picture_read_npy(picture *pic, const char *path)
{
    npy_array array;
    int status = npy_read(&array, path);
    if (status)
        return status;
    if (!set_sizes(pic, &array))
        status = command_fail(
            EXIT_IO,
            "%s: a picture is [height, width], a stack [frames, "
            "height, width] or [frames, height, width, channels], up to 64 "
            "channels and %d a side",
            path, PICTURE_MAX_SIDE);
    else if (!picture_allocate(pic, false))
        status = command_fail(EXIT_IO, "%s: out of memory", path);
    double unit = pic->kind == ELEMENT_UINT16 ? 257 : 1;
    for (int64_t i = 0; !status && i < array.count; i++) {
        /* Element i in row-major order, wherever it lies. */
        int64_t rest = i, at = 0;
        for (int axis = array.tensor.ndim - 1; axis >= 0; axis--) {
            at += rest % array.shape[axis] * array.strides[axis];
            rest /= array.shape[axis];
        }
        double value = element_load(array.kind, array.tensor.data, at);
        if (!isfinite(value))
            status =
                command_fail(EXIT_IO, "%s: it holds values that are not finite", path);
        pic->samples[i] = (float)(value / unit);
    }
    npy_free(&array);
    return status;
}

int picture_write_npy(const picture *pic, FILE *file, const char *path)
{
    npy_array array;
    int64_t size[4] = {pic->frames, pic->height, pic->width, pic->channels};
    /* A .npy goes out with the dimensions that it came with. */
    int ndim = pic->npy_ndim ? pic->npy_ndim : pic->channels == 1 ? 2 : 4;
    int status = npy_allocate(&array, pic->kind, ndim, size + (ndim == 2), path);
    if (status)
        return status;
    double unit = pic->kind == ELEMENT_UINT16 ? 257 : 1;
    for (int64_t i = 0; i < array.count; i++)
        element_store(pic->kind, array.tensor.data, i, (double)pic->samples[i] * unit);
    if (!npy_write(file, &array))
        status = command_fail(EXIT_IO, "%s: %s", path, strerror(errno));
    npy_free(&array);
    return status;
}
