# SPDX-License-Identifier: MIT
#
# The benchmark, natten-bench: built on demand, not by make all.

EXTRA_PROGRAMS += %D%/natten-bench
%C%_natten_bench_SOURCES = %D%/natten-bench.c %D%/subject.c %D%/subject.h \
	%D%/verify.c %D%/verify.h %D%/yardstick.c %D%/yardstick.h
%C%_natten_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests \
	-DNATTEN_BENCH_SUITES='"$(abs_top_srcdir)/%D%/suites"'
%C%_natten_bench_LDADD = tests/libtests_support.la core/libnatten_core.la -ldl
EXTRA_DIST += %D%/suites/cpu.txt
CLEANFILES += %D%/natten-bench$(EXEEXT)
