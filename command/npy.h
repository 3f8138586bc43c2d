/* SPDX-License-Identifier: MIT
 *
 * Arrays in NumPy's .npy files, versions 1 to 3, C and Fortran order, either byte
 * order. A file in Fortran order becomes a strided tensor: nothing is copied.  The
 * reader trusts nothing: sizes are checked for overflow and against the file before
 * memory is asked for. */
#ifndef NATTEN_COMMAND_NPY_H
#define NATTEN_COMMAND_NPY_H

#include "element.h"

#include <natten.h>

#include <stdio.h>

#define NPY_MAX_NDIM 8

/* An array and its memory.  The tensor points into the struct, which must not move. All
 * zeros is an empty one that npy_free() takes too. */
typedef struct npy_array {
    natten_tensor tensor;
    int64_t shape[NPY_MAX_NDIM];
    int64_t strides[NPY_MAX_NDIM]; /* in elements */
    int64_t count;                 /* elements */
    element kind;
} npy_array;

/* Each prints what is wrong and returns an exit status, EXIT_FINE when all is well. */
int npy_read(npy_array *array, const char *path);
/* A new compact array in C order, memory uninitialised; `what` names it in messages. */
int npy_allocate(npy_array *array, element kind, int ndim, const int64_t *shape,
                 const char *what);
/* Elements converted to `kind`; uint16 to bf16 is taken as bits. */
int npy_convert(npy_array *array, element kind, const char *what);

/* Write a compact C-order array; false on failure, with errno set. */
bool npy_write(FILE *file, const npy_array *array);

void npy_free(npy_array *array);

#endif
