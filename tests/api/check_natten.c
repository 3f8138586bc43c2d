/* SPDX-License-Identifier: MIT
 *
 * The path that every public operation takes: core/api/natten.c.  The program is linked
 * with allocators of its own in front of the system's, so that memory can run out. */
#include "api/call.h"
#include "cuda/cuda.h"
#include "support/tap.h"

#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static const char *const operations[] = {
    "fwd fp32 b2 h4:2 d3:5 14x9 w3x5 e2x1 m2 bias scale0.5",
    "bwd fp32 b2 h4:2 d3:5 14x9 w3x5 e2x1 m2 bias dlse",
    "qk fp32 b2 h4:2 d3 14x9 w3x5 e2x1 m2 bias",
    "qkbwd fp32 b2 h4:2 d3 14x9 w3x5 e2x1 m2 bias",
    "av fp32 b2 h4:2 d5 14x9 w3x5 e2x1 m2",
    "avbwd fp32 b2 h4:2 d5 14x9 w3x5 e2x1 m2",
};

enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* ---- memory that runs out ---- */

static atomic_int allocations_left = -1; /* negative: no limit */

static bool runs_out(void)
{
    int left = atomic_load(&allocations_left);
    if (left > 0)
        atomic_store(&allocations_left, left - 1);
    return left == 0;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return runs_out() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return runs_out() ? NULL : __real_calloc(count, bytes);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    return runs_out() ? ENOMEM : __real_posix_memalign(memory, alignment, bytes);
}

START_TEST(an_operation_without_memory_fails_cleanly_and_then_works)
{
    call c;
    call_make(&c, operations[_i / 2]);
    c.params.backend = _i % 2 ? NATTEN_BACKEND_REFERENCE : NATTEN_BACKEND_AUTO;
    natten_status status = NATTEN_ERR_MEMORY;
    for (int left = 0; status != NATTEN_OK && left < 100; left++) {
        atomic_store(&allocations_left, left);
        status = call_run(&c);
        atomic_store(&allocations_left, -1);
        if (status == NATTEN_OK)
            continue;
        ck_assert_int_eq(status, NATTEN_ERR_MEMORY);
        ck_assert(call_said("no memory for a workspace of [0-9]+ bytes"));
        ck_assert(call_is_untouched(&c, true));
    }
    ck_assert_int_eq(status, NATTEN_OK);
    ck_assert(call_is_untouched(&c, false) && call_is_written(&c));
    call_free(&c);
}
END_TEST

START_TEST(a_merge_without_memory_fails_cleanly_and_then_works)
{
    call c;
    call_make(&c, "fwd fp32 b1 h2 d3 5x4 w3x2");
    natten_tensor out = c.tensor[NATTEN_OUT], lse = c.tensor[NATTEN_LSE];
    float outs[5 * 4 * 2 * 3] = {0}, lses[5 * 4 * 2] = {0};
    natten_tensor from_out = out, from_lse = lse;
    from_out.data = outs;
    from_lse.data = lses;
    atomic_store(&allocations_left, 0);
    natten_status status = natten_merge(1, &from_out, &from_lse, &out, &lse, NULL);
    atomic_store(&allocations_left, -1);
    ck_assert_int_eq(status, NATTEN_ERR_MEMORY);
    ck_assert(call_is_untouched(&c, true));
    ck_assert_int_eq(natten_merge(1, &from_out, &from_lse, &out, &lse, NULL),
                     NATTEN_OK);
    ck_assert(call_is_written(&c));
    call_free(&c);
}
END_TEST

/* ---- workspace ---- */

