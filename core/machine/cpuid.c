/* SPDX-License-Identifier: MIT
 *
 * Instruction sets, from CPUID and XGETBV alone (Intel SDM volume 1, 14.3 and 15.2): a
 * name table or /proc/cpuinfo would know only old processors, and an emulator or
 * valgrind that hides an instruction set hides it here. */
#include "machine/cpuid.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>

/* Register state that the operating system saves at a thread switch: XCR0. */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

void natten_cpuid_variants(bool runs[NATTEN_VARIANTS])
{
    runs[NATTEN_VARIANT_SCALAR] = true;
    runs[NATTEN_VARIANT_BASELINE] = true; /* SSE2 is part of x86-64 */
    runs[NATTEN_VARIANT_AVX2] = false;
    runs[NATTEN_VARIANT_AVX512] = false;

    uint32_t a, b, c, d, b7, c7, d7;
    if (!__get_cpuid(1, &a, &b, &c, &d) ||
        !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C))
        return;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return;
    uint64_t state = saved_state();
    bool ymm = (state & 0x06) == 0x06; /* XMM and YMM halves */
    bool zmm = (state & 0xe6) == 0xe6; /* also mask registers and both ZMM parts */
    runs[NATTEN_VARIANT_AVX2] = ymm && has(b7, bit_AVX2);
    runs[NATTEN_VARIANT_AVX512] = zmm && has(b7, bit_AVX2 | bit_AVX512F | bit_AVX512BW |
                                                     bit_AVX512DQ | bit_AVX512VL);
}

#else

void natten_cpuid_variants(bool runs[NATTEN_VARIANTS])
{
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        runs[v] = v == NATTEN_VARIANT_SCALAR;
#if defined(__aarch64__)
    runs[NATTEN_VARIANT_BASELINE] = true; /* NEON is part of AArch64 */
#endif
}

#endif
