/* SPDX-License-Identifier: MIT
 *
 * OpenBLAS by dlopen: the benchmark needs no package to be built. */
#include "yardstick.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

enum { SIZE = 1536, ROW_MAJOR = 101, NO_TRANSPOSE = 111 };

typedef void sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k,
                   float alpha, const float *a, int lda, const float *b, int ldb,
                   float beta, float *c, int ldc);

static sgemm *product;
static float *matrix[3];

static clockid_t timer = CLOCK_MONOTONIC;

double yardstick_now(void)
{
    struct timespec t;
    clock_gettime(timer, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool yardstick_open(int threads)
{
    if (threads == 1)
        timer = CLOCK_PROCESS_CPUTIME_ID;
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
    /* The C standard has no cast from object to function pointer; POSIX does. */
    *(void **)&product = dlsym(library, "cblas_sgemm");
    void (*set_threads)(int);
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    if (!product || !set_threads)
        return false;
    set_threads(threads);
    for (int i = 0; i < 3; i++) {
        matrix[i] = malloc(sizeof(float) * SIZE * SIZE);
        if (!matrix[i])
            return false;
        for (int j = 0; j < SIZE * SIZE; j++)
            matrix[i][j] = (float)(j % 7) - 3;
    }
    return true;
}

double yardstick_sgemm(void)
{
    if (!matrix[2])
        return 0;
    double start = yardstick_now();
    product(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, SIZE, SIZE, SIZE, 1, matrix[0], SIZE,
            matrix[1], SIZE, 0, matrix[2], SIZE);
    return 2e-9 * SIZE * SIZE * SIZE / (yardstick_now() - start);
}
