/* SPDX-License-Identifier: MIT
 *
 * The processor's floating-point mode.  A caller may have switched on flush-to-zero,
 * another rounding or traps; results must not depend on it, nor on which thread of the
 * pool does an item.  So every call computes in the standard mode and gives the
 * caller's back, with its exception flags, when it is over. */
#ifndef NATTEN_BASE_FLOATMODE_H
#define NATTEN_BASE_FLOATMODE_H

#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
typedef uint32_t natten_floatmode;
#elif defined(__aarch64__)
typedef struct natten_floatmode {
    uint64_t control, flags;
} natten_floatmode;
#else
#include <fenv.h>
typedef fenv_t natten_floatmode;
#endif

/* Round to nearest, subnormals kept, no traps, no flags raised; returns the mode
 * before. */
static inline natten_floatmode natten_floatmode_enter(void)
{
#if defined(__x86_64__) || defined(__i386__)
    natten_floatmode before = _mm_getcsr();
    _mm_setcsr(0x1f80); /* all six exceptions masked, the rest zero */
    return before;
#elif defined(__aarch64__)
    natten_floatmode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before.control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(before.flags));
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0)));
    return before;
#else
    natten_floatmode before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
#endif
}

static inline void natten_floatmode_leave(natten_floatmode before)
{
#if defined(__x86_64__) || defined(__i386__)
    _mm_setcsr(before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before.control));
    __asm__ volatile("msr fpsr, %0" : : "r"(before.flags));
#else
    fesetenv(&before);
#endif
}

#endif
