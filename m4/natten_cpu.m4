# SPDX-License-Identifier: MIT
#
# The instruction sets for which core/cpu/cpu_variant.c is compiled.  All that the
# compiler can make for this kind of processor are built; the library chooses at run time.

# NATTEN_CPU_VARIANT(NAME, FLAGS, PROGRAM): HAVE_VARIANT_NAME for make, NATTEN_HAVE_NAME
# for C, CFLAGS_NAME, when PROGRAM compiles with FLAGS on this family of processors.
AC_DEFUN([NATTEN_CPU_VARIANT],[
AS_VAR_PUSHDEF([natten_cv],[natten_cv_variant_$1])
AC_CACHE_CHECK([whether $CC makes $1 code],[natten_cv],[
  natten_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $2"
  AC_COMPILE_IFELSE([AC_LANG_SOURCE([$3])],[AS_VAR_SET([natten_cv],[yes])],
    [AS_VAR_SET([natten_cv],[no])])
  CFLAGS=$natten_save_CFLAGS])
AS_VAR_IF([natten_cv],[yes],[
  natten_variants="$natten_variants $1"
  AC_DEFINE([NATTEN_HAVE_]m4_toupper([$1]),[1],[Define to 1 if the $1 variant is compiled])
  AC_SUBST([CFLAGS_]m4_toupper([$1]),["$2"])])
AM_CONDITIONAL([HAVE_VARIANT_]m4_toupper([$1]),[AS_VAR_TEST_SET([natten_cv]) && test "x$natten_cv" = xyes])
AS_VAR_POPDEF([natten_cv])
])

AC_DEFUN([NATTEN_CPU_VARIANTS],[
natten_variants=scalar
# What every processor of a family has: SSE2 on x86-64, NEON on 64-bit ARM.
NATTEN_CPU_VARIANT([sse2],[],[[
#include <emmintrin.h>
#ifndef __x86_64__
#error not x86-64
#endif
__m128 f(__m128 a) { return _mm_add_ps(a, a); }
]])
NATTEN_CPU_VARIANT([neon],[],[[
#include <arm_neon.h>
#ifndef __aarch64__
#error not 64-bit ARM
#endif
float32x4_t f(float32x4_t a, float16x4_t h) { return vfmaq_f32(a, a, vcvt_f32_f16(h)); }
]])
NATTEN_CPU_VARIANT([avx2],[-mavx2 -mfma -mf16c],[[
#include <immintrin.h>
#ifndef __x86_64__
#error not x86-64
#endif
__m256 f(__m256 a, __m128i h) { return _mm256_fmadd_ps(a, a, _mm256_cvtph_ps(h)); }
]])
NATTEN_CPU_VARIANT([avx512],[-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c],[[
#include <immintrin.h>
#ifndef __x86_64__
#error not x86-64
#endif
__m512 f(__m512 a, __m256i h) { return _mm512_fmadd_ps(a, a, _mm512_cvtph_ps(h)); }
__m256 g(__m256 a, __mmask8 m) { return _mm256_maskz_mov_ps(m, a); }
]])
])
