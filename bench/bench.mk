# SPDX-License-Identifier: MIT
#
# The benchmark, natten-bench: not built by make all, but for make check, which has a
# test of it.  gpu_bench times the CUDA backend and is built and run by scripts/gpu-check.

check_PROGRAMS += %D%/natten-bench
%C%_natten_bench_SOURCES = \
	%D%/ceiling.c %D%/ceiling.h \
	%D%/loops.c %D%/loops.h \
	%D%/natten-bench.c \
	%D%/peak.h \
	%D%/pin.c %D%/pin.h \
	%D%/race.c %D%/race.h \
	%D%/scoreboard.c %D%/scoreboard.h \
	%D%/subject.c %D%/subject.h \
	%D%/team.c %D%/team.h \
	%D%/verify.c %D%/verify.h \
	%D%/yardstick.c %D%/yardstick.h
%C%_natten_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests \
	-DNATTEN_BENCH_SUITES='"$(abs_top_srcdir)/%D%/suites"'
%C%_natten_bench_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_natten_bench_LDADD = $(peaks) tests/libtests_support.la core/libnatten_core.la \
	$(JANSSON_LIBS) -ldl

TESTS += tests/bench/bench.sh
EXTRA_DIST += tests/bench/bench.sh
if HAVE_CHECK
C_TESTS += tests/bench/check_bench
check_PROGRAMS += tests/bench/check_bench
tests_bench_check_bench_SOURCES = tests/bench/check_bench.c \
	%D%/loops.c %D%/subject.c %D%/verify.c
tests_bench_check_bench_CPPFLAGS = $(check_cppflags) -I$(srcdir)/%D%
tests_bench_check_bench_LDADD = $(check_ldadd)
endif

# The machine's limits, once per instruction set, as core/cpu/cpu.mk does.
peaks =
peak_sources = %D%/peak_single.c %D%/peak_double.c %D%/peak.h %D%/peak_words.h

if HAVE_VARIANT_SSE2
peaks += %D%/libpeak_sse2.la
check_LTLIBRARIES += %D%/libpeak_sse2.la
%C%_libpeak_sse2_la_SOURCES = $(peak_sources)
%C%_libpeak_sse2_la_CPPFLAGS = $(call variant_flags,sse2)
endif

if HAVE_VARIANT_NEON
peaks += %D%/libpeak_neon.la
check_LTLIBRARIES += %D%/libpeak_neon.la
%C%_libpeak_neon_la_SOURCES = $(peak_sources)
%C%_libpeak_neon_la_CPPFLAGS = $(call variant_flags,neon)
endif

if HAVE_VARIANT_AVX2
peaks += %D%/libpeak_avx2.la
check_LTLIBRARIES += %D%/libpeak_avx2.la
%C%_libpeak_avx2_la_SOURCES = $(peak_sources)
%C%_libpeak_avx2_la_CPPFLAGS = $(call variant_flags,avx2)
%C%_libpeak_avx2_la_CFLAGS = $(AM_CFLAGS) $(CFLAGS_AVX2)
endif

if HAVE_VARIANT_AVX512
peaks += %D%/libpeak_avx512.la
check_LTLIBRARIES += %D%/libpeak_avx512.la
%C%_libpeak_avx512_la_SOURCES = $(peak_sources)
%C%_libpeak_avx512_la_CPPFLAGS = $(call variant_flags,avx512)
%C%_libpeak_avx512_la_CFLAGS = $(AM_CFLAGS) $(CFLAGS_AVX512)
endif

EXTRA_DIST += %D%/cpu_peers.py %D%/cpu_table.py %D%/gpu_peers.py %D%/plot_cpu.py \
	%D%/suites/cpu.txt %D%/suites/grids.txt %D%/suites/windows.txt \
	%D%/results/2026-11-24-h100.md \
	%D%/results/2026-11-28-h200.md \
	%D%/results/2026-11-28-avx512.md \
	%D%/results/2026-11-29-h200.md \
	%D%/results/2026-11-30-h200.md %D%/results/2026-11-30-h200-overlap.md \
	%D%/results/2026-11-30-h200-uniform.md %D%/results/2026-11-30-h200-bringers.md \
	%D%/results/2026-11-30-h200-steps.md \
	%D%/results/2026-12-01-h200-bands.md \
	%D%/results/2026-12-01-h200-delta.md \
	%D%/results/2026-12-01-h200-bands-backward.md \
	%D%/results/2026-12-01-h200-pairs.md \
	%D%/results/2026-12-01-h200-check.md \
	%D%/results/2026-12-01-h200-guess.md \
	%D%/results/2026-12-01-h200-local.md \
	%D%/results/2026-12-01-h200-together.md \
	%D%/results/2026-12-01-h200-gradients.md \
	%D%/results/2026-12-01-h200-three-axes.md \
	%D%/results/2026-11-29-h200-mma.md \
	%D%/results/2026-11-29-zen3.md \
	%D%/results/2026-11-29-zen4.md %D%/results/2026-11-29-zen5.md \
	%D%/results/2026-11-30-intel.md \
	%D%/results/2026-11-30-zen3.md %D%/results/2026-11-30-zen4.md \
	%D%/results/2026-11-30-zen5.md %D%/results/2026-12-01-xeon.md \
	%D%/results/2026-12-01-xeon-amx.md %D%/results/2026-12-01-xeon-bias.md \
	%D%/results/2026-12-01-h200-evening.md \
	docs/pictures/cpu-speed.png

EXTRA_PROGRAMS += %D%/gpu_bench
CLEANFILES += %D%/gpu_bench
%C%_gpu_bench_SOURCES = %D%/gpu_bench.c
%C%_gpu_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_gpu_bench_LDADD = tests/libtests_support.la core/libnatten_core.la