/* The tensors that shape the work, as natten_workspace_size() wants them. */
static natten_status ask_size(call *c, size_t *bytes)
{
    bool av = c->spec.operation >= NATTEN_AV;
    natten_role first = av ? NATTEN_ATTN : NATTEN_QUERY;
    natten_role second = av ? NATTEN_VALUE : NATTEN_KEY;
    natten_role extra = av ? NATTEN_ADDITIONAL_VALUES : NATTEN_ADDITIONAL_KEYS;
    bool has_value = c->given[NATTEN_VALUE] && !av;
    return natten_workspace_size(&c->params, c->spec.operation, &c->tensor[first],
                                 &c->tensor[second],
                                 has_value ? &c->tensor[NATTEN_VALUE] : NULL,
                                 c->given[extra] ? &c->tensor[extra] : NULL, bytes);
}

START_TEST(a_workspace_of_the_size_asked_for_will_do_at_any_address)
{
    call c, own;
    size_t bytes = 77;
    call_make(&c, operations[_i]);
    call_make(&own, operations[_i]);
    c.params.backend = own.params.backend = NATTEN_BACKEND_AUTO;
    ck_assert_int_eq(call_run(&own), NATTEN_OK);
    ck_assert_int_eq(ask_size(&c, &bytes), NATTEN_OK);
    unsigned char *memory = malloc(bytes + 64 + 64);
    for (size_t shift = 0; shift < 64; shift += 7) {
        memset(memory, 0xff, bytes + 128);
        c.workspace = memory + shift;
        c.workspace_bytes = bytes;
        ck_assert_msg(call_run(&c) == NATTEN_OK, "%s", natten_last_error());
        for (size_t i = 0; i < shift; i++)
            ck_assert_int_eq(memory[i], 0xff);
        for (size_t i = shift + bytes; i < bytes + 128; i++)
            ck_assert_int_eq(memory[i], 0xff);
        for (int role = 0; role < NATTEN_ROLES; role++)
            if (c.memory[role])
                ck_assert_mem_eq(c.memory[role], own.memory[role], c.bytes[role]);
    }
    free(memory);
    call_free(&c);
    call_free(&own);
}
END_TEST

START_TEST(a_workspace_that_is_too_small_is_refused)
{
    call c;
    size_t bytes;
    call_make(&c, operations[1]);
    ck_assert_int_eq(ask_size(&c, &bytes), NATTEN_OK);
    ck_assert_uint_gt(bytes, 64);
    _Alignas(64) char memory[64];
    c.workspace = memory;
    c.workspace_bytes = 8;
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_ARGUMENT);
    ck_assert(call_said("^natten_backward: workspace_bytes=8 not in \\[[0-9]+, "));
    c.workspace = memory + 1;
    c.workspace_bytes = 0;
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_ARGUMENT);
    ck_assert(call_is_untouched(&c, true));
    call_free(&c);
}
END_TEST

START_TEST(a_workspace_that_overlaps_a_tensor_is_refused)
{
    call c;
    call_make(&c, "fwd fp32 b2 h4 d32 14x9 w3x5");
    c.workspace = c.tensor[NATTEN_KEY].data;
    c.workspace_bytes = c.bytes[NATTEN_KEY] - 2 * CALL_MARGIN;
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_LAYOUT);
    ck_assert(call_said("^natten_forward: workspace overlaps key in memory"));
    c.workspace = (void *)(uintptr_t)-64;
    c.workspace_bytes = 4096;
    ck_assert_int_eq(call_run(&c), NATTEN_ERR_OVERFLOW);
    ck_assert(call_is_untouched(&c, true));
    call_free(&c);
}
END_TEST

/* ---- questions ---- */

