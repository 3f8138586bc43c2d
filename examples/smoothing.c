/* SPDX-License-Identifier: MIT
 *
 * Smoothing a noisy step, 1-D: samples attend to the samples around them that have
 * similar values, so that the noise goes and the edge stays (a bilateral filter).  With
 * query (x, 1) and key (x, -x^2 / 2) the logit is -(x_i - x_j)^2 / 2, up to a constant.
 */
#include <natten.h>

#include <math.h>
#include <stdio.h>

enum { LENGTH = 400, WINDOW = 41 };
static const double noise = 0.1,
                    width = 0.3; /* of the noise; of what counts as similar */

static double clean[LENGTH], noisy[LENGTH], smooth[LENGTH];
static double query[LENGTH][2], key[LENGTH][2];

/* [batch, length, heads, size] */
static natten_tensor tensor(double *data, int64_t shape[4])
{
    natten_tensor t = {.data = data,
                       .device_type = NATTEN_CPU,
                       .ndim = 4,
                       .dtype_code = NATTEN_FLOAT,
                       .dtype_bits = 64,
                       .dtype_lanes = 1,
                       .shape = shape};
    return t;
}

/* Root of the mean squared difference from the clean signal. */
static double error(const double *signal)
{
    double sum = 0;
    for (int i = 0; i < LENGTH; i++)
        sum += (signal[i] - clean[i]) * (signal[i] - clean[i]);
    return sqrt(sum / LENGTH);
}

int main(void)
{
    for (int i = 0, x = 1; i < LENGTH; i++) {
        double gauss = -6; /* twelve uniform numbers less their mean */
        for (int n = 0; n < 12; n++) {
            x = (x * 171 + 11213) % 53125;
            gauss += x / 53125.0;
        }
        clean[i] = i < LENGTH / 2 ? 0 : 1;
        noisy[i] = clean[i] + noise * gauss;
        query[i][0] = key[i][0] = noisy[i] / width;
        query[i][1] = 1;
        key[i][1] = -key[i][0] * key[i][0] / 2;
    }
    int64_t pairs[] = {1, LENGTH, 1, 2}, singles[] = {1, LENGTH, 1, 1};
    natten_tensor q = tensor(query[0], pairs), k = tensor(key[0], pairs);
    natten_tensor v = tensor(noisy, singles), o = tensor(smooth, singles);
    natten_params params;
    natten_params_init(&params, sizeof params, 1);
    params.kernel_size[0] = WINDOW;
    params.has_scale = 1;
    params.scale = 1;
    if (natten_forward(&params, &q, &k, &v, NULL, NULL, NULL, &o, NULL, NULL, 0,
                       NULL)) {
        fprintf(stderr, "%s\n", natten_last_error());
        return 1;
    }
    printf("error %.3f before, %.3f after; the step is %.2f high\n", error(noisy),
           error(smooth), smooth[LENGTH / 2 + 1] - smooth[LENGTH / 2 - 2]);
    return error(smooth) > error(noisy) / 3;
}
