/* SPDX-License-Identifier: MIT
 *
 * Non-local means as attention.  The weight of pixel j for pixel i is exp(-|p_i -
 * p_j|^2 / h^2), normalised.  Of the square, |p_i|^2 is the same for all j and drops
 * out of the softmax, so that with f = p sqrt(2) / h
 *
 *     logit_ij = <f_i, f_j> - |f_j|^2 / 2 = <(f_i, 1), (f_j, -|f_j|^2 / 2)>
 *
 * which is attention with queries (f, 1), keys (f, -|f|^2 / 2), scale 1 and pixels as
 * values.  A pixel's distance to itself is 0, while that to an equally good other one
 * is what the noise puts between them, 2 sigma^2 (of which noise_share is left):
 * without a correction each pixel would trust its own noise too much.  The correction
 * is one entry of the relative position bias, that of the centre.
 *
 * The picture is computed in bands of rows, parts of the grid: after each the progress
 * bar moves. */
#include "nonlocal.h"

#include "command.h"
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A compact tensor [1, frames, height, width, 1, size]; 2-D pictures have no frames. */
typedef struct grid_tensor {
    natten_tensor tensor;
    int64_t shape[6], strides[6];
} grid_tensor;

/* All that the attention of a picture needs. */
typedef struct job {
    const nonlocal_options *options;
    natten_params params;
    grid_tensor query, key, value, out;
    natten_tensor bias;
    int64_t bias_shape[4];
    float *memory; /* of query, key and bias */
} job;

static void view(grid_tensor *made, const picture *pic, float *data, int64_t size,
                 int rank)
{
    const int64_t sizes[6] = {1, pic->frames, pic->height, pic->width, 1, size};
    memset(made, 0, sizeof *made);
    int ndim = rank + 3;
    for (int i = 0; i < ndim; i++)
        made->shape[i] = sizes[rank == 2 && i > 0 ? i + 1 : i];
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        made->strides[i] = stride;
        stride *= made->shape[i];
    }
    made->tensor = (natten_tensor){.data = data,
                                   .device_type = NATTEN_CPU,
                                   .ndim = ndim,
                                   .dtype_code = NATTEN_FLOAT,
                                   .dtype_bits = 32,
                                   .dtype_lanes = 1,
                                   .shape = made->shape,
                                   .strides = made->strides};
}

/* Cut a view to rows [begin, end); `axis` is that of the rows. */
static void cut(grid_tensor *made, const grid_tensor *whole, int axis, int64_t begin,
                int64_t end)
{
    *made = *whole;
    made->tensor.shape = made->shape;
    made->tensor.strides = made->strides;
    made->shape[axis] = end - begin;
    made->tensor.byte_offset = (uint64_t)(begin * made->strides[axis]) * sizeof(float);
}

/* Queries (f, 1) and keys (f, -|f|^2 / 2) from the features. */
static void fill(const features *from, int64_t tokens, double h, float *query,
                 float *key)
{
    float factor = (float)(sqrt(2) / h);
    const float *vector = from->vectors;
    for (int64_t i = 0; i < tokens; i++) {
        float square = 0;
        for (int64_t d = 0; d < from->count; d++) {
            float f = factor * *vector++;
            *query++ = *key++ = f;
            square += f * f;
        }
        *query++ = 1;
        *key++ = -square / 2;
    }
}

