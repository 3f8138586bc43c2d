/* SPDX-License-Identifier: MIT
 *
 * Instruction sets, from CPUID and XGETBV alone (Intel SDM volume 1, 14.3 and 15.2): a
 * name table or /proc/cpuinfo would know only old processors, and an emulator or
 * valgrind that hides an instruction set hides it here. */
#include "machine/cpuid.h"

#if defined(__x86_64__)

#include <cpuid.h>

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

/* The caches one after another, all ways, sets and lines of each (Intel SDM volume 2,
 * leaf 4; AMD64 volume 3, leaf 8000001d). The C library's sysconf() adds up the last
 * levels of all cores, where the operating system does not know which share one. */
static int64_t find_cache(uint32_t leaf, uint32_t level)
{
    enum { NONE, DATA, INSTRUCTIONS, UNIFIED, MOST = 16 };
    uint32_t a, b, c, d;
    for (uint32_t i = 0; i < MOST; i++) {
        if (!__get_cpuid_count(leaf, i, &a, &b, &c, &d) || (a & 31) == NONE)
            break;
        if ((a >> 5 & 7) == level && (a & 31) != INSTRUCTIONS)
            return (int64_t)((b >> 22) + 1) * ((b >> 12 & 1023) + 1) *
                   ((b & 4095) + 1) * ((int64_t)c + 1);
    }
    return 0;
}

int64_t natten_cpuid_cache_bytes(int level)
{
    int64_t bytes = find_cache(4, (uint32_t)level);
    return bytes ? bytes : find_cache(0x8000001d, (uint32_t)level);
}

#else

int64_t natten_cpuid_cache_bytes(int level)
{
    (void)level;
    return 0;
}

void natten_cpuid_variants(bool runs[NATTEN_VARIANTS])
{
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        runs[v] = v == NATTEN_VARIANT_SCALAR;
#if defined(__aarch64__)
    runs[NATTEN_VARIANT_BASELINE] = true; /* NEON is part of AArch64 */
#endif
}

#endif
