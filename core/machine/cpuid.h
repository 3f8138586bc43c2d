/* SPDX-License-Identifier: MIT
 *
 * What the processor and the operating system together can execute. */
#ifndef NATTEN_MACHINE_CPUID_H
#define NATTEN_MACHINE_CPUID_H

#include "machine/machine.h"

#include <stdbool.h>

/* Set runs[v] for each variant whose instructions this machine executes, whether or not
 * this build has code for it. */
void natten_cpuid_variants(bool runs[NATTEN_VARIANTS]);

#endif
