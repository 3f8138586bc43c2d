/* SPDX-License-Identifier: MIT
 *
 * JPEG through libjpeg, reading only: what is denoised is not to be compressed with
 * loss again.  libjpeg reports by longjmp, so that the function with the setjmp holds
 * nothing: what is to be freed lives in its caller. */
#include "config.h"

#include "picture.h"

#include "command.h"

#ifdef NATTEN_HAVE_JPEG
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* After stdio.h, which it needs and does not include. */
#include <jpeglib.h>

typedef struct jpeg_context {
    struct jpeg_error_mgr manager; /* first: libjpeg hands its address back */
    const char *path;
    jmp_buf jump;
} jpeg_context;

static _Noreturn void on_error(j_common_ptr common)
{
    jpeg_context *context = (jpeg_context *)(void *)common->err;
    char message[JMSG_LENGTH_MAX];
    common->err->format_message(common, message);
    command_fail(EXIT_IO, "%s: %s", context->path, message);
    longjmp(context->jump, 1);
}

/* Warnings (a level below 0) mean damaged data: a picture that is half grey is no
 * input. */
static void on_message(j_common_ptr common, int level)
{
    if (level < 0)
        on_error(common);
}

/* Everything between the jumps; *row is freed by the caller. */
static int read_rows(picture *pic, struct jpeg_decompress_struct *jpeg,
                     unsigned char **row, const char *path)
{
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->num_components != 1 && jpeg->num_components != 3)
        return command_fail(EXIT_IO,
                            "%s: a JPEG of %d channels, neither grey nor colour", path,
                            jpeg->num_components);
    jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW; /* the exact one */
    jpeg_start_decompress(jpeg);
    pic->frames = 1;
    pic->height = jpeg->output_height;
    pic->width = jpeg->output_width;
    pic->channels = jpeg->output_components;
    pic->kind = ELEMENT_UINT8;
    *row = malloc((size_t)(pic->width * pic->channels));
    if (!*row || !picture_allocate(pic, false))
        return command_fail(EXIT_IO, "%s: out of memory", path);
    float *sample = pic->samples;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW line = *row;
        jpeg_read_scanlines(jpeg, &line, 1);
        for (int64_t i = 0; i < pic->width * pic->channels; i++)
            *sample++ = line[i];
    }
    jpeg_finish_decompress(jpeg);
    return EXIT_FINE;
}

static int read_guarded(picture *pic, struct jpeg_decompress_struct *jpeg, FILE *file,
                        unsigned char **row)
{
    jpeg_context *context = (jpeg_context *)(void *)jpeg->err;
    if (setjmp(context->jump))
        return EXIT_IO;
    jpeg_create_decompress(jpeg);
    jpeg_stdio_src(jpeg, file);
    return read_rows(pic, jpeg, row, context->path);
}

int picture_read_jpeg(picture *pic, FILE *file, const char *path)
{
    struct jpeg_decompress_struct jpeg;
    jpeg_context context = {.path = path};
    unsigned char *row = NULL;
    memset(&jpeg, 0, sizeof jpeg);
    jpeg.err = jpeg_std_error(&context.manager);
    context.manager.error_exit = on_error;
    context.manager.emit_message = on_message;
    int status = read_guarded(pic, &jpeg, file, &row);
    free(row);
    jpeg_destroy_decompress(&jpeg);
    return status;
}

#else

int picture_read_jpeg(picture *pic, FILE *file, const char *path)
{
    (void)pic;
    (void)file;
    return command_fail(EXIT_IO, "%s: this natten was built without libjpeg", path);
}

#endif
