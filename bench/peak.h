/* SPDX-License-Identifier: MIT
 *
 * Loops that keep a processor at one of its limits, once per instruction set: the code
 * is peak_words.h, in the words of core/cpu/simd/. */
#ifndef NATTEN_BENCH_PEAK_H
#define NATTEN_BENCH_PEAK_H

#include <stdint.h>

/* Independent chains of multiply-adds: more than latency x units of any processor, and
 * with two operands in 16 registers. */
enum { PEAK_CHAINS = 12 };

typedef struct peak {
    int lanes;
    /* PEAK_CHAINS multiply-adds of vectors, `rounds` times; their sum, a vector, goes
     * to `result`. */
    void (*multiply_add)(int64_t rounds, void *result);
    /* Load `bytes`, a multiple of 1024, and add them up to `result`, a vector. */
    void (*read)(const void *data, int64_t bytes, void *result);
} peak;

#endif
