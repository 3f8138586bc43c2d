/* SPDX-License-Identifier: MIT
 *
 * The public functions that compute nothing: settings of the process and the thread,
 * and what the loaded library is. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "base/parallel.h"
#include "base/status.h"
#include "cuda/cuda.h"
#include "machine/machine.h"

#include <natten.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

/* ---- settings ---- */

natten_status natten_set_num_threads(int32_t threads)
{
    natten_status_enter("natten_set_num_threads");
    if (threads < 0 || threads > NATTEN_MAX_THREADS)
        return natten_status_fail(NATTEN_ERR_ARGUMENT,
                                  "threads=%" PRId32 " not in [0, %d]", threads,
                                  NATTEN_MAX_THREADS);
    natten_machine_set_threads(threads);
    return NATTEN_OK;
}

int32_t natten_get_num_threads(void)
{
    return natten_machine_get().threads;
}

natten_status natten_set_cpu_variant(const char *name)
{
    natten_status_enter("natten_set_cpu_variant");
    if (natten_machine_set_variant(name))
        return NATTEN_OK;
    return natten_status_fail(NATTEN_ERR_ARGUMENT, "name=\"%.32s\" is none of: %s",
                              name, natten_machine_variant_list());
}

const char *natten_cpu_variants(void)
{
    return natten_machine_variant_list();
}

void natten_set_cancel_callback(natten_cancel_callback callback, void *user)
{
    natten_parallel_set_callback(callback, user);
}

int32_t natten_device_count(void)
{
    natten_gpu gpu = natten_gpu_get(0);
    return natten_cuda_is_built() ? gpu.devices : 0;
}

natten_status natten_device_text(int32_t device_id, char *text, size_t bytes)
{
    natten_status_enter("natten_device_text");
    if (text == NULL)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "text is NULL");
    if (bytes < 1)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "bytes=0 not in [1, %zu]",
                                  (size_t)PTRDIFF_MAX);
    natten_gpu gpu = natten_gpu_get(device_id);
    NATTEN_TRY(natten_cuda_check(&gpu));
    snprintf(text, bytes,
             "%s, compute capability %" PRId32 ".%" PRId32 ", %" PRId32
             " processors, %.1f GiB",
             gpu.name, gpu.arch / 10, gpu.arch % 10, gpu.processors,
             (double)gpu.memory_bytes / (1 << 30));
    return NATTEN_OK;
}

natten_status natten_backend_from_name(const char *name, int32_t *backend)
{
    static const char *const names[] = {
        [NATTEN_BACKEND_AUTO] = "auto",
        [NATTEN_BACKEND_REFERENCE] = "reference",
        [NATTEN_BACKEND_CPU] = "cpu",
        [NATTEN_BACKEND_CUDA] = "cuda",
    };
    natten_status_enter("natten_backend_from_name");
    if (backend == NULL)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "backend is NULL");
    const char *wanted = name != NULL ? name : "NULL";
    for (int32_t i = 0; i <= NATTEN_BACKEND_CUDA; i++)
        if (strcmp(wanted, names[i]) == 0) {
            *backend = i;
            return NATTEN_OK;
        }
    return natten_status_fail(NATTEN_ERR_ARGUMENT,
                              "backend=\"%.32s\" is none of: auto reference cpu cuda",
                              wanted);
}

natten_status natten_device_from_name(const char *name, int32_t *device_type,
                                      int32_t *device_id)
{
    int64_t number = 0;
    natten_status_enter("natten_device_from_name");
    if (device_type == NULL || device_id == NULL)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "%s is NULL",
                                  device_type == NULL ? "device_type" : "device_id");
    const char *at = name != NULL ? name : "NULL";
    bool cuda = strncmp(at, "cuda", 4) == 0;
    bool known = strcmp(at, "cpu") == 0 || strcmp(at, "cuda") == 0;
    if (cuda && at[4] == ':' && at[5] != '\0') {
        for (at += 5; *at >= '0' && *at <= '9' && number < INT32_MAX; at++)
            number = 10 * number + (*at - '0');
        known = *at == '\0' && number <= INT32_MAX;
    }
    if (!known)
        return natten_status_fail(NATTEN_ERR_ARGUMENT,
                                  "device=\"%.32s\" is none of: cpu cuda cuda:NUMBER",
                                  name != NULL ? name : "NULL");
    *device_type = cuda ? NATTEN_CUDA : NATTEN_CPU;
    *device_id = (int32_t)number;
    return NATTEN_OK;
}

/* ---- texts ---- */

const char *natten_last_error(void)
{
    return natten_status_sentence();
}

const char *natten_status_string(natten_status status)
{
    return natten_status_text(status);
}

const char *natten_version(void)
{
    return PACKAGE_VERSION;
}

uint32_t natten_abi_version(void)
{
    return NATTEN_ABI_VERSION;
}

const char *natten_build_info(void)
{
    return "version " PACKAGE_VERSION "\n"
           "compiler "
#if defined(__clang__)
           "clang " __clang_version__ "\n"
#elif defined(__GNUC__)
           "gcc " __VERSION__ "\n"
#else
           "unknown\n"
#endif
           "variants scalar"
#ifdef NATTEN_HAVE_SSE2
           " sse2"
#endif
#ifdef NATTEN_HAVE_NEON
           " neon"
#endif
#ifdef NATTEN_HAVE_AVX2
           " avx2"
#endif
#ifdef NATTEN_HAVE_AVX512
           " avx512"
#endif
           "\n"
#ifdef NATTEN_HAVE_CUDA
           "cuda " NATTEN_CUDA_ARCHS "\n";
#else
           "cuda no\n";
#endif
}

/* ---- layout ---- */

#define TYPE(type)          \
    {                       \
#type, sizeof(type) \
    }
#define FIELD(type, field)                      \
    {                                           \
#type "." #field, offsetof(type, field) \
    }

static const struct {
    const char *name;
    size_t bytes;
} layouts[] = {
    TYPE(natten_params),
    FIELD(natten_params, struct_size),
    FIELD(natten_params, rank),
    FIELD(natten_params, backend),
    FIELD(natten_params, has_scale),
    FIELD(natten_params, scale),
    FIELD(natten_params, flags),
    FIELD(natten_params, kernel_size),
    FIELD(natten_params, stride),
    FIELD(natten_params, dilation),
    FIELD(natten_params, is_causal),
    FIELD(natten_params, grid_length),
    FIELD(natten_params, query_begin),
    FIELD(natten_params, key_begin),
    FIELD(natten_params, reserved),
    TYPE(natten_tensor),
    FIELD(natten_tensor, data),
    FIELD(natten_tensor, device_type),
    FIELD(natten_tensor, device_id),
    FIELD(natten_tensor, ndim),
    FIELD(natten_tensor, dtype_code),
    FIELD(natten_tensor, dtype_bits),
    FIELD(natten_tensor, dtype_lanes),
    FIELD(natten_tensor, shape),
    FIELD(natten_tensor, strides),
    FIELD(natten_tensor, byte_offset),
};

int64_t natten_layout(const char *name)
{
    for (size_t i = 0; name && i < sizeof layouts / sizeof layouts[0]; i++)
        if (strcmp(layouts[i].name, name) == 0)
            return (int64_t)layouts[i].bytes;
    return -1;
}
