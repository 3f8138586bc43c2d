/* SPDX-License-Identifier: MIT
 *
 * What the processor and the operating system together can execute, and its caches. */
#ifndef NATTEN_MACHINE_CPUID_H
#define NATTEN_MACHINE_CPUID_H

#include "machine/machine.h"

#include <stdbool.h>
#include <stdint.h>

/* Set runs[v] for each variant whose instructions this machine executes, whether or not
 * this build has code for it. */
void natten_cpuid_variants(bool runs[NATTEN_VARIANTS]);

/* Bytes of the data cache of a level, 1 the nearest, that a core has or shares; 0 if
 * the processor does not tell. */
int64_t natten_cpuid_cache_bytes(int level);

#endif
