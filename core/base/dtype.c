/* SPDX-License-Identifier: MIT
 *
 * Element types, on the bits: integer arithmetic only, so that neither the rounding
 * mode nor a flush-to-zero flag of the caller changes a conversion. */
#include "base/dtype.h"

#include <natten.h>

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    uint8_t code, bits;
    natten_dtype accumulator;
} dtypes[NATTEN_DTYPES] = {
    [NATTEN_FP64] = {"fp64", NATTEN_FLOAT, 64, NATTEN_FP64},
    [NATTEN_FP32] = {"fp32", NATTEN_FLOAT, 32, NATTEN_FP32},
    [NATTEN_BF16] = {"bf16", NATTEN_BFLOAT, 16, NATTEN_FP32},
    [NATTEN_FP16] = {"fp16", NATTEN_FLOAT, 16, NATTEN_FP32},
};

size_t natten_dtype_bytes(natten_dtype dtype)
{
    return dtypes[dtype].bits / 8;
}

const char *natten_dtype_name(natten_dtype dtype)
{
    return dtypes[dtype].name;
}

natten_dtype natten_dtype_accumulator(natten_dtype dtype)
{
    return dtypes[dtype].accumulator;
}

bool natten_dtype_from_dlpack(uint8_t code, uint8_t bits, uint16_t lanes,
                              natten_dtype *dtype)
{
    for (int i = 0; i < NATTEN_DTYPES; i++)
        if (dtypes[i].code == code && dtypes[i].bits == bits && lanes == 1) {
            *dtype = (natten_dtype)i;
            return true;
        }
    return false;
}

void natten_dtype_to_dlpack(natten_dtype dtype, uint8_t *code, uint8_t *bits)
{
    *code = dtypes[dtype].code;
    *bits = dtypes[dtype].bits;
}

bool natten_dtype_from_name(const char *name, natten_dtype *dtype)
{
    for (int i = 0; i < NATTEN_DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            *dtype = (natten_dtype)i;
            return true;
        }
    return false;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float natten_dtype_bf16_to_float(uint16_t bits)
{
    return float_of_bits((uint32_t)bits << 16);
}

float natten_dtype_fp16_to_float(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) {
        if (fraction == 0)
            return float_of_bits(sign);
        /* A subnormal of fp16 is a normal number of fp32: move its top bit into place.
         */
        int shift = __builtin_clz(fraction) - 21;
        exponent = (uint32_t)(1 - shift);
        fraction = fraction << shift & 0x3ff;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* `value` in a 16-bit format of `fraction_bits` stored fraction bits, the rest
 * exponent. */
static uint16_t narrow(double value, int fraction_bits)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    int bias = (1 << (14 - fraction_bits)) - 1;
    uint16_t infinity = (uint16_t)((2 * bias + 1) << fraction_bits);
    int exponent = (int)(bits >> 52 & 0x7ff);
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    if (exponent == 0x7ff) {
        uint16_t payload = (uint16_t)(fraction >> (52 - fraction_bits));
        uint16_t quiet = (uint16_t)(1 << (fraction_bits - 1));
        return fraction ? sign | infinity | quiet | payload : sign | infinity;
    }
    if (exponent == 0) /* a subnormal double: far below half of the smallest result */
        return sign;
    int e = exponent - 1023 + bias; /* biased exponent of the result */
    if (e > 2 * bias)
        return sign | infinity;
    fraction |= UINT64_C(1) << 52;
    int drop = 52 - fraction_bits + (e < 1 ? 1 - e : 0);
    if (drop > 54)
        return sign;
    uint64_t kept = fraction >> drop, rest = fraction & ((UINT64_C(1) << drop) - 1);
    uint64_t half = UINT64_C(1) << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1));
    /* The hidden bit carries into the exponent, and a round-up carries on into
     * infinity. */
    uint64_t base = e < 1 ? 0 : (uint64_t)(e - 1) << fraction_bits;
    return sign | (uint16_t)(base + kept);
}

uint16_t natten_dtype_bf16_from_double(double value)
{
    return narrow(value, 7);
}

uint16_t natten_dtype_fp16_from_double(double value)
{
    return narrow(value, 10);
}

double natten_dtype_load(natten_dtype dtype, const void *data, int64_t index)
{
    switch (dtype) {
    case NATTEN_FP64:
        return ((const double *)data)[index];
    case NATTEN_FP32:
        return (double)((const float *)data)[index];
    case NATTEN_BF16:
        return (double)natten_dtype_bf16_to_float(((const uint16_t *)data)[index]);
    case NATTEN_FP16:
        return (double)natten_dtype_fp16_to_float(((const uint16_t *)data)[index]);
    default:
        return (double)NAN;
    }
}

void natten_dtype_store(natten_dtype dtype, void *data, int64_t index, double value)
{
    switch (dtype) {
    case NATTEN_FP64:
        ((double *)data)[index] = value;
        break;
    case NATTEN_FP32:
        ((float *)data)[index] = (float)value;
        break;
    case NATTEN_BF16:
        ((uint16_t *)data)[index] = natten_dtype_bf16_from_double(value);
        break;
    case NATTEN_FP16:
        ((uint16_t *)data)[index] = natten_dtype_fp16_from_double(value);
        break;
    default:
        break;
    }
}
