/* SPDX-License-Identifier: MIT
 *
 * A tensor that owns its memory, for tests: element access by row-major index whatever
 * the layout, layouts as awkward as the library must take, and a watch on every byte
 * that a call has no business to write. */
#ifndef NATTEN_TESTS_SUPPORT_ARRAY_H
#define NATTEN_TESTS_SUPPORT_ARRAY_H

#include "base/dtype.h"
#include "support/random.h"

#include <natten.h>

/* Most dimensions of a tensor: batch, three axes, heads, head dim. */
enum { ARRAY_RANK = 6 };

typedef struct array {
    natten_tensor tensor; /* its shape and strides point to the arrays below */
    int64_t shape[ARRAY_RANK], strides[ARRAY_RANK];
    natten_dtype dtype;
    unsigned char *memory; /* all bytes, the elements and what lies between them */
    unsigned char *before; /* the same when array_watch() was called */
    size_t bytes;
} array;

/* How an array lies in memory. */
typedef enum array_layout {
    ARRAY_COMPACT,
    ARRAY_ANY,      /* dimensions in any order, gaps, off by some elements */
    ARRAY_ROWS,     /* the last dimension whole, and what it consists of in strips of 16
                       bytes; the others in any order, with gaps */
    ARRAY_BROADCAST /* ARRAY_ANY, and some dimensions with stride 0: for inputs */
} array_layout;

/* Make an array of NaN; free it with array_free(). `r` draws the layout. The array must
 * stay where it is: its tensor points into it. */
void array_make(array *a, natten_dtype dtype, int ndim, const int64_t *shape,
                array_layout layout, randoms *r);
void array_free(array *a); /* also of an array of zeros */

/* Element `index`, counted in row-major order of the shape. */
int64_t array_count(const array *a);
void *array_at(const array *a, int64_t index);
double array_get(const array *a, int64_t index);
void array_set(array *a, int64_t index, double value);

/* to[i] = from[i] for arrays of one shape. */
void array_assign(array *to, const array *from);
/* Every byte 0xff, which is NaN in every type. */
void array_poison(array *a);

/* Remember all bytes; and whether they are still the same. For inputs. */
void array_watch(array *a);
bool array_is_unchanged(const array *a);
/* Whether the bytes between the elements are still those of array_poison(). For
 * results. */
bool array_gaps_are_untouched(const array *a);

/* Do element i of `a` and element j of `b`, of one type, have the same bits? Any NaN is
 * the same as any other: which sign or payload comes out is the processor's choice. */
bool array_same_bits(const array *a, int64_t i, const array *b, int64_t j);
/* First element whose bits differ, or -1. */
int64_t array_difference(const array *a, const array *b);

#endif
