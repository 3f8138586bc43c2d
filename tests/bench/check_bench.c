/* SPDX-License-Identifier: MIT
 *
 * What the benchmark's numbers rest on: a wrong result is seen before it is timed, the
 * plain loops compute the definition, and work is counted right (bench/verify.c,
 * bench/loops.c, bench/subject.c). */
#include "loops.h"
#include "support/tap.h"
#include "verify.h"

#include <stdio.h>
#include <string.h>

static void make(subject *s, const char *text)
{
    natten_problem_spec spec;
    ck_assert_msg(natten_problem_text_parse(text, &spec) == NATTEN_OK, "%s: %s", text,
                  natten_last_error());
    ck_assert_msg(subject_make(s, &spec, NATTEN_BACKEND_AUTO) == NATTEN_OK, "%s: %s",
                  text, natten_last_error());
}

static bool is_result(const subject *s, natten_role role)
{
    bool forward = s->spec.operation == NATTEN_FORWARD;
    if (!s->tensor[role].data)
        return false;
    return forward ? role == NATTEN_OUT || role == NATTEN_LSE
                   : role == NATTEN_GRAD_QUERY || role == NATTEN_GRAD_KEY ||
                         role == NATTEN_GRAD_VALUE;
}

static int64_t count_of(const subject *s, natten_role role)
{
    int64_t count = 1;
    for (int n = 0; n < s->tensor[role].ndim; n++)
        count *= s->shape[role][n];
    return count;
}

/* Element `index` of a result is off by as much as it is large, and more. */
static void spoil(subject *s, natten_role role, int64_t index)
{
    natten_dtype dtype = natten_problem_spec_dtype(&s->spec, role);
    void *data = s->tensor[role].data;
    double value = natten_dtype_load(dtype, data, index);
    natten_dtype_store(dtype, data, index,
                       value + 1 + 2 * (value > 0 ? value : -value));
}

/* What is judged: both ends and the middle. */
static void expect_seen(const char *text)
{
    subject s;
    make(&s, text);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!is_result(&s, role))
            continue;
        const int64_t place[] = {0, count_of(&s, role) - 1};
        for (int n = 0; n < 2; n++) {
            ck_assert(subject_run(&s) == NATTEN_OK);
            ck_assert_msg(verify(&s) <= 1, "%s: %g", text, verify(&s));
            spoil(&s, role, place[n]);
            ck_assert_msg(verify(&s) > 1, "%s: role %d, element %lld", text, (int)role,
                          (long long)place[n]);
        }
    }
    subject_free(&s);
}

START_TEST(a_wrong_element_is_seen)
{
    expect_seen("fwd fp32 b2 h2 d8 17x19 w5x7 s1x2 e2x1");
    expect_seen("bwd fp32 b2 h2 d8 17x19 w5x7 s1x2 e2x1");
    expect_seen("bwd fp64 b1 h4:2 d3:5 9x7x11 w3x4x5 causal010");
    expect_seen("bwd bf16 b1 h1 d16 40 w9 e3");
    expect_seen("fwd fp16 b1 h1 d16 1 w1");
    expect_seen("bwd fp32 b1 h2 d8 12x10 w5x5 g20x20 q4x2 k2x1 n16x14");
}
END_TEST

/* The whole grid is judged where it has at most three tokens an axis. */
START_TEST(a_wrong_middle_is_seen)
{
    subject s;
    make(&s, "bwd fp32 b1 h2 d8 3x3x3 w2x3x1");
    ck_assert(subject_run(&s) == NATTEN_OK);
    for (int64_t i = 0; i < count_of(&s, NATTEN_GRAD_KEY); i += 5) {
        float *grad = s.tensor[NATTEN_GRAD_KEY].data, kept = grad[i];
        spoil(&s, NATTEN_GRAD_KEY, i);
        ck_assert(verify(&s) > 1);
        grad[i] = kept;
        ck_assert(verify(&s) <= 1);
    }
    subject_free(&s);
}
END_TEST

static void expect_loops_right(const char *text, int threads)
{
    subject s;
    make(&s, text);
    ck_assert_msg(loops_can(&s), "%s", text);
    subject_forget(&s);
    ck_assert_msg(verify(&s) > 1, "%s", text);
    ck_assert(loops_run(&s, threads) == NATTEN_OK);
    ck_assert_msg(verify(&s) <= 1, "%s: %g", text, verify(&s));
    subject_free(&s);
}

START_TEST(loops_compute_the_definition)
{
    static const char *const problems[] = {
        "fp32 b1 h1 d1 1 w1",
        "fp32 b2 h3 d5:7 23 w6",
        "fp32 b1 h2 d8 17x19 w5x7 s1x2 e2x1",
        "fp32 b1 h4:2 d3 9x7x11 w3x4x5 e1x1x2 causal010",
        "fp32 b1 h2 d8 12x10 w5x5 scale0.5 g20x20 q4x2 k2x1 n16x14",
    };
    for (size_t n = 0; n < sizeof problems / sizeof *problems; n++)
        for (int threads = 1; threads <= 2; threads++) {
            char text[NATTEN_PROBLEM_TEXT_BYTES];
            snprintf(text, sizeof text, "fwd %s", problems[n]);
            expect_loops_right(text, threads);
            snprintf(text, sizeof text, "bwd %s", problems[n]);
            expect_loops_right(text, threads);
        }
}
END_TEST

START_TEST(loops_leave_what_they_do_not_know)
{
    static const char *const problems[] = {
        "fwd fp64 b1 h1 d4 9 w3",
        "fwd fp32 b1 h1 d4 9 w3 bias",
        "fwd fp32 b1 h1 d4 9 w3 m2",
        "bwd fp32 b1 h1 d4 9 w3 dlse",
    };
    for (size_t n = 0; n < sizeof problems / sizeof *problems; n++) {
        subject s;
        make(&s, problems[n]);
        ck_assert_msg(!loops_can(&s), "%s", problems[n]);
        subject_free(&s);
    }
}
END_TEST

START_TEST(work_is_four_and_ten_products_a_pair)
{
    const double pairs = 2 * 3 * 14 * 10 * 49;
    subject s;
    make(&s, "fwd fp32 b2 h3 d16 14x10 w7x7");
    ck_assert_double_eq(subject_flop(&s), 4 * 16 * pairs);
    subject_free(&s);
    make(&s, "bwd fp32 b2 h3 d16 14x10 w7x7");
    ck_assert_double_eq(subject_flop(&s), 10 * 16 * pairs);
    subject_free(&s);
    make(&s, "bwd fp32 b2 h3 d16:5 14x10 w7x7");
    ck_assert_double_eq(subject_flop(&s), (6 * 16 + 4 * 5) * pairs);
    subject_free(&s);
}
END_TEST

START_TEST(other_operations_are_refused)
{
    subject s;
    natten_problem_spec spec;
    ck_assert(natten_problem_text_parse("qk fp32 b1 h1 d4 9 w3", &spec) == NATTEN_OK);
    ck_assert(subject_make(&s, &spec, NATTEN_BACKEND_AUTO) == NATTEN_ERR_ARGUMENT);
    ck_assert(strstr(natten_last_error(), "only fwd and bwd are timed") != NULL);
    subject_free(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, a_wrong_element_is_seen);
    tcase_add_test(tests, a_wrong_middle_is_seen);
    tcase_add_test(tests, loops_compute_the_definition);
    tcase_add_test(tests, loops_leave_what_they_do_not_know);
    tcase_add_test(tests, work_is_four_and_ten_products_a_pair);
    tcase_add_test(tests, other_operations_are_refused);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
