/* SPDX-License-Identifier: MIT
 *
 * The shortest whole program: attention of an 8 x 8 grid, each token with the 3 x 3
 * tokens around it.  Keys are alike, so that each result is the mean of a window's
 * values. */
#include <natten.h>

#include <stdio.h>

enum { HEIGHT = 8, WIDTH = 8, HEADS = 1, DIM = 4 };

static float query[HEIGHT][WIDTH][HEADS][DIM];
static float key[HEIGHT][WIDTH][HEADS][DIM];
static float value[HEIGHT][WIDTH][HEADS][DIM];
static float out[HEIGHT][WIDTH][HEADS][DIM];

/* [batch, height, width, heads, head_dim]; no strides: compact, row-major. */
static natten_tensor tensor(void *data)
{
    static int64_t shape[] = {1, HEIGHT, WIDTH, HEADS, DIM};
    natten_tensor t = {.data = data,
                       .device_type = NATTEN_CPU,
                       .ndim = 5,
                       .dtype_code = NATTEN_FLOAT,
                       .dtype_bits = 32,
                       .dtype_lanes = 1,
                       .shape = shape};
    return t;
}

int main(void)
{
    natten_params params;
    natten_tensor q = tensor(query), k = tensor(key), v = tensor(value),
                  o = tensor(out);

    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            value[y][x][0][0] = (float)(y * WIDTH + x);

    natten_params_init(&params, sizeof params, 2);
    params.kernel_size[0] = params.kernel_size[1] = 3;
    if (natten_forward(&params, &q, &k, &v, NULL, NULL, NULL, &o, NULL, NULL, 0,
                       NULL)) {
        fprintf(stderr, "%s\n", natten_last_error());
        return 1;
    }
    /* At the border the window shifts inward: the corner sees rows 0 to 2. */
    printf("value %4.1f at row 4, column 4: the mean around it is %4.1f\n",
           (double)value[4][4][0][0], (double)out[4][4][0][0]);
    printf("value %4.1f in the corner: the mean of its window is %4.1f\n",
           (double)value[0][0][0][0], (double)out[0][0][0][0]);
    double wrong = (double)out[4][4][0][0] - 36 + (double)out[0][0][0][0] - 9;
    return wrong < -1e-4 || wrong > 1e-4;
}
