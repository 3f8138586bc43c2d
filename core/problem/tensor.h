/* SPDX-License-Identifier: MIT
 *
 * Questions about one tensor's descriptor that know nothing of attention: type, device,
 * strides, memory.  Every function here that returns a status says in its sentence
 * which tensor, by the `name` that it is given. */
#ifndef NATTEN_PROBLEM_TENSOR_H
#define NATTEN_PROBLEM_TENSOR_H

#include "base/dtype.h"
#include "problem/extent.h"

#include <natten.h>

/* The descriptor's element type, if it is one of ours. */
natten_status natten_tensor_check_dtype(const natten_tensor *tensor, const char *name,
                                        natten_dtype *dtype);
/* The tensor is in the memory of a kind of device that the library knows. */
natten_status natten_tensor_check_device(const natten_tensor *tensor, const char *name);
/* It is where tensor `first` is. */
natten_status natten_tensor_check_together(const natten_tensor *tensor,
                                           const char *name, int32_t device_type,
                                           int32_t device_id, const char *first);

/* Stride of dimension n, 0 where there is one element; the shape has been checked and
 * the number of elements fits in 63 bits. */
int64_t natten_tensor_stride(const natten_tensor *tensor, int n);
/* Address of the first element. */
void *natten_tensor_address(const natten_tensor *tensor);

/* No stride is negative. */
natten_status natten_tensor_check_strides(const natten_tensor *tensor,
                                          const char *name);
/* The memory exists, is aligned to elements and ends below 2^63; *extent is that
 * memory. An output's elements must be apart from each other. */
natten_status natten_tensor_check_memory(const natten_tensor *tensor, const char *name,
                                         natten_dtype dtype, bool output,
                                         natten_extent *extent);
/* The sizes' product times the bytes of an element, times 1 if there are none; false if
 * it does not fit in 63 bits. */
bool natten_tensor_bytes(const int64_t *shape, int ndim, natten_dtype dtype,
                         int64_t *bytes);

#endif
