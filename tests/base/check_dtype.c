/* SPDX-License-Identifier: MIT
 *
 * Element types: core/base/dtype.c.  Widening is checked for all 65536 patterns against
 * the formula of the format; narrowing by the neighbours: the result must be the
 * nearest of the exact values around it, and the even one of two that are equally near.
 */
#include "base/dtype.h"

#include "support/random.h"
#include "support/tap.h"

#include <fenv.h>
#include <natten.h>
#include <string.h>

typedef struct format {
    natten_dtype dtype;
    int fraction_bits, bias;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(double);
} format;

static const format formats[] = {
    {NATTEN_BF16, 7, 127, natten_dtype_bf16_to_float, natten_dtype_bf16_from_double},
    {NATTEN_FP16, 10, 15, natten_dtype_fp16_to_float, natten_dtype_fp16_from_double},
};

enum { FORMATS = sizeof formats / sizeof formats[0] };

static uint16_t infinity_of(const format *f)
{
    return (uint16_t)((2 * f->bias + 1) << f->fraction_bits);
}

/* The value of non-negative finite bits, by definition of the format. */
static double value_of(const format *f, int bits)
{
    int exponent = bits >> f->fraction_bits;
    int fraction = bits & ((1 << f->fraction_bits) - 1);
    if (exponent == 0)
        return ldexp(fraction, 1 - f->bias - f->fraction_bits);
    return ldexp(fraction + (1 << f->fraction_bits),
                 exponent - f->bias - f->fraction_bits);
}

/* One assertion a test: millions of them would take Check half a minute. */
static bool widens_right(const format *f, int bits)
{
    double got = (double)f->widen((uint16_t)bits);
    int magnitude = bits & 0x7fff;
    if ((signbit(got) != 0) != bits >> 15)
        return false;
    if (magnitude >= infinity_of(f))
        return magnitude == infinity_of(f) ? isinf(got) : isnan(got);
    return fabs(got) == value_of(f, magnitude);
}

START_TEST(every_16_bit_pattern_widens_to_its_value)
{
    for (int bits = 0; bits < 1 << 16; bits++)
        if (!widens_right(&formats[_i], bits))
            ck_abort_msg("0x%x", (unsigned)bits);
}
END_TEST

static bool survives(const format *f, int bits)
{
    uint16_t back = f->narrow((double)f->widen((uint16_t)bits));
    if ((bits & 0x7fff) > infinity_of(f))
        return (back & 0x7fff) > infinity_of(f) && (back ^ bits) >> 15 == 0;
    return back == bits;
}

START_TEST(every_16_bit_pattern_survives_a_round_trip)
{
    for (int bits = 0; bits < 1 << 16; bits++)
        if (!survives(&formats[_i], bits))
            ck_abort_msg("0x%x", (unsigned)bits);
}
END_TEST

/* Nearest, ties to even, for 0 <= x: by its neighbours. One step beyond the largest
 * number counts as the place of infinity, as IEEE 754 has it. */
static bool is_nearest(const format *f, double x)
{
    int got = f->narrow(x);
    if (f->narrow(-x) != (got | 0x8000) || got > infinity_of(f))
        return false;
    double here = fabs(x - value_of(f, got));
    double below = got > 0 ? fabs(x - value_of(f, got - 1)) : HUGE_VAL;
    double above = got < infinity_of(f) ? fabs(x - value_of(f, got + 1)) : HUGE_VAL;
    bool even = got % 2 == 0;
    return (here < below || (here == below && even)) &&
           (here < above || (here == above && even));
}

static void assert_nearest(const format *f, double x)
{
    if (!is_nearest(f, x))
        ck_abort_msg("%a", x);
}

START_TEST(narrowing_rounds_to_nearest_even_around_every_number)
{
    const format *f = &formats[_i];
    for (int bits = 0; bits < infinity_of(f); bits++) {
        double low = value_of(f, bits), high = value_of(f, bits + 1);
        double middle = low + (high - low) / 2;
        assert_nearest(f, low);
        assert_nearest(f, middle);
        assert_nearest(f, nextafter(middle, 0));
        assert_nearest(f, nextafter(middle, HUGE_VAL));
    }
}
END_TEST

