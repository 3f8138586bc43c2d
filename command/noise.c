/* SPDX-License-Identifier: MIT
 *
 * The generator, so that anybody can make the same noise: sample i takes outputs 2i and
 * 2i + 1 of splitmix64 from `seed` (state += 0x9e3779b97f4a7c15 before each output), u
 * and v, as (output >> 11) / 2^53; the noise is sigma sqrt(-2 ln(1 - u)) cos(2 pi v).
 */
#include "noise.h"

#include <math.h>

static double uniform(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (double)(z >> 11) / 9007199254740992.0;
}

void noise_add(picture *pic, double sigma, uint64_t seed)
{
    const double pi = 3.14159265358979323846;
    int64_t count = picture_samples(pic);
    for (int64_t i = 0; i < count; i++) {
        double radius = sqrt(-2 * log1p(-uniform(&seed)));
        double angle = 2 * pi * uniform(&seed);
        pic->samples[i] += (float)(sigma * radius * cos(angle));
    }
    picture_quantize(pic);
}

double noise_psnr(const picture *clean, const picture *pic)
{
    double sum = 0;
    int64_t count = picture_samples(clean);
    for (int64_t i = 0; i < count; i++) {
        double difference = (double)clean->samples[i] - (double)pic->samples[i];
        sum += difference * difference;
    }
    return 10 * log10(255.0 * 255.0 * (double)count / sum);
}
