/* SPDX-License-Identifier: MIT
 *
 * Illegal arguments of natten_merge() and its gradient: core/problem/merge.c. */
#include "problem/merge.h"

#include "support/tap.h"

#include <natten.h>
#include <regex.h>
#include <string.h>

enum { COUNT = 3, BATCH = 2, HEIGHT = 3, WIDTH = 5, HEADS = 2, DIM = 4 };
enum { LSES = BATCH * HEIGHT * WIDTH * HEADS, OUTS = LSES * DIM };

typedef struct merging {
    float out_memory[2 * COUNT + 2][OUTS], lse_memory[2 * COUNT + 2][LSES];
    natten_tensor outputs[COUNT], lses[COUNT], out, lse;
    natten_tensor grad_outputs[COUNT], grad_lses[COUNT], grad_out, grad_lse;
    int64_t out_shape[5], lse_shape[4];
} merging;

static merging m;

static natten_tensor tensor_of(float *memory, bool is_lse)
{
    return (natten_tensor){
        .data = memory,
        .device_type = NATTEN_CPU,
        .ndim = is_lse ? 4 : 5,
        .dtype_code = NATTEN_FLOAT,
        .dtype_bits = 32,
        .dtype_lanes = 1,
        .shape = is_lse ? m.lse_shape : m.out_shape,
    };
}

static void make(void)
{
    const int64_t shape[5] = {BATCH, HEIGHT, WIDTH, HEADS, DIM};
    memset(&m, 0, sizeof m);
    memcpy(m.out_shape, shape, sizeof m.out_shape);
    memcpy(m.lse_shape, shape, sizeof m.lse_shape);
    for (int n = 0; n < COUNT; n++) {
        m.outputs[n] = tensor_of(m.out_memory[n], false);
        m.lses[n] = tensor_of(m.lse_memory[n], true);
        m.grad_outputs[n] = tensor_of(m.out_memory[COUNT + n], false);
        m.grad_lses[n] = tensor_of(m.lse_memory[COUNT + n], true);
        m.lse_memory[n][0] = (float)n;
        m.out_memory[n][0] = (float)n;
    }
    m.out = tensor_of(m.out_memory[2 * COUNT], false);
    m.grad_out = tensor_of(m.out_memory[2 * COUNT + 1], false);
    m.lse = tensor_of(m.lse_memory[2 * COUNT], true);
    m.grad_lse = tensor_of(m.lse_memory[2 * COUNT + 1], true);
}

static natten_status forward(void)
{
    return natten_merge(COUNT, m.outputs, m.lses, &m.out, &m.lse, NULL);
}

static natten_status backward(void)
{
    return natten_merge_backward(COUNT, m.outputs, m.lses, &m.out, &m.lse, &m.grad_out,
                                 &m.grad_lse, m.grad_outputs, m.grad_lses, NULL);
}

static bool said(const char *regex)
{
    regex_t compiled;
    ck_assert_int_eq(regcomp(&compiled, regex, REG_EXTENDED | REG_NOSUB), 0);
    bool match = regexec(&compiled, natten_last_error(), 0, NULL, 0) == 0;
    regfree(&compiled);
    return match;
}

START_TEST(legal_calls_succeed)
{
    make();
    ck_assert_msg(forward() == NATTEN_OK, "%s", natten_last_error());
    ck_assert_msg(backward() == NATTEN_OK, "%s", natten_last_error());
    ck_assert_int_eq(natten_merge(1, m.outputs, m.lses, &m.out, NULL, NULL), NATTEN_OK);
}
END_TEST

START_TEST(a_batch_of_zero_needs_no_memory)
{
    make();
    m.out_shape[0] = m.lse_shape[0] = 0;
    for (int n = 0; n < COUNT; n++)
        m.outputs[n].data = m.lses[n].data = NULL;
    m.out.data = m.lse.data = NULL;
    ck_assert_int_eq(forward(), NATTEN_OK);
}
END_TEST

START_TEST(parts_without_queries_merge_to_nothing)
{
    for (int n = 1; n <= 2; n++) { /* height, width */
        make();
        m.out_shape[n] = m.lse_shape[n] = 0;
        ck_assert_msg(forward() == NATTEN_OK, "%s", natten_last_error());
        ck_assert_msg(backward() == NATTEN_OK, "%s", natten_last_error());
        for (int i = 0; i < OUTS; i++)
            ck_assert(m.out_memory[2 * COUNT][i] == 0);
    }
    m.out_shape[3] = 0; /* but there are heads */
    ck_assert_int_eq(forward(), NATTEN_ERR_SHAPE);
    ck_assert(said("outputs\\[1 of 3\\]\\[heads\\]=0 not in \\[1, "));
}
END_TEST

