/* SPDX-License-Identifier: MIT
 *
 * The kernels that compute in fp32, for one instruction set. */
#define NATTEN_REAL 32
#include "cpu/cpu_variant.h"
