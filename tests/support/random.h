/* SPDX-License-Identifier: MIT
 *
 * Random numbers for tests: a counter run through a mixer, so that a seed always gives
 * the same test on every machine. */
#ifndef NATTEN_TESTS_SUPPORT_RANDOM_H
#define NATTEN_TESTS_SUPPORT_RANDOM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct randoms {
    uint64_t state;
} randoms;

static inline uint64_t random_bits(randoms *r)
{
    /* Sebastiano Vigna's splitmix64, public domain: a Weyl sequence and a finalizer. */
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* From low to high, both included. */
static inline int64_t random_int(randoms *r, int64_t low, int64_t high)
{
    return low + (int64_t)(random_bits(r) % (uint64_t)(high - low + 1));
}

/* True once in `times`. */
static inline bool random_once_in(randoms *r, int64_t times)
{
    return random_int(r, 1, times) == 1;
}

/* In [0, 1). */
static inline double random_unit(randoms *r)
{
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

/* Standard normal. */
static inline double random_normal(randoms *r)
{
    double radius = sqrt(-2 * log(1 - random_unit(r)));
    return radius * cos(6.283185307179586 * random_unit(r));
}

#endif
