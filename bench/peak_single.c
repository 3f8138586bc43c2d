/* SPDX-License-Identifier: MIT
 *
 * The machine's limits in fp32, for one instruction set. */
#define NATTEN_REAL 32
#include "peak_words.h"
