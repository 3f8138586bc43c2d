/* SPDX-License-Identifier: MIT
 *
 * The machine's limits in fp64, for one instruction set. */
#define NATTEN_REAL 64
#include "peak_words.h"
