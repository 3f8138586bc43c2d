/* SPDX-License-Identifier: MIT
 *
 * PNG through libpng: grey or colour, 8 or 16 bits, with or without alpha; palettes and
 * fewer bits become 8 bits.  libpng reports by longjmp, so that the function with the
 * setjmp holds nothing: what is to be freed lives in its caller. */
#include "config.h"

#include "picture.h"

#include "command.h"

#ifdef NATTEN_HAVE_PNG
#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* What the error callback needs. */
typedef struct png_context {
    const char *path;
    jmp_buf jump;
} png_context;

static _Noreturn void on_error(png_structp png, png_const_charp message)
{
    png_context *context = png_get_error_ptr(png);
    bool writing = errno && strcmp(message, "Write Error") == 0;
    command_fail(EXIT_IO, "%s: %s", context->path, writing ? strerror(errno) : message);
    longjmp(context->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* One row of bytes to samples, and alpha. */
static void unpack_row(picture *pic, const unsigned char *row, int64_t y)
{
    int bytes = pic->kind == ELEMENT_UINT16 ? 2 : 1;
    float unit = bytes == 2 ? 257 : 1;
    float *sample = pic->samples + y * pic->width * pic->channels;
    for (int64_t x = 0; x < pic->width; x++) {
        for (int64_t c = 0; c < pic->channels + (pic->alpha != NULL);
             c++, row += bytes) {
            unsigned value = bytes == 2 ? (unsigned)row[0] << 8 | row[1] : row[0];
            if (c < pic->channels)
                *sample++ = (float)value / unit;
            else
                pic->alpha[y * pic->width + x] = (uint16_t)value;
        }
    }
}

static void pack_row(const picture *pic, unsigned char *row, int64_t y)
{
    int bytes = pic->kind == ELEMENT_UINT16 ? 2 : 1;
    float unit = bytes == 2 ? 257 : 1, most = bytes == 2 ? 65535 : 255;
    const float *sample = pic->samples + y * pic->width * pic->channels;
    for (int64_t x = 0; x < pic->width; x++) {
        for (int64_t c = 0; c < pic->channels + (pic->alpha != NULL); c++) {
            unsigned value;
            if (c < pic->channels) {
                float wide = *sample++ * unit;
                value = wide > 0 ? (unsigned)((wide < most ? wide : most) + 0.5F) : 0;
            } else {
                value = pic->alpha[y * pic->width + x];
            }
            if (bytes == 2)
                *row++ = (unsigned char)(value >> 8);
            *row++ = (unsigned char)value;
        }
    }
}

/* Everything between the jumps: ask libpng for 8 or 16 bits of grey or RGB with or
 * without alpha, and read. *rows is freed by the caller. */
static int read_rows(picture *pic, png_structp png, png_infop info,
                     unsigned char **rows)
{
    png_read_info(png, info);
    int type = png_get_color_type(png, info), depth = png_get_bit_depth(png, info);
    png_set_expand(png);
    /* A transparent colour becomes alpha by the expansion above. */
    bool alpha = type & PNG_COLOR_MASK_ALPHA || png_get_valid(png, info, PNG_INFO_tRNS);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    pic->frames = 1;
    pic->height = png_get_image_height(png, info);
    pic->width = png_get_image_width(png, info);
    pic->channels = type & PNG_COLOR_MASK_COLOR ? 3 : 1;
    pic->kind = depth == 16 ? ELEMENT_UINT16 : ELEMENT_UINT8;
    if (pic->height > PICTURE_MAX_SIDE || pic->width > PICTURE_MAX_SIDE)
        png_error(png, "the picture is too large");
    size_t stride = png_get_rowbytes(png, info);
    *rows = malloc(stride * (size_t)pic->height);
    if (!*rows || !picture_allocate(pic, alpha))
        png_error(png, "out of memory");
    /* All rows stay until the end: the passes of an interlaced picture come back to
     * each. */
    int passes = png_get_interlace_type(png, info) == PNG_INTERLACE_ADAM7 ? 7 : 1;
    for (int pass = 0; pass < passes; pass++)
        for (int64_t y = 0; y < pic->height; y++)
            png_read_row(png, *rows + (size_t)y * stride, NULL);
    png_read_end(png, NULL);
    for (int64_t y = 0; y < pic->height; y++)
        unpack_row(pic, *rows + (size_t)y * stride, y);
    return EXIT_FINE;
}

static int read_guarded(picture *pic, png_structp png, png_infop info, FILE *file,
                        unsigned char **rows)
{
    png_context *context = png_get_error_ptr(png);
    if (setjmp(context->jump))
        return EXIT_IO;
    png_init_io(png, file);
    return read_rows(pic, png, info, rows);
}

int picture_read_png(picture *pic, FILE *file, const char *path)
{
    png_context context = {.path = path};
    unsigned char *rows = NULL;
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &context, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    errno = 0;
    int status = info ? read_guarded(pic, png, info, file, &rows)
                      : command_fail(EXIT_IO, "%s: out of memory", path);
    free(rows);
    png_destroy_read_struct(&png, &info, NULL);
    return status;
}

static int write_rows(const picture *pic, png_structp png, png_infop info,
                      unsigned char *row)
{
    int type = pic->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY;
    if (pic->alpha)
        type |= PNG_COLOR_MASK_ALPHA;
    png_set_IHDR(png, info, (png_uint_32)pic->width, (png_uint_32)pic->height,
                 pic->kind == ELEMENT_UINT16 ? 16 : 8, type, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    /* Noise does not compress: the higher levels only take their time. */
    png_set_compression_level(png, 3);
    png_write_info(png, info);
    for (int64_t y = 0; y < pic->height; y++) {
        pack_row(pic, row, y);
        png_write_row(png, row);
    }
    png_write_end(png, info);
    return EXIT_FINE;
}

static int write_guarded(const picture *pic, png_structp png, png_infop info,
                         FILE *file, unsigned char *row)
{
    png_context *context = png_get_error_ptr(png);
    if (setjmp(context->jump))
        return EXIT_IO;
    png_init_io(png, file);
    return write_rows(pic, png, info, row);
}

int picture_write_png(const picture *pic, FILE *file, const char *path)
{
    png_context context = {.path = path};
    unsigned char *row = malloc((size_t)(pic->width * (pic->channels + 1)) * 2);
    png_structp png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, &context, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    errno = 0;
    int status = info && row ? write_guarded(pic, png, info, file, row)
                             : command_fail(EXIT_IO, "%s: out of memory", path);
    free(row);
    png_destroy_write_struct(&png, &info);
    return status;
}

#else

int picture_read_png(picture *pic, FILE *file, const char *path)
{
    (void)pic;
    (void)file;
    return command_fail(EXIT_IO, "%s: this natten was built without libpng", path);
}

int picture_write_png(const picture *pic, FILE *file, const char *path)
{
    (void)pic;
    (void)file;
    return command_fail(EXIT_IO, "%s: this natten was built without libpng", path);
}

#endif
