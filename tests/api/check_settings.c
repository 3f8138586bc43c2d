/* SPDX-License-Identifier: MIT
 *
 * Settings, texts and layouts: core/api/settings.c. */
#include "support/tap.h"

#include <natten.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#define SAME(ours, theirs) \
    _Static_assert(offsetof(natten_tensor, ours) == offsetof(DLTensor, theirs), #ours)
_Static_assert(sizeof(natten_tensor) == sizeof(DLTensor), "the same bytes as DLPack's");
SAME(data, data);
SAME(device_type, device.device_type);
SAME(device_id, device.device_id);
SAME(ndim, ndim);
SAME(dtype_code, dtype.code);
SAME(dtype_bits, dtype.bits);
SAME(dtype_lanes, dtype.lanes);
SAME(shape, shape);
SAME(strides, strides);
SAME(byte_offset, byte_offset);
_Static_assert((int)NATTEN_FLOAT == (int)kDLFloat, "as in DLPack");
_Static_assert((int)NATTEN_BFLOAT == (int)kDLBfloat, "as in DLPack");
_Static_assert((int)NATTEN_CPU == (int)kDLCPU, "as in DLPack");
_Static_assert((int)NATTEN_CUDA == (int)kDLCUDA, "as in DLPack");
#endif

START_TEST(threads_from_one_to_256_can_be_set_and_zero_is_the_default)
{
    int32_t usual = natten_get_num_threads();
    ck_assert_int_ge(usual, 1);
    static const int32_t good[] = {1, 2, 256}, bad[] = {-1, 257, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(natten_set_num_threads(good[i]), NATTEN_OK);
        ck_assert_int_eq(natten_get_num_threads(), good[i]);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(natten_set_num_threads(bad[i]), NATTEN_ERR_ARGUMENT);
        ck_assert_int_eq(natten_get_num_threads(), 256);
    }
    ck_assert_str_eq(natten_last_error(),
                     "natten_set_num_threads: threads=2147483647 not in [0, 256]");
    ck_assert_int_eq(natten_set_num_threads(0), NATTEN_OK);
    ck_assert_int_eq(natten_get_num_threads(), usual);
}
END_TEST

START_TEST(a_variant_that_is_not_there_is_refused_with_the_list)
{
    ck_assert_int_eq(natten_set_cpu_variant("avx9000"), NATTEN_ERR_ARGUMENT);
    char expected[256] = "natten_set_cpu_variant: name=\"avx9000\" is none of: ";
    ck_assert_str_eq(natten_last_error(), strcat(expected, natten_cpu_variants()));
    ck_assert_int_eq(natten_set_cpu_variant("scalar"), NATTEN_OK);
    ck_assert_int_eq(natten_set_cpu_variant(NULL), NATTEN_OK);
    ck_assert_ptr_eq(strstr(natten_cpu_variants(), "scalar"), natten_cpu_variants());
}
END_TEST

START_TEST(a_backend_has_a_name)
{
    static const char *const names[] = {"auto", "reference", "cpu", "cuda"};
    int32_t backend = 7;
    for (int32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(natten_backend_from_name(names[i], &backend), NATTEN_OK);
        ck_assert_int_eq(backend, i);
    }
    ck_assert_int_eq(natten_backend_from_name(NULL, &backend), NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_backend_from_name("cpu", NULL), NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_backend_from_name("CPU", &backend), NATTEN_ERR_ARGUMENT);
    ck_assert_str_eq(natten_last_error(),
                     "natten_backend_from_name: backend=\"CPU\" is none of: auto "
                     "reference cpu cuda");
    ck_assert_int_eq(backend, NATTEN_BACKEND_CUDA);
}
END_TEST

START_TEST(a_device_has_a_name)
{
    static const struct {
        const char *name;
        int32_t type, id;
    } good[] = {{"cpu", NATTEN_CPU, 0},
                {"cuda", NATTEN_CUDA, 0},
                {"cuda:0", NATTEN_CUDA, 0},
                {"cuda:12", NATTEN_CUDA, 12},
                {"cuda:2147483647", NATTEN_CUDA, INT32_MAX}};
    static const char *const bad[] = {
        "",        "CPU",     "cpu:0",           "gpu",   "cuda:", "cuda:-1",
        "cuda: 1", "cuda:1x", "cuda:2147483648", "cuda1", NULL};
    int32_t type = 7, id = 7;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(natten_device_from_name(bad[i], &type, &id),
                         NATTEN_ERR_ARGUMENT);
        ck_assert(type == 7 && id == 7);
    }
    ck_assert_int_eq(natten_device_from_name("gpu", &type, &id), NATTEN_ERR_ARGUMENT);
    ck_assert_str_eq(natten_last_error(),
                     "natten_device_from_name: device=\"gpu\" is none of: cpu cuda "
                     "cuda:NUMBER");
    ck_assert_int_eq(natten_device_from_name("cpu", NULL, &id), NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_device_from_name("cpu", &type, NULL), NATTEN_ERR_ARGUMENT);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(natten_device_from_name(good[i].name, &type, &id), NATTEN_OK);
        ck_assert(type == good[i].type && id == good[i].id);
    }
}
END_TEST

