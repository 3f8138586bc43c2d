/* SPDX-License-Identifier: MIT
 *
 * Environment variables: core/base/env.c. */
#include "base/env.h"

#include "support/tap.h"

#include <stdlib.h>
#include <string.h>

static const char name[] = "NATTEN_TEST_VALUE";

START_TEST(a_plain_number_in_range_is_taken)
{
    int64_t value = -1;
    setenv(name, "7", 1);
    ck_assert(natten_env_integer(name, 1, 256, &value) && value == 7);
    setenv(name, "256", 1);
    ck_assert(natten_env_integer(name, 1, 256, &value) && value == 256);
}
END_TEST

START_TEST(anything_else_is_as_if_it_were_not_there)
{
    static const char *const hostile[] = {
        "",
        "0",
        "257",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1x",
        "0x1",
        "1e2",
        "1.0",
        "٣",
        "%s",
        "%n%n",
        "one",
        "9223372036854775808",
        "1\n",
        "1\t2",
        "--",
        "nan",
        "$(1)",
        "1,2",
        "99999999999999999999999999",
    };
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        int64_t value = -1;
        setenv(name, hostile[i], 1);
        ck_assert_msg(!natten_env_integer(name, 1, 256, &value), "\"%s\"", hostile[i]);
        ck_assert_int_eq(value, -1);
    }
    unsetenv(name);
    int64_t value = -1;
    ck_assert(!natten_env_integer(name, 1, 256, &value) && value == -1);
}
END_TEST

START_TEST(a_value_of_a_million_digits_is_ignored)
{
    size_t bytes = 1000000;
    char *digits = malloc(bytes);
    memset(digits, '1', bytes);
    digits[bytes - 1] = '\0';
    setenv(name, digits, 1);
    int64_t value;
    char word[16];
    ck_assert(!natten_env_integer(name, 1, 256, &value));
    ck_assert(!natten_env_word(name, word, sizeof word));
    free(digits);
}
END_TEST

START_TEST(a_word_is_lower_case_and_fits)
{
    char word[7];
    setenv(name, "avx512", 1);
    ck_assert(natten_env_word(name, word, sizeof word));
    ck_assert_str_eq(word, "avx512");
    static const char *const hostile[] = {"",        "AVX2", "avx-512",
                                          "avx5123", "a b",  "a\n"};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        setenv(name, hostile[i], 1);
        ck_assert_msg(!natten_env_word(name, word, sizeof word), "\"%s\"", hostile[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("env");
    TCase *tests = tcase_create("env");
    tcase_add_test(tests, a_plain_number_in_range_is_taken);
    tcase_add_test(tests, anything_else_is_as_if_it_were_not_there);
    tcase_add_test(tests, a_value_of_a_million_digits_is_ignored);
    tcase_add_test(tests, a_word_is_lower_case_and_fits);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
