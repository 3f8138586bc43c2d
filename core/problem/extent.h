/* SPDX-License-Identifier: MIT
 *
 * The bytes of a strided tensor as a set, and whether such sets meet.  A result may
 * have any strides that keep its elements apart and off all other tensors, so both
 * questions are decided exactly; see extent.c for the one exception. */
#ifndef NATTEN_PROBLEM_EXTENT_H
#define NATTEN_PROBLEM_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

/* Most dimensions that a tensor of ours has: batch, three axes, head, item. */
enum { NATTEN_TENSOR_DIMS = 6 };

/* `bytes` bytes at every begin + sum of i[n] stride[n], 0 <= i[n] < size[n]. Sizes are
 * larger than 1; strides, in bytes, are not negative. */
typedef struct natten_extent {
    uintptr_t begin, end; /* of all of it; equal if there are no elements */
    int64_t bytes;        /* of one element */
    int dims;
    int64_t size[NATTEN_TENSOR_DIMS];
    int64_t stride[NATTEN_TENSOR_DIMS];
} natten_extent;

/* Do the two share a byte? */
bool natten_extent_overlap(const natten_extent *a, const natten_extent *b);
/* Do two elements of one extent share a byte? Its strides are multiples of `bytes`. */
bool natten_extent_folds(const natten_extent *extent);

#endif