static void *read_error(void *text)
{
    strcpy(text, natten_last_error());
    return NULL;
}

START_TEST(a_thread_without_a_failure_has_no_sentence)
{
    char text[256] = "not read";
    pthread_t thread;
    ck_assert_int_ne(natten_set_num_threads(-1), NATTEN_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_error, text), 0);
    pthread_join(thread, NULL);
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(every_status_has_a_text)
{
    ck_assert_str_eq(natten_status_string(NATTEN_OK), "success");
    ck_assert_str_eq(natten_status_string(NATTEN_ERR_MEMORY), "out of memory");
    ck_assert_str_eq(natten_status_string((natten_status)12345), "unknown status");
}
END_TEST

START_TEST(the_library_says_what_it_is)
{
    ck_assert_uint_eq(natten_abi_version(), NATTEN_ABI_VERSION);
    ck_assert_ptr_nonnull(strstr(natten_build_info(), natten_version()));
    ck_assert_ptr_nonnull(strstr(natten_build_info(), "\nvariants scalar"));
    char text[8];
    ck_assert_int_ge(natten_device_count(), 0);
    ck_assert_int_eq(natten_device_text(0, NULL, 8), NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_device_text(0, text, 0), NATTEN_ERR_ARGUMENT);
    ck_assert_int_ne(natten_device_text(-1, text, sizeof text), NATTEN_OK);
    ck_assert_int_ne(natten_device_text(natten_device_count(), text, sizeof text),
                     NATTEN_OK);
}
END_TEST

START_TEST(layouts_are_those_of_this_compiler)
{
    ck_assert_int_eq(natten_layout("natten_params"), sizeof(natten_params));
    ck_assert_int_eq(natten_layout("natten_tensor"), sizeof(natten_tensor));
    ck_assert_int_eq(natten_layout("natten_params.struct_size"), 0);
    ck_assert_int_eq(natten_layout("natten_params.scale"),
                     offsetof(natten_params, scale));
    ck_assert_int_eq(natten_layout("natten_params.reserved"),
                     offsetof(natten_params, reserved));
    ck_assert_int_eq(natten_layout("natten_tensor.byte_offset"),
                     offsetof(natten_tensor, byte_offset));
    ck_assert_int_eq(natten_layout("natten_tensor.nothing"), -1);
    ck_assert_int_eq(natten_layout(""), -1);
    ck_assert_int_eq(natten_layout(NULL), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *tests = tcase_create("settings");
    tcase_add_test(tests, threads_from_one_to_256_can_be_set_and_zero_is_the_default);
    tcase_add_test(tests, a_variant_that_is_not_there_is_refused_with_the_list);
    tcase_add_test(tests, a_backend_has_a_name);
    tcase_add_test(tests, a_device_has_a_name);
    tcase_add_test(tests, a_thread_without_a_failure_has_no_sentence);
    tcase_add_test(tests, every_status_has_a_text);
    tcase_add_test(tests, the_library_says_what_it_is);
    tcase_add_test(tests, layouts_are_those_of_this_compiler);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
