# SPDX-License-Identifier: MIT
#
# Tests of the CUDA backend.  Programs named gpu_ need a GPU and neither Check nor a
# language: scripts/gpu-check builds and runs them.

gpu_programs = %D%/gpu_alone %D%/gpu_host %D%/gpu_judge %D%/gpu_shapes
EXTRA_PROGRAMS += $(gpu_programs)
CLEANFILES += $(gpu_programs)

%C%_gpu_alone_SOURCES = %D%/gpu_alone.c
%C%_gpu_alone_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_gpu_alone_LDADD = tests/libtests_support.la core/libnatten_core.la
%C%_gpu_host_SOURCES = %D%/gpu_host.c
%C%_gpu_host_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_gpu_host_LDADD = tests/libtests_support.la core/libnatten_core.la
%C%_gpu_judge_SOURCES = %D%/gpu_judge.c
%C%_gpu_judge_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_gpu_judge_LDADD = tests/libtests_support.la core/libnatten_core.la
%C%_gpu_shapes_SOURCES = %D%/gpu_shapes.c
%C%_gpu_shapes_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_gpu_shapes_LDADD = tests/libtests_support.la core/libnatten_core.la

gpu-programs: $(gpu_programs) bench/gpu_bench
PHONY_TARGETS += gpu-programs

# ---- without a GPU -------------------------------------------------------------------
# A libcuda.so.1 of our own.  It is loaded by that name, so libtool is not asked.

check_PROGRAMS += %D%/fake_cuda
%C%_fake_cuda_SOURCES = %D%/fake_added.c %D%/fake_added.h %D%/fake_band.c \
	%D%/fake_band.h %D%/fake_cuda.c \
	%D%/fake_driver.h %D%/fake_family.c %D%/fake_family.h %D%/fake_host.c \
	%D%/fake_host.h %D%/fake_mma.c %D%/fake_mma.h %D%/fake_scene.h %D%/fake_sweep.c \
	%D%/fake_sweep.h %D%/fake_wgmma.c %D%/fake_wgmma.h
%C%_fake_cuda_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_fake_cuda_LDADD = tests/libtests_support.la core/libnatten_core.la

fake_driver = %D%/fake/libcuda.so.1
%D%/fake/libcuda.so.1: %D%/fake_driver.c %D%/fake_driver.h core/machine/driver.def \
		core/machine/driver.h core/cuda/cuda_job.h
	$(AM_V_CCLD)$(MKDIR_P) %D%/fake && \
	$(CC) $(DEFS) -I$(srcdir)/core -I$(srcdir)/core/include -I$(srcdir)/tests \
	  -D_GNU_SOURCE $(AM_CFLAGS) $(CFLAGS) -fPIC -shared -Wl,-soname,libcuda.so.1 \
	  -o $@ $(srcdir)/%D%/fake_driver.c
EXTRA_DIST += %D%/fake_driver.c %D%/check_cuda.sh
CLEANFILES += $(fake_driver)

TESTS += %D%/check_cuda.sh
%D%/check_cuda.log: $(fake_driver) %D%/fake_cuda
tests/check_agree.log: $(fake_driver)
