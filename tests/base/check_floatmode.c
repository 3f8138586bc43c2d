/* SPDX-License-Identifier: MIT
 *
 * The floating-point mode of a call: core/base/floatmode.h. */
#include "base/floatmode.h"

#include "support/tap.h"

#include <fenv.h>

static volatile double third = 3, one = 1;

START_TEST(entering_gives_rounding_to_nearest_and_leaving_gives_the_old_mode_back)
{
    double nearest = one / third;
    fesetround(FE_UPWARD);
    double upward = one / third;
    natten_floatmode before = natten_floatmode_enter();
    double inside = one / third;
    natten_floatmode_leave(before);
    double after = one / third;
    fesetround(FE_TONEAREST);
    ck_assert(inside == nearest);
    ck_assert(after == upward && upward != nearest);
}
END_TEST

START_TEST(exceptions_raised_inside_are_not_seen_outside)
{
    feclearexcept(FE_ALL_EXCEPT);
    natten_floatmode before = natten_floatmode_enter();
    volatile double zero = 0, infinity = one / zero;
    (void)infinity;
    natten_floatmode_leave(before);
    ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), 0);
    feraiseexcept(FE_INVALID);
    before = natten_floatmode_enter();
    natten_floatmode_leave(before);
    ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), FE_INVALID);
    feclearexcept(FE_ALL_EXCEPT);
}
END_TEST

#if defined(__x86_64__)
START_TEST(the_callers_traps_and_flush_to_zero_do_not_reach_inside)
{
    unsigned caller = _mm_getcsr();
    _mm_setcsr(0x8040); /* all traps on, flush-to-zero, denormals-are-zero */
    natten_floatmode before = natten_floatmode_enter();
    volatile double zero = 0, tiny = 0x1p-1074, infinity = one / zero;
    double kept = tiny + tiny;
    natten_floatmode_leave(before);
    unsigned left = _mm_getcsr();
    _mm_setcsr(caller);
    ck_assert(infinity > 1 && kept == 0x1p-1073);
    ck_assert_uint_eq(left, 0x8040);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("floatmode");
    TCase *tests = tcase_create("floatmode");
    tcase_add_test(
        tests, entering_gives_rounding_to_nearest_and_leaving_gives_the_old_mode_back);
    tcase_add_test(tests, exceptions_raised_inside_are_not_seen_outside);
#if defined(__x86_64__)
    tcase_add_test(tests, the_callers_traps_and_flush_to_zero_do_not_reach_inside);
#endif
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