START_TEST(questions_name_what_is_wrong_with_them)
{
    call c;
    size_t bytes = 77;
    char text[64] = "as it was";
    call_make(&c, operations[0]);
    natten_tensor *q = &c.tensor[NATTEN_QUERY], *k = &c.tensor[NATTEN_KEY];
    natten_tensor *v = &c.tensor[NATTEN_VALUE];
    for (int operation = -1; operation <= 6; operation += 7) {
        ck_assert_int_eq(
            natten_workspace_size(&c.params, operation, q, k, v, NULL, &bytes),
            NATTEN_ERR_ARGUMENT);
        ck_assert(
            call_said("^natten_workspace_size: operation=-?[0-9] not in \\[0, 5\\]"));
    }
    ck_assert_int_eq(natten_workspace_size(&c.params, 0, q, k, v, NULL, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(call_said("^natten_workspace_size: bytes is NULL"));
    ck_assert_int_eq(natten_workspace_size(&c.params, 0, q, k, NULL, NULL, &bytes),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(call_said("^natten_workspace_size: value is NULL"));
    ck_assert_uint_eq(bytes, 77);
    ck_assert_int_eq(natten_plan_text(&c.params, 0, q, k, v, NULL, NULL, 5),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_plan_text(&c.params, 0, q, k, v, NULL, text, 0),
                     NATTEN_ERR_ARGUMENT);
    ck_assert_int_eq(natten_plan_text(&c.params, 0, q, NULL, v, NULL, text, 64),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(call_said("^natten_plan_text: key is NULL"));
    ck_assert_str_eq(text, "as it was");
    c.params.kernel_size[0] = 0;
    ck_assert_int_eq(natten_supported(&c.params, 0, q, k, v, NULL),
                     NATTEN_ERR_ARGUMENT);
    ck_assert(call_said("^natten_supported: kernel_size\\[height\\]=0"));
    call_free(&c);
}
END_TEST

START_TEST(a_plan_text_begins_with_the_problem)
{
    call c;
    char text[1000];
    call_make(&c, "bwd fp32 b2 h4:2 d3:5 14x9 w3x5 e2x1 m2");
    ck_assert_int_eq(
        natten_plan_text(&c.params, NATTEN_BACKWARD, &c.tensor[NATTEN_QUERY],
                         &c.tensor[NATTEN_KEY], &c.tensor[NATTEN_VALUE],
                         &c.tensor[NATTEN_ADDITIONAL_KEYS], text, sizeof text),
        NATTEN_OK);
    ck_assert_ptr_eq(
        strstr(text, "problem    bwd fp32 b2 h4:2 d3:5 14x9 w3x5 e2x1 m2\n"), text);
    ck_assert_int_eq(natten_plan_text(&c.params, NATTEN_BACKWARD,
                                      &c.tensor[NATTEN_QUERY], &c.tensor[NATTEN_KEY],
                                      &c.tensor[NATTEN_VALUE], NULL, text, 1),
                     NATTEN_OK);
    ck_assert_str_eq(text, "");
    call_free(&c);
}
END_TEST

START_TEST(questions_look_at_no_memory)
{
    call c;
    size_t bytes;
    call_make(&c, operations[_i]);
    for (int role = 0; role < NATTEN_ROLES; role++)
        c.tensor[role].data = NULL;
    ck_assert_msg(ask_size(&c, &bytes) == NATTEN_OK, "%s", natten_last_error());
    call_free(&c);
}
END_TEST

START_TEST(sizes_too_large_for_memory_are_an_overflow_or_a_size)
{
    int64_t shape[] = {1, INT32_MAX, INT32_MAX, 1, 1}, still[] = {0, 0, 0, 0, 0};
    natten_tensor t = {.device_type = NATTEN_CPU,
                       .ndim = 5,
                       .dtype_code = NATTEN_FLOAT,
                       .dtype_bits = 32,
                       .dtype_lanes = 1,
                       .shape = shape,
                       .strides = still};
    natten_params params;
    natten_params_init(&params, sizeof params, 2);
    params.kernel_size[0] = params.kernel_size[1] = INT32_MAX;
    size_t bytes = 77;
    ck_assert_int_eq(
        natten_workspace_size(&params, NATTEN_FORWARD, &t, &t, &t, NULL, &bytes),
        NATTEN_ERR_OVERFLOW);
    ck_assert_uint_eq(bytes, 77);
}
END_TEST

/* ---- what this build can't do ---- */

START_TEST(a_build_without_cuda_says_so_of_arrays_for_a_gpu)
{
    call c;
    call_make(&c, "fwd fp32 b1 h2 d4 7 w3");
    c.params.backend = NATTEN_BACKEND_AUTO;
    natten_status status =
        natten_forward_host(&c.params, &c.tensor[NATTEN_QUERY], &c.tensor[NATTEN_KEY],
                            &c.tensor[NATTEN_VALUE], NULL, NULL, NULL,
                            &c.tensor[NATTEN_OUT], &c.tensor[NATTEN_LSE], 0);
    if (!natten_cuda_is_built()) {
        ck_assert_int_eq(status, NATTEN_ERR_UNSUPPORTED);
        ck_assert(call_said("^natten_forward_host: this build has no CUDA kernels"));
        ck_assert(call_is_untouched(&c, true));
    }
    call_free(&c);
}
END_TEST

/* ---- the floating-point mode ---- */

START_TEST(the_callers_rounding_changes_no_bit_and_is_not_changed)
{
    call usual, upward;
    call_make(&usual, operations[_i]);
    call_make(&upward, operations[_i]);
    usual.params.backend = upward.params.backend = NATTEN_BACKEND_AUTO;
    natten_set_num_threads(3);
    feclearexcept(FE_ALL_EXCEPT);
    ck_assert_int_eq(call_run(&usual), NATTEN_OK);
    ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), 0);
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    unsigned before = _mm_getcsr() | 0x8040; /* flush to zero, subnormals are zero */
    _mm_setcsr(before);
#endif
    natten_status status = call_run(&upward);
#if defined(__x86_64__)
    unsigned after = _mm_getcsr();
    _mm_setcsr(after & ~0x8040u);
    ck_assert_uint_eq(after, before);
#endif
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    natten_set_num_threads(0);
    ck_assert_int_eq(status, NATTEN_OK);
    for (int role = 0; role < NATTEN_ROLES; role++)
        if (usual.memory[role])
            ck_assert_mem_eq(usual.memory[role], upward.memory[role],
                             usual.bytes[role]);
    call_free(&usual);
    call_free(&upward);
}
END_TEST

/* ---- threads, forks, stops ---- */

static void *call_often(void *bad)
{
    for (int i = 0; i < 60; i++) {
        call c;
        call_make(&c, operations[i % OPERATIONS]);
        c.params.backend = i % 2 ? NATTEN_BACKEND_AUTO : NATTEN_BACKEND_REFERENCE;
        bool wrong = i % 5 == 4;
        if (wrong)
            c.params.rank = 7;
        natten_status status = call_run(&c);
        bool good = wrong ? status == NATTEN_ERR_ARGUMENT && call_said("rank=7")
                          : status == NATTEN_OK && call_is_written(&c);
        if (!good)
            atomic_store((atomic_bool *)bad, true);
        call_free(&c);
    }
    return NULL;
}

START_TEST(many_threads_may_call_at_once)
{
    enum { CALLERS = 8 };
    pthread_t caller[CALLERS];
    atomic_bool bad = false;
    natten_set_num_threads(3);
    for (int i = 0; i < CALLERS; i++)
        ck_assert_int_eq(pthread_create(&caller[i], NULL, call_often, &bad), 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(caller[i], NULL);
    natten_set_num_threads(0);
    ck_assert(!atomic_load(&bad));
}
END_TEST

START_TEST(a_forked_child_can_call)
{
#if !defined(__SANITIZE_THREAD__) /* TSan starts no threads in a forked child */
    natten_set_num_threads(3);
    for (int i = 0; i < 20; i++) {
        call c;
        call_make(&c, operations[i % OPERATIONS]);
        c.params.backend = NATTEN_BACKEND_AUTO;
        ck_assert_int_eq(call_run(&c), NATTEN_OK);
        pid_t child = fork();
        if (child == 0) {
            alarm(5);
            _exit(call_run(&c) == NATTEN_OK && call_is_written(&c) ? 0 : 1);
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        call_free(&c);
    }
    natten_set_num_threads(0);
#endif
}
END_TEST

static int64_t milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Milliseconds from "stop" to the call's end. A sanitizer or valgrind makes an item of
 * work, after which the callback is asked, up to 50 times longer. */
static int64_t longest_wait(void)
{
    return getenv("NATTEN_TEST_INSTRUMENTED") ? 50 * 200 : 200;
}

typedef struct stopper {
    int64_t said_at, polls, last, longest_gap;
} stopper;

/* Stop at the sixth question. */
static int32_t stop_soon(void *user)
{
    stopper *s = user;
    int64_t time = milliseconds();
    if (s->polls++ > 0 && time - s->last > s->longest_gap)
        s->longest_gap = time - s->last;
    s->last = time;
    if (s->polls < 6)
        return 0;
    s->said_at = s->said_at ? s->said_at : time;
    return 1;
}

START_TEST(a_long_call_can_be_stopped)
{
    static const char *const longest[] = {
        "fwd fp64 b1 h4 d32 96x96 w61x61", "bwd fp64 b1 h4 d32 96x96 w61x61",
        "qk fp64 b1 h4 d32 64x64 w41x41",  "qkbwd fp64 b1 h4 d32 64x64 w41x41",
        "av fp64 b1 h4 d32 64x64 w41x41",  "avbwd fp64 b1 h4 d32 64x64 w41x41",
    };
    call c;
    stopper s = {0};
    call_make(&c, longest[_i / 2]);
    c.params.backend = _i % 2 ? NATTEN_BACKEND_AUTO : NATTEN_BACKEND_REFERENCE;
    natten_set_num_threads(1); /* the machine may have one processor */
    natten_set_cpu_variant("scalar");
    natten_set_cancel_callback(stop_soon, &s);
    natten_status status = call_run(&c);
    int64_t end = milliseconds();
    natten_set_cancel_callback(NULL, NULL);
    natten_set_cpu_variant(NULL);
    natten_set_num_threads(0);
    if (s.said_at == 0) {
        ck_assert_int_eq(status, NATTEN_OK); /* too fast to be stopped */
    } else {
        static const char *const said[] = {
            "^natten_forward: stopped by", "^natten_backward: stopped by",
            "^natten_qk: stopped by",      "^natten_qk_backward: stopped by",
            "^natten_av: stopped by",      "^natten_av_backward: stopped by",
        };
        ck_assert_int_eq(status, NATTEN_ERR_INTERRUPTED);
        ck_assert(call_said(said[_i / 2]));
        ck_assert_int_le(end - s.said_at, longest_wait());
        ck_assert_int_le(s.longest_gap, longest_wait());
    }
    ck_assert(call_is_untouched(&c, false));
    call_free(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("natten");
    TCase *tests = tcase_create("natten");
    tcase_add_loop_test(tests, an_operation_without_memory_fails_cleanly_and_then_works,
                        0, 2 * OPERATIONS);
    tcase_add_test(tests, a_merge_without_memory_fails_cleanly_and_then_works);
    tcase_add_loop_test(tests, a_workspace_of_the_size_asked_for_will_do_at_any_address,
                        0, OPERATIONS);
    tcase_add_test(tests, a_workspace_that_is_too_small_is_refused);
    tcase_add_test(tests, a_workspace_that_overlaps_a_tensor_is_refused);
    tcase_add_test(tests, questions_name_what_is_wrong_with_them);
    tcase_add_test(tests, a_plan_text_begins_with_the_problem);
    tcase_add_loop_test(tests, questions_look_at_no_memory, 0, OPERATIONS);
    tcase_add_test(tests, sizes_too_large_for_memory_are_an_overflow_or_a_size);
    tcase_add_test(tests, a_build_without_cuda_says_so_of_arrays_for_a_gpu);
    tcase_add_loop_test(tests, the_callers_rounding_changes_no_bit_and_is_not_changed,
                        0, OPERATIONS);
    tcase_add_test(tests, many_threads_may_call_at_once);
    tcase_add_test(tests, a_forked_child_can_call);
    tcase_add_loop_test(tests, a_long_call_can_be_stopped, 0, 2 * OPERATIONS);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
