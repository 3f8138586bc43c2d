/* SPDX-License-Identifier: MIT
 *
 * Tensors that own their memory, see array.h. */
#include "support/array.h"

#include <stdlib.h>
#include <string.h>

/* Large tensors begin at a cache line, as those of other libraries do: what needs it is
 * for them. */
static void *take(size_t bytes)
{
    enum { CACHE_LINE = 64, LARGE = 1 << 16 };
    void *memory = NULL;
    if (bytes < LARGE)
        memory = malloc(bytes > 0 ? bytes : 1);
    else if (posix_memalign(&memory, CACHE_LINE, bytes) != 0)
        memory = NULL;
    if (memory == NULL)
        abort(); /* a test without memory has nothing to say */
    return memory;
}

static void dlpack_of(natten_dtype dtype, natten_tensor *tensor)
{
    tensor->dtype_code = dtype == NATTEN_BF16 ? NATTEN_BFLOAT : NATTEN_FLOAT;
    tensor->dtype_bits = (uint8_t)(8 * natten_dtype_bytes(dtype));
    tensor->dtype_lanes = 1;
}

/* Strides of a layout with the dimensions in a random order and gaps in between, of
 * rows those before the last; the elements that they span. */
static int64_t draw_strides(array *a, int ndim, array_layout layout, randoms *r)
{
    bool broadcast = layout == ARRAY_BROADCAST, rows = layout == ARRAY_ROWS && ndim > 0;
    int64_t strip = rows ? 16 / (int64_t)natten_dtype_bytes(a->dtype) : 1;
    int order[ARRAY_RANK], drawn = rows ? ndim - 1 : ndim;
    for (int i = 0; i < ndim; i++)
        order[i] = i;
    for (int i = drawn - 1; i > 0; i--) {
        int j = (int)random_int(r, 0, i), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    int64_t span = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        if (broadcast && random_once_in(r, 8)) {
            a->strides[order[i]] = 0;
            continue;
        }
        a->strides[order[i]] = span;
        span *= a->shape[order[i]];
        if (random_once_in(r, 3))
            span += strip * random_int(r, 1, 3);
        span = (span + strip - 1) / strip * strip;
    }
    return span;
}

void array_make(array *a, natten_dtype dtype, int ndim, const int64_t *shape,
                array_layout layout, randoms *r)
{
    memset(a, 0, sizeof *a);
    a->dtype = dtype;
    memcpy(a->shape, shape, (size_t)ndim * sizeof *shape);
    int64_t span = 1, shift = 0;
    size_t each = natten_dtype_bytes(dtype);
    if (layout == ARRAY_COMPACT) {
        for (int i = ndim - 1; i >= 0; i--) {
            a->strides[i] = span;
            span *= shape[i];
        }
    } else {
        span = draw_strides(a, ndim, layout, r);
        shift = layout == ARRAY_ROWS ? 0 : random_int(r, 0, 3);
    }
    a->bytes = (size_t)(span + shift) * each;
    a->memory = take(a->bytes);
    natten_tensor *t = &a->tensor;
    t->data = a->memory;
    if (shift > 0 && random_once_in(r, 2))
        t->byte_offset = (uint64_t)shift * each;
    else
        t->data = a->memory + (size_t)shift * each;
    t->device_type = NATTEN_CPU;
    t->ndim = ndim;
    t->shape = a->shape;
    t->strides = layout == ARRAY_COMPACT ? NULL : a->strides;
    dlpack_of(dtype, t);
    array_poison(a);
}

void array_free(array *a)
{
    free(a->memory);
    free(a->before);
    memset(a, 0, sizeof *a);
}

int64_t array_count(const array *a)
{
    int64_t count = 1;
    for (int i = 0; i < a->tensor.ndim; i++)
        count *= a->shape[i];
    return count;
}

void *array_at(const array *a, int64_t index)
{
    int64_t offset = 0;
    for (int i = a->tensor.ndim - 1; i >= 0; i--) {
        offset += index % a->shape[i] * a->strides[i];
        index /= a->shape[i];
    }
    return (unsigned char *)a->tensor.data + a->tensor.byte_offset +
           (size_t)offset * natten_dtype_bytes(a->dtype);
}

double array_get(const array *a, int64_t index)
{
    return natten_dtype_load(a->dtype, array_at(a, index), 0);
}

void array_set(array *a, int64_t index, double value)
{
    natten_dtype_store(a->dtype, array_at(a, index), 0, value);
}

void array_assign(array *to, const array *from)
{
    size_t each = natten_dtype_bytes(from->dtype);
    for (int64_t i = 0; i < array_count(from); i++)
        memcpy(array_at(to, i), array_at(from, i), each);
}

void array_poison(array *a)
{
    memset(a->memory, 0xff, a->bytes);
}

void array_watch(array *a)
{
    if (a->before == NULL)
        a->before = take(a->bytes);
    memcpy(a->before, a->memory, a->bytes);
}

bool array_is_unchanged(const array *a)
{
    return memcmp(a->before, a->memory, a->bytes) == 0;
}

bool array_gaps_are_untouched(const array *a)
{
    unsigned char *bytes = take(a->bytes);
    memcpy(bytes, a->memory, a->bytes);
    size_t each = natten_dtype_bytes(a->dtype);
    for (int64_t i = 0; i < array_count(a); i++)
        memset(bytes + ((unsigned char *)array_at(a, i) - a->memory), 0xff, each);
    bool untouched = true;
    for (size_t i = 0; i < a->bytes; i++)
        untouched = untouched && bytes[i] == 0xff;
    free(bytes);
    return untouched;
}

bool array_same_bits(const array *a, int64_t i, const array *b, int64_t j)
{
    const void *x = array_at(a, i), *y = array_at(b, j);
    return memcmp(x, y, natten_dtype_bytes(a->dtype)) == 0 ||
           (isnan(natten_dtype_load(a->dtype, x, 0)) &&
            isnan(natten_dtype_load(b->dtype, y, 0)));
}

int64_t array_difference(const array *a, const array *b)
{
    for (int64_t i = 0; i < array_count(a); i++)
        if (!array_same_bits(a, i, b, i))
            return i;
    return -1;
}