START_TEST(arguments_that_must_be_there_are_named)
{
    make();
    ck_assert_int_eq(natten_merge(0, m.outputs, m.lses, &m.out, NULL, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(said("^natten_merge: count=0 not in \\[1, "));
    ck_assert_int_eq(natten_merge(INT64_MIN, m.outputs, m.lses, &m.out, NULL, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_merge(1, NULL, m.lses, &m.out, NULL, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(said("^natten_merge: outputs is NULL$"));
    ck_assert_int_eq(natten_merge(1, m.outputs, NULL, &m.out, NULL, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(said("lses is NULL"));
    ck_assert_int_eq(natten_merge(1, m.outputs, m.lses, NULL, NULL, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(said("out is NULL"));
    ck_assert_int_eq(natten_merge_backward(1, m.outputs, m.lses, &m.out, NULL,
                                           &m.grad_out, NULL, m.grad_outputs,
                                           m.grad_lses, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(said("^natten_merge_backward: lse is NULL$"));
    m.lses[1].shape = NULL;
    ck_assert_int_eq(forward(), NATTEN_ERR_ARGUMENT);
    ck_assert(said("lses\\[2 of 3\\]\\.shape is NULL"));
}
END_TEST

START_TEST(types_devices_and_shapes_are_those_of_the_first)
{
    int64_t other[5];
    make();
    m.lses[2].dtype_bits = 64;
    ck_assert_int_eq(forward(), NATTEN_ERR_DTYPE);
    ck_assert(
        said("lses\\[3 of 3\\] is fp64, not fp32 \\(the first of outputs is fp32\\)"));
    make();
    m.outputs[0].dtype_bits = 31;
    ck_assert_int_eq(forward(), NATTEN_ERR_DTYPE);
    make();
    m.outputs[1].device_type = NATTEN_CUDA;
    ck_assert_int_eq(forward(), NATTEN_ERR_DEVICE);
    make();
    memcpy(other, m.out_shape, sizeof other);
    other[2] = 4;
    m.outputs[1].shape = other;
    ck_assert_int_eq(forward(), NATTEN_ERR_SHAPE);
    ck_assert(said("outputs\\[2 of 3\\]\\[width\\]=4 not in \\[5, 5\\] \\(as the first "
                   "of outputs\\)"));
    make();
    other[3] = 1;
    other[2] = WIDTH;
    m.lse.shape = other;
    ck_assert_int_eq(forward(), NATTEN_ERR_SHAPE);
    ck_assert(said("lse\\[heads\\]=1 not in \\[2, 2\\]"));
    make();
    m.grad_out.ndim = 4;
    ck_assert_int_eq(backward(), NATTEN_ERR_SHAPE);
    ck_assert(said("grad_out\\.ndim=4 not in \\[5, 5\\]"));
    make();
    m.outputs[0].ndim = 3;
    ck_assert_int_eq(forward(), NATTEN_ERR_SHAPE);
    ck_assert(said("outputs\\[1 of 3\\]\\.ndim=3 not in \\[4, 6\\]"));
    make();
    m.out_shape[4] = 0;
    ck_assert_int_eq(forward(), NATTEN_ERR_SHAPE);
    ck_assert(said("outputs\\[1 of 3\\]\\[head_dim_v\\]=0 not in \\[1, "));
    make();
    m.out_shape[0] = INT64_MAX / 4;
    ck_assert_int_eq(forward(), NATTEN_ERR_OVERFLOW);
}
END_TEST

START_TEST(layouts_and_overlaps_are_refused_and_nothing_is_written)
{
    int64_t zero[5] = {0};
    make();
    m.out.strides = zero;
    ck_assert_int_eq(forward(), NATTEN_ERR_LAYOUT);
    ck_assert(said("out is written, but its strides make elements overlap"));
    make();
    m.lses[0].byte_offset = 2;
    ck_assert_int_eq(forward(), NATTEN_ERR_LAYOUT);
    make();
    m.outputs[2].data = NULL;
    ck_assert_int_eq(forward(), NATTEN_ERR_ARGUMENT);
    ck_assert(said("outputs\\[3 of 3\\]\\.data is NULL"));
    make();
    m.out.data = m.outputs[1].data;
    ck_assert_int_eq(forward(), NATTEN_ERR_LAYOUT);
    ck_assert(said("out overlaps outputs\\[2 of 3\\] in memory"));
    make();
    m.grad_lses[2].data = (char *)m.grad_lses[0].data + 4;
    ck_assert_int_eq(backward(), NATTEN_ERR_LAYOUT);
    ck_assert(
        said("grad_lses\\[[13] of 3\\] overlaps grad_lses\\[[13] of 3\\] in memory"));
    for (int n = COUNT; n < 2 * COUNT + 1; n++)
        for (int i = 0; i < OUTS; i++)
            ck_assert(m.out_memory[n][i] == 0);
}
END_TEST

START_TEST(partials_may_be_the_same_memory)
{
    make();
    m.outputs[1] = m.outputs[0];
    m.lses[1] = m.lses[0];
    ck_assert_int_eq(forward(), NATTEN_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge");
    TCase *tests = tcase_create("merge");
    tcase_add_test(tests, legal_calls_succeed);
    tcase_add_test(tests, a_batch_of_zero_needs_no_memory);
    tcase_add_test(tests, parts_without_queries_merge_to_nothing);
    tcase_add_test(tests, arguments_that_must_be_there_are_named);
    tcase_add_test(tests, types_devices_and_shapes_are_those_of_the_first);
    tcase_add_test(tests, layouts_and_overlaps_are_refused_and_nothing_is_written);
    tcase_add_test(tests, partials_may_be_the_same_memory);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
