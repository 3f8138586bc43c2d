# SPDX-License-Identifier: MIT
#
# The library.  All of core/ is one convenience library, libnatten_core, which the tests
# link to reach what is not exported; libnatten, the public one, is the same objects behind
# the version script natten.sym.

include_HEADERS += %D%/include/natten.h
lib_LTLIBRARIES += %D%/libnatten.la
noinst_LTLIBRARIES += %D%/libnatten_core.la

%C%_libnatten_core_la_SOURCES = \
	%D%/include/natten.h \
	%D%/base/cpus.c \
	%D%/base/cpus.h \
	%D%/base/dtype.c \
	%D%/base/dtype.h \
	%D%/base/env.c \
	%D%/base/env.h \
	%D%/base/floatmode.h \
	%D%/base/inline.h \
	%D%/base/parallel.c \
	%D%/base/parallel.h \
	%D%/base/status.c \
	%D%/base/status.h \
	%D%/geometry/axis.h \
	%D%/geometry/pairs.c \
	%D%/geometry/pairs.h \
	%D%/problem/axes.c \
	%D%/problem/axes.h \
	%D%/problem/merge.c \
	%D%/problem/merge.h \
	%D%/problem/extent.c \
	%D%/problem/extent.h \
	%D%/problem/params.c \
	%D%/problem/params.h \
	%D%/problem/problem.c \
	%D%/problem/problem.h \
	%D%/problem/problem_spec.c \
	%D%/problem/problem_spec.h \
	%D%/problem/problem_text.c \
	%D%/problem/problem_text.h \
	%D%/problem/roles.c \
	%D%/problem/roles.h \
	%D%/problem/task.c \
	%D%/problem/task.h \
	%D%/problem/tensor.c \
	%D%/problem/tensor.h \
	%D%/machine/cpuid.c \
	%D%/machine/cpuid.h \
	%D%/machine/driver.c \
	%D%/machine/driver.def \
	%D%/machine/driver.h \
	%D%/machine/gpu.c \
	%D%/machine/gpu.h \
	%D%/machine/machine.c \
	%D%/machine/machine.h \
	%D%/backend/backend.h \
	%D%/reference/fused.c \
	%D%/reference/gradients.c \
	%D%/reference/gradients.h \
	%D%/reference/operations.h \
	%D%/reference/pair.c \
	%D%/reference/pair.h \
	%D%/reference/reference.c \
	%D%/reference/reference.h \
	%D%/reference/unfused.c \
	%D%/cpu/cpu.c \
	%D%/cpu/cpu.h \
	%D%/cpu/cpu_job.c \
	%D%/cpu/cpu_job.h \
	%D%/cpu/cpu_merge.c \
	%D%/cpu/cpu_pass.c \
	%D%/cpu/cpu_pass.h \
	%D%/cpu/cpu_share.c \
	%D%/cpu/cpu_share.h \
	%D%/cpu/cpu_tile.c \
	%D%/cpu/cpu_tile.h \
	%D%/cpu/cpu_work.c \
	%D%/cpu/cpu_work.h \
	%D%/plan/plan.c \
	%D%/plan/plan.h \
	%D%/registry/registry.c \
	%D%/registry/registry.h \
	%D%/api/natten.c \
	%D%/api/settings.c \
	%D%/api/sizes.c
%C%_libnatten_core_la_LIBADD =

# The kernels of the CPU backend, once per instruction set.
include core/cpu/cpu.mk
include core/cuda/cuda.mk

%C%_libnatten_la_SOURCES =
%C%_libnatten_la_LIBADD = %D%/libnatten_core.la
%C%_libnatten_la_LDFLAGS = $(AM_LDFLAGS) -version-info $(NATTEN_LT_VERSION) \
	-no-undefined $(DEFS_LDFLAGS)
if HAVE_VERSION_SCRIPT
%C%_libnatten_la_LDFLAGS += -Wl,--version-script=$(srcdir)/%D%/natten.sym \
	-Wl,-z,nodelete
EXTRA_%C%_libnatten_la_DEPENDENCIES = %D%/natten.sym
else
%C%_libnatten_la_LDFLAGS += -export-symbols-regex '^natten_'
endif
EXTRA_DIST += %D%/natten.sym

# ---- for users' builds: pkg-config and CMake -----------------------------------------

pkgconfig_DATA = %D%/natten.pc
nodist_cmake_DATA = %D%/natten-config.cmake %D%/natten-config-version.cmake
EXTRA_DIST += %D%/natten-config.cmake.in %D%/natten-config-version.cmake.in
CLEANFILES += $(nodist_cmake_DATA)

%D%/natten-config.cmake: %D%/natten-config.cmake.in Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && $(SED) \
	  -e 's|[@]cmakedir[@]|$(cmakedir)|' -e 's|[@]libdir[@]|$(libdir)|' \
	  -e 's|[@]includedir[@]|$(includedir)|' \
	  '$(srcdir)/$@.in' > $@-t && mv $@-t $@
%D%/natten-config-version.cmake: %D%/natten-config-version.cmake.in Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && $(SED) -e 's|[@]PACKAGE_VERSION[@]|$(PACKAGE_VERSION)|' \
	  '$(srcdir)/$@.in' > $@-t && mv $@-t $@
