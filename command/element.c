/* SPDX-License-Identifier: MIT
 *
 * The table of element types and their conversions.  16-bit floats are made from
 * doubles in one rounding: by way of fp32 some ties would be rounded twice. */
#include "element.h"

#include <math.h>
#include <string.h>

const element_kind element_kinds[ELEMENTS] = {
    [ELEMENT_FP64] = {"fp64", "f8", NULL, 8, 2},
    [ELEMENT_FP32] = {"fp32", "f4", NULL, 4, 2},
    /* What numpy.save writes for ml_dtypes' bfloat16 is two bytes without a meaning. */
    [ELEMENT_BF16] = {"bf16", "V2", "bfloat16", 2, 4},
    [ELEMENT_FP16] = {"fp16", "f2", NULL, 2, 2},
    [ELEMENT_UINT8] = {"uint8", "u1", NULL, 1, 0},
    [ELEMENT_UINT16] = {"uint16", "u2", NULL, 2, 0},
};

element element_accumulator(element of)
{
    return of == ELEMENT_FP64 ? ELEMENT_FP64 : ELEMENT_FP32;
}

bool element_from_name(const char *name, element *found)
{
    for (element kind = ELEMENT_FP64; kind <= ELEMENT_FP16; kind++)
        if (strcmp(name, element_kinds[kind].name) == 0) {
            *found = kind;
            return true;
        }
    return false;
}

/* A float of 16 bits with `fraction` stored fraction bits and exponents from `lowest`
 * (of the smallest normal number) on. */
typedef struct small_float {
    int fraction;
    int lowest;
} small_float;

static const small_float bf16 = {7, -126}, fp16 = {10, -14};

static double widen(small_float type, uint16_t bits)
{
    int exponents = 1 << (15 - type.fraction);
    int exponent = (bits & 0x7fff) >> type.fraction;
    int fraction = bits & ((1 << type.fraction) - 1);
    double value;
    if (exponent == exponents - 1)
        value = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, type.lowest - type.fraction);
    else
        value = ldexp(fraction + (1 << type.fraction),
                      type.lowest - type.fraction + exponent - 1);
    return bits & 0x8000 ? -value : value;
}

static uint16_t narrow(small_float type, double value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    uint16_t infinity = (uint16_t)(0x7fff & ~((1 << type.fraction) - 1));
    if (isnan(value))
        return (uint16_t)(sign | infinity | (1 << (type.fraction - 1)));
    if (isinf(value))
        return sign | infinity;
    if (value == 0)
        return sign;
    int exponent; /* of value = m 2^exponent, 1/2 <= m < 1 */
    frexp(value, &exponent);
    /* The unit of the last place; subnormal numbers share the lowest one. */
    int unit =
        (exponent - 1 > type.lowest ? exponent - 1 : type.lowest) - type.fraction;
    /* Exact: a power of two; nearbyint rounds to even.  A carry runs into the exponent.
     */
    int64_t steps = (int64_t)nearbyint(ldexp(fabs(value), -unit));
    int64_t bits =
        steps + ((int64_t)(unit - (type.lowest - type.fraction)) << type.fraction);
    return (uint16_t)(sign | (bits < infinity ? (uint16_t)bits : infinity));
}

double element_load(element kind, const void *data, int64_t index)
{
    const char *at = (const char *)data + index * element_kinds[kind].bytes;
    double wide;
    float single;
    uint16_t half;
    switch (kind) {
    case ELEMENT_FP64:
        memcpy(&wide, at, sizeof wide);
        return wide;
    case ELEMENT_FP32:
        memcpy(&single, at, sizeof single);
        return (double)single;
    case ELEMENT_UINT8:
        return *(const unsigned char *)at;
    default:
        memcpy(&half, at, sizeof half);
        return kind == ELEMENT_UINT16 ? half
                                      : widen(kind == ELEMENT_BF16 ? bf16 : fp16, half);
    }
}

static double cut(double value, double most)
{
    return value >= most ? most : value > 0 ? nearbyint(value) : 0;
}

void element_store(element kind, void *data, int64_t index, double value)
{
    char *at = (char *)data + index * element_kinds[kind].bytes;
    float single = (float)value;
    uint16_t half = 0;
    switch (kind) {
    case ELEMENT_FP64:
        memcpy(at, &value, sizeof value);
        return;
    case ELEMENT_FP32:
        memcpy(at, &single, sizeof single);
        return;
    case ELEMENT_UINT8:
        *(unsigned char *)at = (unsigned char)cut(value, 255);
        return;
    case ELEMENT_UINT16:
        half = (uint16_t)cut(value, 65535);
        break;
    default:
        half = narrow(kind == ELEMENT_BF16 ? bf16 : fp16, value);
    }
    memcpy(at, &half, sizeof half);
}
