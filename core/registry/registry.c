/* SPDX-License-Identifier: MIT
 *
 * The backends of this build, fastest first; a new one is a line here. */
#include "registry/registry.h"

#include "cpu/cpu.h"
#include "cuda/cuda.h"
#include "reference/reference.h"

#include <stddef.h>

const natten_backend_entry *const natten_registry[] = {
    &natten_cuda_backend,
    &natten_cpu_backend,
    &natten_reference_backend,
    NULL,
};
