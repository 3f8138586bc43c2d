# SPDX-License-Identifier: MIT
#
# cpu_single.c and cpu_double.c, once per instruction set that configure found the compiler
# able to make.  Each is a convenience library, because automake gives flags to a library and
# not to a file.  NATTEN_VARIANT becomes the suffix of the variant's table, NATTEN_VARIANT_WORDS is
# the page of simd/ that defines the vector vocabulary for it.
#
# Nothing but the kernels may be compiled here: a function that the linker shares between
# objects, made with AVX, would crash an older processor.

# The variants' headers are listed too, or a release lacks them.
variant_sources = %D%/cpu_single.c %D%/cpu_double.c \
	%D%/cpu_ahead.h %D%/cpu_backward.h %D%/cpu_bias.h %D%/cpu_extra.h %D%/cpu_forward.h \
	%D%/cpu_give.h %D%/cpu_group.h %D%/cpu_kernel.h %D%/cpu_line.h %D%/cpu_near.h %D%/cpu_logits.h %D%/cpu_math.h %D%/cpu_merge.h %D%/cpu_pack.h %D%/cpu_pass.h \
	%D%/cpu_scatter.h %D%/cpu_unfused.h %D%/cpu_variant.h %D%/cpu_walk.h %D%/cpu_wish.h \
	%D%/simd/avx2.h %D%/simd/avx512.h %D%/simd/narrow.h %D%/simd/neon.h \
	%D%/simd/scalar.h %D%/simd/sse2.h
variant_flags = $(AM_CPPFLAGS) -DNATTEN_VARIANT=$(1) \
	-DNATTEN_VARIANT_WORDS='"cpu/simd/$(1).h"'

noinst_LTLIBRARIES += %D%/libcpu_scalar.la
core_libnatten_core_la_LIBADD += %D%/libcpu_scalar.la
%C%_libcpu_scalar_la_SOURCES = $(variant_sources)
%C%_libcpu_scalar_la_CPPFLAGS = $(call variant_flags,scalar)

if HAVE_VARIANT_SSE2
noinst_LTLIBRARIES += %D%/libcpu_sse2.la
core_libnatten_core_la_LIBADD += %D%/libcpu_sse2.la
%C%_libcpu_sse2_la_SOURCES = $(variant_sources)
%C%_libcpu_sse2_la_CPPFLAGS = $(call variant_flags,sse2)
endif

if HAVE_VARIANT_NEON
noinst_LTLIBRARIES += %D%/libcpu_neon.la
core_libnatten_core_la_LIBADD += %D%/libcpu_neon.la
%C%_libcpu_neon_la_SOURCES = $(variant_sources)
%C%_libcpu_neon_la_CPPFLAGS = $(call variant_flags,neon)
endif

if HAVE_VARIANT_AVX2
noinst_LTLIBRARIES += %D%/libcpu_avx2.la
core_libnatten_core_la_LIBADD += %D%/libcpu_avx2.la
%C%_libcpu_avx2_la_SOURCES = $(variant_sources)
%C%_libcpu_avx2_la_CPPFLAGS = $(call variant_flags,avx2)
%C%_libcpu_avx2_la_CFLAGS = $(AM_CFLAGS) $(CFLAGS_AVX2)
endif

if HAVE_VARIANT_AVX512
noinst_LTLIBRARIES += %D%/libcpu_avx512.la
core_libnatten_core_la_LIBADD += %D%/libcpu_avx512.la
%C%_libcpu_avx512_la_SOURCES = $(variant_sources)
%C%_libcpu_avx512_la_CPPFLAGS = $(call variant_flags,avx512)
%C%_libcpu_avx512_la_CFLAGS = $(AM_CFLAGS) $(CFLAGS_AVX512)
endif
