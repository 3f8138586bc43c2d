/* SPDX-License-Identifier: MIT
 *
 * OpenBLAS by dlopen: the benchmark needs no package to be built. */
#include "yardstick.h"

#include "machine/machine.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = YARDSTICK_SIZE, ROW_MAJOR = 101, NO_TRANSPOSE = 111 };

typedef void sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k,
                   float alpha, const float *a, int lda, const float *b, int ldb,
                   float beta, float *c, int ldc);
typedef void dgemm(int order, int transpose_a, int transpose_b, int m, int n, int k,
                   double alpha, const double *a, int lda, const double *b, int ldb,
                   double beta, double *c, int ldc);

static struct {
    sgemm *single_product;
    dgemm *double_product;
    void (*set_threads)(int);
    char *(*config)(void);
    float *single_matrix[3];
    double *double_matrix[3]; /* the last one is NULL: no OpenBLAS */
} blas;

static clockid_t timer = CLOCK_MONOTONIC;

double yardstick_now(void)
{
    struct timespec t;
    clock_gettime(timer, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void yardstick_alone(void)
{
    timer = CLOCK_THREAD_CPUTIME_ID;
}

static bool make_matrices(void)
{
    for (int i = 0; i < 3; i++) {
        blas.single_matrix[i] = malloc(sizeof(float) * SIZE * SIZE);
        blas.double_matrix[i] = malloc(sizeof(double) * SIZE * SIZE);
        if (!blas.single_matrix[i] || !blas.double_matrix[i]) {
            blas.double_matrix[2] = NULL;
            return false;
        }
        for (int j = 0; j < SIZE * SIZE; j++) {
            blas.single_matrix[i][j] = (float)(j % 7) - 3;
            blas.double_matrix[i][j] = j % 7 - 3;
        }
    }
    return true;
}

/* The kernels that suit this machine's instructions; NULL for those of any x86-64. */
static const char *core_type(void)
{
    natten_machine machine = natten_machine_get();
    if (machine.has_variant[NATTEN_VARIANT_AVX512])
        return "SkylakeX";
    return machine.has_variant[NATTEN_VARIANT_AVX2] ? "Haswell" : NULL;
}

/* A processor newer than OpenBLAS is, it knows nothing of and multiplies in SSE: a
 * yardstick of a fourth of the length. It chooses its kernels as it is loaded. */
static void *open_library(void)
{
    const char *name = "libopenblas.so.0";
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return NULL;
    char *(*config)(void);
    /* The C standard has no cast from object to function pointer; POSIX does. */
    *(void **)&config = dlsym(library, "openblas_get_config");
    if (!config || !strstr(config(), "Prescott") || !core_type() ||
        setenv("OPENBLAS_CORETYPE", core_type(), 0) != 0)
        return library;
    dlclose(library);
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

bool yardstick_open(void)
{
    /* Its threads spin for a tenth of a second after each product unless told
     * otherwise, and would share the processors with what is timed next. */
    setenv("OPENBLAS_THREAD_TIMEOUT", "4", 0);
    setenv("OMP_WAIT_POLICY", "passive", 0);
    void *library = open_library();
    if (!library)
        return false;
    *(void **)&blas.single_product = dlsym(library, "cblas_sgemm");
    *(void **)&blas.double_product = dlsym(library, "cblas_dgemm");
    *(void **)&blas.set_threads = dlsym(library, "openblas_set_num_threads");
    *(void **)&blas.config = dlsym(library, "openblas_get_config");
    return blas.single_product && blas.double_product && blas.set_threads &&
           blas.config && make_matrices();
}

const char *yardstick_name(void)
{
    return blas.double_matrix[2] ? blas.config() : NULL;
}

double yardstick_gemm(bool wide, int threads)
{
    if (!blas.double_matrix[2])
        return 0;
    blas.set_threads(threads);
    double start = yardstick_now();
    if (wide)
        blas.double_product(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, SIZE, SIZE, SIZE, 1,
                            blas.double_matrix[0], SIZE, blas.double_matrix[1], SIZE, 0,
                            blas.double_matrix[2], SIZE);
    else
        blas.single_product(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, SIZE, SIZE, SIZE, 1,
                            blas.single_matrix[0], SIZE, blas.single_matrix[1], SIZE, 0,
                            blas.single_matrix[2], SIZE);
    return 2e-9 * SIZE * SIZE * SIZE / (yardstick_now() - start);
}
