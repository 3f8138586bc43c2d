# SPDX-License-Identifier: MIT
#
# The benchmark, natten-bench: built on demand, not by make all.  gpu_bench times the
# CUDA backend and is built and run by scripts/gpu-check.

EXTRA_PROGRAMS += %D%/natten-bench
%C%_natten_bench_SOURCES = %D%/natten-bench.c %D%/subject.c %D%/subject.h \
	%D%/verify.c %D%/verify.h %D%/yardstick.c %D%/yardstick.h
%C%_natten_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests \
	-DNATTEN_BENCH_SUITES='"$(abs_top_srcdir)/%D%/suites"'
%C%_natten_bench_LDADD = tests/libtests_support.la core/libnatten_core.la -ldl
EXTRA_DIST += %D%/gpu_peers.py %D%/suites/cpu.txt %D%/results/2026-11-24-h100.md \
	%D%/results/2026-11-28-h200.md \
	%D%/results/2026-11-28-avx512.md
CLEANFILES += %D%/natten-bench$(EXEEXT)

EXTRA_PROGRAMS += %D%/gpu_bench
CLEANFILES += %D%/gpu_bench
%C%_gpu_bench_SOURCES = %D%/gpu_bench.c
%C%_gpu_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_gpu_bench_LDADD = tests/libtests_support.la core/libnatten_core.la
