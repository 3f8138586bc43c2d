/* SPDX-License-Identifier: MIT
 *
 * Problem texts, there and back: core/problem/problem_text.c and
 * core/problem/problem_spec.c. */
#include "problem/problem_text.h"

#include "support/tap.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const canonical[] = {
    "fwd fp64 b1 h1 d1 1 w1",
    "bwd fp64 b2 h4:2 d5:3 7x11 w3x5 s1x2 e2x1 causal01 m3 bias scale0.5 dlse seed7",
    "fwd bf16 b2 h8 d128 64x64 w13x13 s1x2 causal01",
    "qk fp16 b0 h3 d5 5x7x11 w3x5x7 causal100 seed2000",
    "qkbwd fp32 b1 h2 d7 13 w7 scale0",
    "bwd fp32 b1 h2 d7 13 w7 dlse tf32 seed2",
    "av fp32 b1 h2 d7 13 w7 m1",
    "avbwd fp32 b1 h2 d7 3x11 w5x3 g13x11 q2x0 k1x0 n7x11",
    "fwd fp32 b1 h2 d7 3 w5 scale-0.10000000000000001 g2147483647 q2 k1 n7",
    "fwd fp32 b1 h2 d7 3 w5 scale1e-300",
    "fwd fp32 b9223372036854775807 h2 d7 3 w5",
};

START_TEST(a_canonical_text_comes_back_unchanged)
{
    natten_problem_spec spec;
    char text[NATTEN_PROBLEM_TEXT_BYTES];
    ck_assert_msg(natten_problem_text_parse(canonical[_i], &spec) == NATTEN_OK, "%s",
                  natten_last_error());
    natten_problem_text_print(&spec, text);
    ck_assert_str_eq(text, canonical[_i]);
}
END_TEST

START_TEST(tokens_with_default_values_are_dropped)
{
    natten_problem_spec spec;
    char text[NATTEN_PROBLEM_TEXT_BYTES];
    ck_assert_int_eq(natten_problem_text_parse(
                         "fwd fp32 b1 h2:2 d7:7 3x4 w1x2 s1x1 e1x1 causal00 m0 g3x4 "
                         "q0x0 k0x0 n3x4 seed1",
                         &spec),
                     NATTEN_OK);
    natten_problem_text_print(&spec, text);
    ck_assert_str_eq(text, "fwd fp32 b1 h2 d7 3x4 w1x2");
}
END_TEST

START_TEST(every_token_lands_in_its_place)
{
    natten_problem_spec s;
    ck_assert_int_eq(natten_problem_text_parse(
                         "bwd fp64 b2 h4:2 d5:3 7x11 w3x5 s1x2 e2x1 causal01 m3 bias "
                         "scale0.5 g14x22 q3x4 k1x0 n9x14 dlse seed7",
                         &s),
                     NATTEN_OK);
    ck_assert(s.operation == NATTEN_BACKWARD && s.dtype == NATTEN_FP64 && s.rank == 2);
    ck_assert(s.batch == 2 && s.heads == 4 && s.heads_kv == 2 && s.dim == 5);
    ck_assert(s.dim_v == 3 && s.queries[0] == 7 && s.queries[1] == 11);
    ck_assert(s.kernel_size[0] == 3 && s.kernel_size[1] == 5 && s.stride[1] == 2);
    ck_assert(s.dilation[0] == 2 && s.is_causal[0] == 0 && s.is_causal[1] == 1);
    ck_assert(s.extras == 3 && s.has_bias && s.has_scale && s.scale == 0.5);
    ck_assert(s.grid_length[0] == 14 && s.query_begin[1] == 4 && s.key_begin[0] == 1);
    ck_assert(s.keys[1] == 14 && s.has_grad_lse && s.seed == 7);
}
END_TEST

START_TEST(a_text_that_is_not_of_the_grammar_is_refused)
{
    static const char *const bad[] = {
        "",
        " ",
        "fwd",
        "forward fp32 b1 h2 d7 3 w5",
        "fwd fp8 b1 h2 d7 3 w5",
        "fwd fp32 h2 d7 3 w5",
        "fwd fp32 b h2 d7 3 w5",
        "fwd fp32 b-1 h2 d7 3 w5",
        "fwd fp32 b1 h2:1:1 d7 3 w5",
        "fwd fp32 b1 h2: d7 3 w5",
        "fwd fp32 b1 h2 7 3 w5",
        "fwd fp32 b1 h2 d7 3x w5",
        "fwd fp32 b1 h2 d7 1x2x3x4 w5",
        "fwd fp32 b1 h2 d7 3x4 w5",
        "fwd fp32 b1 h2 d7 3",
        "fwd fp32 b1 h2 d7 3 w5 ",
        "fwd fp32 b1  h2 d7 3 w5",
        " fwd fp32 b1 h2 d7 3 w5",
        "fwd fp32 b1 h2 d7 3 w5 s1x1",
        "fwd fp32 b1 h2 d7 3 w5 causal2",
        "fwd fp32 b1 h2 d7 3 w5 causal01",
        "fwd fp32 b1 h2 d7 3 w5 bias m2",
        "fwd fp32 b1 h2 d7 3 w5 bias bias",
        "fwd fp32 b1 h2 d7 3 w5 scale",
        "fwd fp32 b1 h2 d7 3 w5 scale0,5",
        "fwd fp32 b1 h2 d7 3 w5 scalenan",
        "fwd fp32 b1 h2 d7 3 w5 scale0x1",
        "fwd fp32 b1 h2 d7 3 w5 scale1.2.3",
        "fwd fp32 b1 h2 d7 3 w5 seed0",
        "fwd fp32 b1 h2 d7 3 w5 seed2001",
        "fwd fp32 b1 h2 d7 3 w5 seed7 x",
        "fwd fp32 b1 h2 d7 3 w5\tbias",
        "fwd fp32 b9223372036854775808 h2 d7 3 w5",
        "fwd fp32 b1 h2 d7 3 w5 %n%n%s",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        natten_problem_spec spec;
        ck_assert_msg(natten_problem_text_parse(bad[i], &spec) == NATTEN_ERR_ARGUMENT,
                      "\"%s\"", bad[i]);
    }
}
END_TEST

