/* SPDX-License-Identifier: MIT
 *
 * Element types and their conversions: the one place that knows what bf16 and fp16 bits
 * mean.  Scalar and exact; the vector pages in cpu/simd have their own words for the
 * same conversions, and tests hold them against these. */
#ifndef NATTEN_BASE_DTYPE_H
#define NATTEN_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum natten_dtype {
    NATTEN_FP64,
    NATTEN_FP32,
    NATTEN_BF16,
    NATTEN_FP16,
    NATTEN_DTYPES /* how many there are */
} natten_dtype;

/* Bytes of one element. */
size_t natten_dtype_bytes(natten_dtype dtype);
/* "fp64", "fp32", "bf16", "fp16". */
const char *natten_dtype_name(natten_dtype dtype);
/* The type that sums, bias and lse have: fp64 for fp64, fp32 for the others. */
natten_dtype natten_dtype_accumulator(natten_dtype dtype);
/* From DLPack's code and bits; false if it is none of ours. */
bool natten_dtype_from_dlpack(uint8_t code, uint8_t bits, uint16_t lanes,
                              natten_dtype *dtype);
void natten_dtype_to_dlpack(natten_dtype dtype, uint8_t *code, uint8_t *bits);
/* From its name; false if it is none of ours. */
bool natten_dtype_from_name(const char *name, natten_dtype *dtype);

/* Exact widening of stored bits. */
float natten_dtype_bf16_to_float(uint16_t bits);
float natten_dtype_fp16_to_float(uint16_t bits);
/* Rounding to nearest, ties to even; NaN stays NaN, overflow becomes infinity. Directly
 * from double, so that a value is rounded once. */
uint16_t natten_dtype_bf16_from_double(double value);
uint16_t natten_dtype_fp16_from_double(double value);

/* Element `index` of an array of `dtype`, as double; and back with one rounding. */
double natten_dtype_load(natten_dtype dtype, const void *data, int64_t index);
void natten_dtype_store(natten_dtype dtype, void *data, int64_t index, double value);

#endif
