/* SPDX-License-Identifier: MIT
 *
 * The kernels that compute in fp64, for one instruction set. */
#define NATTEN_REAL 64
#include "cpu/cpu_variant.h"