static int prepare(job *made, picture *clean, const picture *noisy,
                   const features *from, const nonlocal_options *options)
{
    int rank = noisy->frames > 1 || noisy->npy_ndim > 2 ? 3 : 2;
    int64_t tokens = noisy->frames * noisy->height * noisy->width;
    int64_t size = from->count + 1, entries = 1;
    int status =
        command_check(natten_params_init(&made->params, sizeof made->params, rank));
    if (status)
        return status;
    made->options = options;
    made->params.has_scale = 1;
    made->params.scale = 1;
    made->params.backend = options->backend;
    made->bias_shape[0] = 1;
    for (int a = 0; a < rank; a++) {
        int64_t window = options->search[a + 3 - rank];
        made->params.kernel_size[a] = window;
        made->params.grid_length[a] = a == rank - 1   ? noisy->width
                                      : a == rank - 2 ? noisy->height
                                                      : noisy->frames;
        made->bias_shape[1 + a] = 2 * window - 1;
        entries *= 2 * window - 1;
    }
    made->memory = calloc((size_t)(2 * tokens * size + entries), sizeof *made->memory);
    if (!made->memory)
        return command_fail(EXIT_IO, "out of memory");
    float *query = made->memory, *key = query + tokens * size,
          *bias = key + tokens * size;
    fill(from, tokens, options->h, query, key);
    double ratio = options->sigma / options->h;
    /* The entry of difference 0 on every axis is the middle one. */
    bias[entries / 2] = (float)(-2 * from->noise_share * ratio * ratio);
    view(&made->query, noisy, query, size, rank);
    view(&made->key, noisy, key, size, rank);
    view(&made->value, noisy, noisy->samples, noisy->channels, rank);
    view(&made->out, clean, clean->samples, noisy->channels, rank);
    made->bias = made->query.tensor;
    made->bias.data = bias;
    made->bias.ndim = rank + 1;
    made->bias.shape = made->bias_shape;
    made->bias.strides = NULL;
    return EXIT_FINE;
}

static int explain(const job *whole)
{
    char text[4096];
    natten_tensor there[3] = {whole->query.tensor, whole->key.tensor,
                              whole->value.tensor};
    for (int i = 0; i < 3 && whole->options->on_gpu; i++) {
        there[i].device_type = NATTEN_CUDA;
        there[i].device_id = whole->options->gpu;
    }
    int status =
        command_check(natten_plan_text(&whole->params, NATTEN_FORWARD, &there[0],
                                       &there[1], &there[2], NULL, text, sizeof text));
    if (!status)
        fprintf(stderr, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
    return status;
}

/* Attention of the rows [begin, end). The keys are cut to rows that hold all that these
 * see: a window's width to either side, and at a border, where windows shift inward, a
 * whole window. */
static int run_band(const job *whole, int64_t begin, int64_t end)
{
    int axis = whole->params.rank - 2; /* of the grid; one more in the tensors */
    int64_t height = whole->params.grid_length[axis];
    int64_t window = whole->params.kernel_size[axis];
    int64_t first = begin - window, last = end + window;
    first = first < height - window ? first : height - window;
    first = first > 0 ? first : 0;
    last = last > window ? last : window;
    last = last < height ? last : height;
    grid_tensor query, key, value, out;
    cut(&query, &whole->query, axis + 1, begin, end);
    cut(&out, &whole->out, axis + 1, begin, end);
    cut(&key, &whole->key, axis + 1, first, last);
    cut(&value, &whole->value, axis + 1, first, last);
    natten_params params = whole->params;
    params.query_begin[axis] = begin;
    params.key_begin[axis] = first;
    natten_status status =
        whole->options->on_gpu
            ? natten_forward_host(&params, &query.tensor, &key.tensor, &value.tensor,
                                  &whole->bias, NULL, NULL, &out.tensor, NULL,
                                  whole->options->gpu)
            : natten_forward(&params, &query.tensor, &key.tensor, &value.tensor,
                             &whole->bias, NULL, NULL, &out.tensor, NULL, NULL, 0,
                             NULL);
    return command_check(status);
}

int nonlocal_means(picture *clean, const picture *noisy,
                   const nonlocal_options *options)
{
    features made;
    job whole = {.memory = NULL};
    progress_show("denoise", 0);
    int status = features_make(&made, noisy, &options->features);
    if (!status)
        status = prepare(&whole, clean, noisy, &made, options);
    features_free(&made);
    if (!status && options->explain)
        status = explain(&whole);
    /* Bands cost their margins: where nobody watches, there is one. */
    int64_t height = noisy->height;
    int64_t rows = progress_visible() ? height / 24 + 1 : height;
    for (int64_t begin = 0; !status && begin < height; begin += rows) {
        int64_t end = begin + rows < height ? begin + rows : height;
        status = run_band(&whole, begin, end);
        progress_show("denoise", (double)end / (double)height);
    }
    progress_clear();
    free(whole.memory);
    return status;
}
