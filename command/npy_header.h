/* SPDX-License-Identifier: MIT
 *
 * The text at the head of a .npy file: a Python dictionary with exactly the entries
 * descr, fortran_order and shape. */
#ifndef NATTEN_COMMAND_NPY_HEADER_H
#define NATTEN_COMMAND_NPY_HEADER_H

#include "npy.h"

typedef struct npy_header {
    element kind;
    bool swapped; /* the other byte order than this machine's */
    bool fortran_order;
    int ndim;
    int64_t shape[NPY_MAX_NDIM];
} npy_header;

/* Parse `text` (NUL-terminated). Returns NULL, or what is wrong, a static sentence. */
const char *npy_header_parse(npy_header *header, const char *text);

/* The byte order of this machine as NumPy writes it. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NPY_NATIVE_ORDER '<'
#else
#define NPY_NATIVE_ORDER '>'
#endif

#endif
