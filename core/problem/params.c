/* SPDX-License-Identifier: MIT
 *
 * The rule for sizes: a caller's struct may be as small as that of the first release,
 * and what it lacks has its default; it may be larger than ours, as long as the part
 * that we do not know is zero, which every later default will be. */
#include "problem/params.h"

#include "base/status.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* sizeof(natten_params) in the first release, and more than any will ever have: a
 * larger struct_size is not a size. */
static const size_t first_size = 264, largest_size = 4096;
_Static_assert(sizeof(natten_params) == 264, "a field was added: first_size stays");

static const uint64_t known_flags =
    NATTEN_FLAG_ALLOW_NONDETERMINISTIC | NATTEN_FLAG_ALLOW_TF32;

static natten_status check_size(uint64_t size)
{
    if (size >= first_size && size <= largest_size)
        return NATTEN_OK;
    return natten_status_fail(
        NATTEN_ERR_ABI, "struct_size=%" PRIu64 " not in [%zu, %zu] (natten_params)",
        size, first_size, largest_size);
}

static natten_status check_range(const char *name, int64_t value, int64_t low,
                                 int64_t high)
{
    if (value >= low && value <= high)
        return NATTEN_OK;
    return natten_status_fail(NATTEN_ERR_ARGUMENT,
                              "%s=%" PRId64 " not in [%" PRId64 ", %" PRId64 "]", name,
                              value, low, high);
}

natten_status natten_params_fill(natten_params *params, size_t size, int32_t rank)
{
    if (!params)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "params is NULL");
    NATTEN_TRY(check_size(size));
    NATTEN_TRY(check_range("rank", rank, 1, NATTEN_MAX_RANK));
    natten_params defaults = {
        .struct_size = (uint32_t)size,
        .rank = rank,
        .stride = {1, 1, 1},
        .dilation = {1, 1, 1},
    };
    memset(params, 0, size);
    memcpy(params, &defaults, size < sizeof defaults ? size : sizeof defaults);
    return NATTEN_OK;
}

natten_status natten_params_read(const natten_params *given, natten_params *params)
{
    if (!given)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "params is NULL");
    size_t size = given->struct_size;
    NATTEN_TRY(check_size(size));
    const char *bytes = (const char *)given;
    for (size_t at = sizeof *params; at < size; at++)
        if (bytes[at] != 0)
            return natten_status_fail(NATTEN_ERR_ABI,
                                      "struct_size=%zu, but byte %zu is not 0 "
                                      "(natten_params has %zu bytes here)",
                                      size, at, sizeof *params);
    memset(params, 0, sizeof *params);
    memcpy(params, given, size < sizeof *params ? size : sizeof *params);
    NATTEN_TRY(check_range("rank", params->rank, 1, NATTEN_MAX_RANK));
    NATTEN_TRY(check_range("backend", params->backend, NATTEN_BACKEND_AUTO,
                           NATTEN_BACKEND_CUDA));
    if (params->flags & ~known_flags)
        return natten_status_fail(NATTEN_ERR_ARGUMENT,
                                  "flags=0x%" PRIx64 " has bits outside 0x%" PRIx64,
                                  params->flags, known_flags);
    for (size_t i = 0; i < sizeof params->reserved / sizeof params->reserved[0]; i++)
        NATTEN_TRY(check_range("reserved", params->reserved[i], 0, 0));
    return NATTEN_OK;
}