START_TEST(narrowing_rounds_once_for_any_double)
{
    const format *f = &formats[_i];
    randoms r = {1};
    for (int i = 0; i < 100000; i++) {
        double x = ldexp(1 + random_unit(&r),
                         (int)random_int(&r, -f->bias - f->fraction_bits - 3, f->bias));
        assert_nearest(f, x);
    }
}
END_TEST

START_TEST(what_is_too_large_becomes_infinity_and_too_small_zero)
{
    const format *f = &formats[_i];
    static const double large[] = {1e39, 1e300, HUGE_VAL};
    static const double small[] = {0, 5e-324, 1e-310, 1e-300, 1e-60};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++)
        ck_assert_int_eq(f->narrow(large[i]), infinity_of(f));
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        ck_assert_int_eq(f->narrow(-small[i]), 0x8000);
}
END_TEST

START_TEST(conversions_do_not_depend_on_the_rounding_mode)
{
    const format *f = &formats[_i];
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    double x = 1 + ldexp(1, -f->fraction_bits - 1) + ldexp(1, -30);
    uint16_t nearest = f->narrow(x);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        fesetround(modes[i]);
        uint16_t got = f->narrow(x);
        fesetround(FE_TONEAREST);
        ck_assert_int_eq(got, nearest);
    }
}
END_TEST

START_TEST(names_and_dlpack_codes_go_there_and_back)
{
    for (int i = 0; i < NATTEN_DTYPES; i++) {
        natten_dtype dtype = (natten_dtype)i, back;
        uint8_t code, bits;
        natten_dtype_to_dlpack(dtype, &code, &bits);
        ck_assert(natten_dtype_from_dlpack(code, bits, 1, &back) && back == dtype);
        ck_assert(!natten_dtype_from_dlpack(code, bits, 2, &back));
        ck_assert_uint_eq(natten_dtype_bytes(dtype), bits / 8u);
        ck_assert(natten_dtype_from_name(natten_dtype_name(dtype), &back));
        ck_assert_int_eq(back, dtype);
        ck_assert_int_eq(natten_dtype_accumulator(dtype),
                         dtype == NATTEN_FP64 ? NATTEN_FP64 : NATTEN_FP32);
    }
    natten_dtype dtype;
    ck_assert(!natten_dtype_from_name("fp8", &dtype));
    ck_assert(!natten_dtype_from_dlpack(NATTEN_FLOAT, 8, 1, &dtype));
    ck_assert(!natten_dtype_from_dlpack(NATTEN_BFLOAT, 32, 1, &dtype));
}
END_TEST

START_TEST(a_stored_element_is_loaded_again)
{
    for (int i = 0; i < NATTEN_DTYPES; i++) {
        double memory[4] = {0};
        natten_dtype_store((natten_dtype)i, memory, 2, -1.625);
        ck_assert(natten_dtype_load((natten_dtype)i, memory, 2) == -1.625);
        ck_assert(natten_dtype_load((natten_dtype)i, memory, 1) == 0);
        ck_assert(natten_dtype_load((natten_dtype)i, memory, 3) == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dtype");
    TCase *tests = tcase_create("dtype");
    tcase_add_loop_test(tests, every_16_bit_pattern_widens_to_its_value, 0, FORMATS);
    tcase_add_loop_test(tests, every_16_bit_pattern_survives_a_round_trip, 0, FORMATS);
    tcase_add_loop_test(tests, narrowing_rounds_to_nearest_even_around_every_number, 0,
                        FORMATS);
    tcase_add_loop_test(tests, narrowing_rounds_once_for_any_double, 0, FORMATS);
    tcase_add_loop_test(tests, what_is_too_large_becomes_infinity_and_too_small_zero, 0,
                        FORMATS);
    tcase_add_loop_test(tests, conversions_do_not_depend_on_the_rounding_mode, 0,
                        FORMATS);
    tcase_add_test(tests, names_and_dlpack_codes_go_there_and_back);
    tcase_add_test(tests, a_stored_element_is_loaded_again);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
