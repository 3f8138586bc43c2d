/* SPDX-License-Identifier: MIT
 *
 * A stream: frames come one at a time, and each sees itself and the four before it.  A
 * ring of keys and values is kept; each new frame is a part of the grid of all frames,
 * its keys another.  The results are, bit for bit, those of one call with all frames.
 */
#include <natten.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 40, WINDOW = 5, HEADS = 2, DIM = 8, SIZE = HEADS * DIM };

static float frames[FRAMES][SIZE], at_once[FRAMES][SIZE], streamed[FRAMES][SIZE];

/* [batch, length, heads, head_dim] of so many frames. */
static natten_tensor tensor(float *data, int64_t length, int64_t shape[4])
{
    const int64_t sizes[] = {1, length, HEADS, DIM};
    memcpy(shape, sizes, sizeof sizes);
    natten_tensor t = {.data = data,
                       .device_type = NATTEN_CPU,
                       .ndim = 4,
                       .dtype_code = NATTEN_FLOAT,
                       .dtype_bits = 32,
                       .dtype_lanes = 1,
                       .shape = shape};
    return t;
}

/* Frames [begin, begin + count) attend to frames [first, begin + count), kept in
 * `cache`. */
static void attend(float *query, int64_t begin, int64_t count, float *cache,
                   int64_t first, float *out)
{
    int64_t shape[3][4];
    natten_tensor q = tensor(query, count, shape[0]), o = tensor(out, count, shape[2]);
    natten_tensor kv = tensor(cache, begin + count - first, shape[1]);
    natten_params params;
    natten_params_init(&params, sizeof params, 1);
    params.kernel_size[0] = WINDOW;
    params.is_causal[0] = 1;
    params.grid_length[0] = FRAMES; /* an open end: any length that is never reached */
    params.query_begin[0] = begin;
    params.key_begin[0] = first;
    if (natten_forward(&params, &q, &kv, &kv, NULL, NULL, NULL, &o, NULL, NULL, 0,
                       NULL)) {
        fprintf(stderr, "%s\n", natten_last_error());
        exit(1);
    }
}

int main(void)
{
    static float cache[WINDOW][SIZE];
    int kept = 0;
    for (int i = 0; i < FRAMES * SIZE; i++)
        (&frames[0][0])[i] = (float)(i * 7919 % 1009) / 1009;
    attend(frames[0], 0, FRAMES, frames[0], 0, at_once[0]);
    for (int f = 0; f < FRAMES; f++) {
        if (kept == WINDOW) /* the oldest goes */
            memmove(cache[0], cache[1], sizeof cache - sizeof cache[0]);
        else
            kept++;
        memcpy(cache[kept - 1], frames[f], sizeof frames[f]);
        attend(frames[f], f, 1, cache[0], f + 1 - kept, streamed[f]);
    }
    int same = memcmp(at_once, streamed, sizeof streamed) == 0;
    printf("%d frames, one at a time: %s bits as all at once\n", FRAMES,
           same ? "the same" : "other");
    return !same;
}
