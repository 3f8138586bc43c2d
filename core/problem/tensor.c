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
    /* As an integer: C can't add to a NULL pointer, which is legal for empty tensors.
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
    extent->begin = extent->end = 0;
    extent->bytes = (int64_t)natten_dtype_bytes(dtype);
    extent->dims = 0;
    /* From the first byte of the first element to the last of the last. */
    int64_t reach = extent->bytes;
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
    if (output && natten_extent_folds(extent))
        return natten_status_fail(
            NATTEN_ERR_LAYOUT, "%s is written, but its strides make elements overlap",
            name);
    return NATTEN_OK;
}
