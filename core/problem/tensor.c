/* SPDX-License-Identifier: MIT
 *
 * A tensor's memory.  All arithmetic on sizes and strides that a caller gave goes
 * through the compiler's checked forms. */
#include "problem/tensor.h"

#include "base/status.h"

#include <inttypes.h>

natten_status natten_tensor_check_dtype(const natten_tensor *tensor, const char *name,
                                        natten_dtype *dtype)
{
    if (natten_dtype_from_dlpack(tensor->dtype_code, tensor->dtype_bits,
                                 tensor->dtype_lanes, dtype))
        return NATTEN_OK;
    return natten_status_fail(
        NATTEN_ERR_DTYPE,
        "%s.dtype is code %d, %d bits, %d lanes: none of fp64, fp32, bf16, fp16", name,
        tensor->dtype_code, tensor->dtype_bits, tensor->dtype_lanes);
}

natten_status natten_tensor_check_device(const natten_tensor *tensor, const char *name)
{
    if (tensor->device_type != NATTEN_CPU && tensor->device_type != NATTEN_CUDA)
        return natten_status_fail(NATTEN_ERR_DEVICE,
                                  "%s.device_type=%" PRId32
                                  " not in [1, 2] (the CPU, CUDA)",
                                  name, tensor->device_type);
    bool cpu = tensor->device_type == NATTEN_CPU;
    if (tensor->device_id < 0 || (cpu && tensor->device_id != 0))
        return natten_status_fail(
            NATTEN_ERR_DEVICE, "%s.device_id=%" PRId32 " not in [0, %" PRId32 "] (%s)",
            name, tensor->device_id, cpu ? 0 : INT32_MAX, cpu ? "the CPU" : "CUDA");
    return NATTEN_OK;
}

natten_status natten_tensor_check_together(const natten_tensor *tensor,
                                           const char *name, int32_t device_type,
                                           int32_t device_id, const char *first)
{
    if (tensor->device_type == device_type && tensor->device_id == device_id)
        return NATTEN_OK;
    return natten_status_fail(
        NATTEN_ERR_DEVICE,
        "%s is on device %" PRId32 " of type %" PRId32 ", but %s on device %" PRId32
        " of type %" PRId32 " (1 is the CPU, 2 CUDA)",
        name, tensor->device_id, tensor->device_type, first, device_id, device_type);
}

bool natten_tensor_bytes(const int64_t *shape, int ndim, natten_dtype dtype,
                         int64_t *bytes)
{
    *bytes = (int64_t)natten_dtype_bytes(dtype);
    for (int n = 0; n < ndim; n++) /* a size of 0 must not hide an overflow beside it */
        if (shape[n] > 1 && __builtin_mul_overflow(*bytes, shape[n], bytes))
            return false;
    return true;
}

int64_t natten_tensor_stride(const natten_tensor *tensor, int n)
{
    if (tensor->shape[n] <= 1)
        return 0;
    if (tensor->strides)
        return tensor->strides[n];
    int64_t stride = 1;
    for (int inner = n + 1; inner < tensor->ndim; inner++)
        stride *= tensor->shape[inner];
    return stride;
}

void *natten_tensor_address(const natten_tensor *tensor)
{
    /* As an integer: adding to a NULL pointer, legal here for empty tensors, is not C.
     */
    return (void *)((uintptr_t)tensor->data + (uintptr_t)tensor->byte_offset);
}

natten_status natten_tensor_check_strides(const natten_tensor *tensor, const char *name)
{
    for (int n = 0; n < tensor->ndim; n++)
        if (natten_tensor_stride(tensor, n) < 0)
            return natten_status_fail(NATTEN_ERR_LAYOUT,
                                      "%s has a negative stride, %" PRId64, name,
                                      tensor->strides[n]);
    return NATTEN_OK;
}

/* Are the elements apart? Sorted by stride, each step must be longer than everything
 * that the smaller ones span. This refuses a few exotic layouts that happen to be
 * apart. */
