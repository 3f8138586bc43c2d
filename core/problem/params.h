/* SPDX-License-Identifier: MIT
 *
 * natten_params across versions: a caller compiled against an older or newer header
 * than this library hands over a struct of another size. */
#ifndef NATTEN_PROBLEM_PARAMS_H
#define NATTEN_PROBLEM_PARAMS_H

#include <natten.h>

/* Fill a struct of `size` bytes with the defaults. */
natten_status natten_params_fill(natten_params *params, size_t size, int32_t rank);

/* Copy the caller's struct into one of this version, and check everything in it that is
 * not about shapes: struct_size, rank, backend, flags, reserved. */
natten_status natten_params_read(const natten_params *given, natten_params *params);

#endif