START_TEST(a_token_of_any_length_is_refused)
{
    char text[5000];
    memset(text, '7', sizeof text);
    text[sizeof text - 1] = '\0';
    natten_problem_spec spec;
    ck_assert_int_eq(natten_problem_text_parse(text, &spec), NATTEN_ERR_ARGUMENT);
    memcpy(text, "fwd fp32 b1 h1 d1 5 w3 m", 24);
    ck_assert_int_eq(natten_problem_text_parse(text, &spec), NATTEN_ERR_ARGUMENT);
}
END_TEST

START_TEST(the_sentence_says_at_which_token)
{
    natten_problem_spec spec;
    natten_problem_text_parse("fwd fp32 b1 h2 d7 3 w5 stride2", &spec);
    ck_assert_ptr_nonnull(strstr(natten_last_error(), "at \"stride2\""));
}
END_TEST

START_TEST(every_cases_file_line_is_canonical)
{
    const char *srcdir = getenv("srcdir");
    char path[1024], line[512], text[NATTEN_PROBLEM_TEXT_BYTES];
    snprintf(path, sizeof path, "%s/tests/cases/bits.txt", srcdir ? srcdir : ".");
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    int cases = 0;
    while (fgets(line, sizeof line, file)) {
        natten_problem_spec spec;
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        ck_assert_msg(natten_problem_text_parse(line, &spec) == NATTEN_OK, "%s",
                      natten_last_error());
        natten_problem_text_print(&spec, text);
        ck_assert_str_eq(text, line);
        cases++;
    }
    fclose(file);
    ck_assert_int_gt(cases, 0);
}
END_TEST

/* The page's own words, in doubles, as the other languages compute it. */
START_TEST(data_is_what_the_page_says)
{
    natten_problem_spec spec;
    double data[100];
    for (int seed = 1; seed <= 2000; seed += 333)
        for (int role = 0; role <= NATTEN_GRAD_LSE; role++) {
            natten_problem_text_parse("fwd fp64 b1 h2 d7 3 w5", &spec);
            spec.seed = seed;
            natten_problem_spec_fill(&spec, (natten_role)role, data, 100);
            double x = fmod(seed * 1000003.0 + role * 7919.0 + 1, 2147483647.0);
            x = x == 0 ? 1 : x;
            for (int i = 0; i < 100; i++) {
                x = fmod(48271 * x, 2147483647.0);
                double element = (floor(x / 8388608) - 128) / 64;
                ck_assert(data[i] == element && element >= -2 && element < 2);
            }
        }
}
END_TEST

START_TEST(shapes_follow_the_roles)
{
    natten_problem_spec s;
    int64_t shape[6];
    natten_problem_text_parse("bwd bf16 b2 h4:2 d5:3 7x11 w3x5 m6 bias n9x13 dlse", &s);
    static const struct {
        natten_role role;
        int ndim;
        int64_t shape[6];
        natten_dtype dtype;
    } expected[] = {
        {NATTEN_QUERY, 5, {2, 7, 11, 4, 5}, NATTEN_BF16},
        {NATTEN_KEY, 5, {2, 9, 13, 2, 5}, NATTEN_BF16},
        {NATTEN_GRAD_VALUE, 5, {2, 9, 13, 2, 3}, NATTEN_BF16},
        {NATTEN_BIAS, 3, {4, 5, 9}, NATTEN_FP32},
        {NATTEN_ADDITIONAL_VALUES, 4, {2, 6, 2, 3}, NATTEN_BF16},
        {NATTEN_OUT, 5, {2, 7, 11, 4, 3}, NATTEN_BF16},
        {NATTEN_GRAD_LSE, 4, {2, 7, 11, 4}, NATTEN_FP32},
        {NATTEN_ATTN, 5, {2, 7, 11, 4, 21}, NATTEN_BF16},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        int ndim = natten_problem_spec_shape(&s, expected[i].role, shape);
        ck_assert_int_eq(ndim, expected[i].ndim);
        ck_assert_mem_eq(shape, expected[i].shape, sizeof shape[0] * (size_t)ndim);
        ck_assert_int_eq(natten_problem_spec_dtype(&s, expected[i].role),
                         expected[i].dtype);
    }
    ck_assert(natten_problem_spec_has(&s, NATTEN_GRAD_BIAS));
    ck_assert(!natten_problem_spec_has(&s, NATTEN_ATTN));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("problem text");
    TCase *tests = tcase_create("problem text");
    tcase_add_loop_test(tests, a_canonical_text_comes_back_unchanged, 0,
                        sizeof canonical / sizeof canonical[0]);
    tcase_add_test(tests, tokens_with_default_values_are_dropped);
    tcase_add_test(tests, every_token_lands_in_its_place);
    tcase_add_test(tests, a_text_that_is_not_of_the_grammar_is_refused);
    tcase_add_test(tests, a_token_of_any_length_is_refused);
    tcase_add_test(tests, the_sentence_says_at_which_token);
    tcase_add_test(tests, every_cases_file_line_is_canonical);
    tcase_add_test(tests, data_is_what_the_page_says);
    tcase_add_test(tests, shapes_follow_the_roles);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