static bool apart(const natten_extent *extent)
{
    int64_t size[NATTEN_TENSOR_DIMS], stride[NATTEN_TENSOR_DIMS];
    for (int n = 0; n < extent->dims; n++) {
        int at = n;
        for (; at > 0 && stride[at - 1] > extent->stride[n]; at--) {
            size[at] = size[at - 1];
            stride[at] = stride[at - 1];
        }
        size[at] = extent->size[n];
        stride[at] = extent->stride[n];
    }
    int64_t span = extent->bytes;
    for (int n = 0; n < extent->dims; n++) {
        if (stride[n] < span)
            return false;
        span += (size[n] - 1) * stride[n]; /* at most end - begin */
    }
    return true;
}

static natten_status too_far(const char *name)
{
    return natten_status_fail(NATTEN_ERR_OVERFLOW,
                              "%s: shape, strides and byte_offset reach past 63 bits",
                              name);
}

natten_status natten_tensor_check_memory(const natten_tensor *tensor, const char *name,
                                         natten_dtype dtype, bool output,
                                         natten_extent *extent)
{
    *extent = (natten_extent){.bytes = (int64_t)natten_dtype_bytes(dtype)};
    int64_t reach =
        extent->bytes; /* bytes from the first element to the end of the last */
    for (int n = 0; n < tensor->ndim; n++) {
        if (tensor->shape[n] == 0)
            return NATTEN_OK;
        if (tensor->shape[n] == 1)
            continue;
        int64_t stride, span;
        if (__builtin_mul_overflow(natten_tensor_stride(tensor, n), extent->bytes,
                                   &stride) ||
            __builtin_mul_overflow(stride, tensor->shape[n] - 1, &span) ||
            __builtin_add_overflow(reach, span, &reach))
            return too_far(name);
        extent->size[extent->dims] = tensor->shape[n];
        extent->stride[extent->dims++] = stride;
    }
    if (!tensor->data)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s.data is NULL", name);
    int64_t first, end;
    if (__builtin_add_overflow((uintptr_t)tensor->data, tensor->byte_offset, &first) ||
        __builtin_add_overflow(first, reach, &end))
        return too_far(name);
    if (first % extent->bytes != 0)
        return natten_status_fail(NATTEN_ERR_LAYOUT,
                                  "%s is at address 0x%" PRIx64
                                  ", not a multiple of its element's %" PRId64 " bytes",
                                  name, first, extent->bytes);
    extent->begin = (uintptr_t)first;
    extent->end = (uintptr_t)end;
    if (output && !apart(extent))
        return natten_status_fail(
            NATTEN_ERR_LAYOUT, "%s is written, but its strides make elements overlap",
            name);
    return NATTEN_OK;
}

/* Width of the interval that the elements fill modulo `period`, from begin on; more
 * than `period` if it is not one interval. */
static int64_t width_modulo(const natten_extent *extent, int64_t period)
{
    int64_t width = extent->bytes;
    for (int n = 0; n < extent->dims; n++)
        if (extent->stride[n] % period != 0)
            width +=
                (extent->size[n] - 1) * extent->stride[n]; /* at most end - begin */
    return width;
}

/* Slices of one array, say query, key and value out of [..., 3, heads, head_dim], lie
 * in different places modulo the array's stride. */
static bool interleaved(const natten_extent *a, const natten_extent *b, int64_t period)
{
    if (period <= 0)
        return false;
    int64_t width_a = width_modulo(a, period), width_b = width_modulo(b, period);
    if (width_a > period || width_b > period)
        return false;
    int64_t from_a = ((int64_t)b->begin - (int64_t)a->begin) % period;
    if (from_a < 0)
        from_a += period;
    return from_a >= width_a && from_a + width_b <= period;
}

bool natten_extent_overlap(const natten_extent *a, const natten_extent *b)
{
    if (a->begin == a->end || b->begin == b->end || a->end <= b->begin ||
        b->end <= a->begin)
        return false;
    for (int n = 0; n < a->dims; n++)
        if (interleaved(a, b, a->stride[n]))
            return false;
    for (int n = 0; n < b->dims; n++)
        if (interleaved(a, b, b->stride[n]))
            return false;
    return true;
}
