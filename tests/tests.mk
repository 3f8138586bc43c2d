# SPDX-License-Identifier: MIT
#
# Tests of the core, in C.

# ---- what C tests share --------------------------------------------------------------
# Random trials of the public API and a judge of their results.  Tests link the
# convenience library of the core, so that they reach what is not exported.

check_LTLIBRARIES += %D%/libtests_support.la
%C%_libtests_support_la_SOURCES = \
	%D%/support/array.c %D%/support/array.h \
	%D%/support/court.c %D%/support/court.h \
	%D%/support/court_fused.c \
	%D%/support/court_unfused.c \
	%D%/support/device.c %D%/support/device.h \
	%D%/support/device_problem.c %D%/support/device_problem.h \
	%D%/support/judge.c %D%/support/judge.h \
	%D%/support/judge_merge.c %D%/support/judge_merge.h \
	%D%/support/performers.c %D%/support/performers.h \
	%D%/support/plain.c %D%/support/plain.h \
	%D%/support/random.h \
	%D%/support/tap.h \
	%D%/support/trial.c %D%/support/trial.h \
	%D%/support/values.c \
	%D%/support/words.h
%C%_libtests_support_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/%D%

check_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir)/tests $(CHECK_CFLAGS)
check_ldadd = tests/libtests_support.la core/libnatten_core.la $(CHECK_LIBS)

# ---- geometry, numerics --------------------------------------------------------------

if HAVE_CHECK
numerics_tests = \
	%D%/cpu/check_cpu \
	%D%/cpu/check_cpu_merge \
	%D%/cpu/check_cpu_share \
	%D%/cpu/check_cpu_tile \
	%D%/cpu/check_cpu_turns \
	%D%/cpu/check_cpu_words \
	%D%/geometry/check_axis \
	%D%/geometry/check_pairs \
	%D%/numerics/check_accuracy \
	%D%/numerics/check_gradients \
	%D%/numerics/check_mask \
	%D%/numerics/check_parts \
	%D%/numerics/check_same_call \
	%D%/numerics/check_scratch \
	%D%/reference/check_reference \
	%D%/support/check_judge
C_TESTS += $(numerics_tests)
check_PROGRAMS += $(numerics_tests)

%C%_cpu_check_cpu_SOURCES = %D%/cpu/check_cpu.c
%C%_cpu_check_cpu_CPPFLAGS = $(check_cppflags)
%C%_cpu_check_cpu_LDADD = $(check_ldadd)
%C%_cpu_check_cpu_share_SOURCES = %D%/cpu/check_cpu_share.c
%C%_cpu_check_cpu_share_CPPFLAGS = $(check_cppflags)
%C%_cpu_check_cpu_share_LDADD = $(check_ldadd)
%C%_cpu_check_cpu_tile_SOURCES = %D%/cpu/check_cpu_tile.c
%C%_cpu_check_cpu_tile_CPPFLAGS = $(check_cppflags)
%C%_cpu_check_cpu_tile_LDADD = $(check_ldadd)
%C%_cpu_check_cpu_turns_SOURCES = %D%/cpu/check_cpu_turns.c
%C%_cpu_check_cpu_turns_CPPFLAGS = $(check_cppflags)
%C%_cpu_check_cpu_turns_LDADD = $(check_ldadd)
%C%_cpu_check_cpu_words_SOURCES = %D%/cpu/check_cpu_words.c
%C%_cpu_check_cpu_words_CPPFLAGS = $(check_cppflags)
%C%_cpu_check_cpu_words_LDADD = $(check_ldadd)
%C%_cpu_check_cpu_merge_SOURCES = %D%/cpu/check_cpu_merge.c
%C%_cpu_check_cpu_merge_CPPFLAGS = $(check_cppflags)
%C%_cpu_check_cpu_merge_LDADD = $(check_ldadd)
%C%_geometry_check_axis_SOURCES = %D%/geometry/check_axis.c
%C%_geometry_check_axis_CPPFLAGS = $(check_cppflags)
%C%_geometry_check_axis_LDADD = $(check_ldadd)
%C%_geometry_check_pairs_SOURCES = %D%/geometry/check_pairs.c
%C%_geometry_check_pairs_CPPFLAGS = $(check_cppflags)
%C%_geometry_check_pairs_LDADD = $(check_ldadd)
%C%_numerics_check_accuracy_SOURCES = %D%/numerics/check_accuracy.c
%C%_numerics_check_accuracy_CPPFLAGS = $(check_cppflags)
%C%_numerics_check_accuracy_LDADD = $(check_ldadd)
%C%_numerics_check_gradients_SOURCES = %D%/numerics/check_gradients.c
%C%_numerics_check_gradients_CPPFLAGS = $(check_cppflags)
%C%_numerics_check_gradients_LDADD = $(check_ldadd)
%C%_numerics_check_mask_SOURCES = %D%/numerics/check_mask.c
%C%_numerics_check_mask_CPPFLAGS = $(check_cppflags)
%C%_numerics_check_mask_LDADD = $(check_ldadd)
%C%_numerics_check_parts_SOURCES = %D%/numerics/check_parts.c
%C%_numerics_check_parts_CPPFLAGS = $(check_cppflags)
%C%_numerics_check_parts_LDADD = $(check_ldadd)
%C%_numerics_check_same_call_SOURCES = %D%/numerics/check_same_call.c
%C%_numerics_check_same_call_CPPFLAGS = $(check_cppflags)
%C%_numerics_check_same_call_LDADD = $(check_ldadd)
%C%_numerics_check_scratch_SOURCES = %D%/numerics/check_scratch.c
%C%_numerics_check_scratch_CPPFLAGS = $(check_cppflags)
%C%_numerics_check_scratch_LDADD = $(check_ldadd)
%C%_reference_check_reference_SOURCES = %D%/reference/check_reference.c
%C%_reference_check_reference_CPPFLAGS = $(check_cppflags)
%C%_reference_check_reference_LDADD = $(check_ldadd)
%C%_support_check_judge_SOURCES = %D%/support/check_judge.c
%C%_support_check_judge_CPPFLAGS = $(check_cppflags)
%C%_support_check_judge_LDADD = $(check_ldadd)
endif

# ---- scripts/agree -------------------------------------------------------------------

check_PROGRAMS += %D%/agree
%C%_agree_SOURCES = %D%/agree.c
%C%_agree_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
%C%_agree_LDADD = tests/libtests_support.la core/libnatten_core.la
TESTS += %D%/check_agree.sh
EXTRA_DIST += %D%/check_agree.sh

# ---- the same bits from every language -----------------------------------------------
# Each language's tests leave the results of the cases in $NATTEN_BITS; the comparison
# runs when all have.

AM_TESTS_ENVIRONMENT += NATTEN_BITS='$(abs_top_builddir)/stage/bits'; \
	export NATTEN_BITS;
CLEAN_DIRECTORIES += stage/bits

C_TESTS += %D%/bits
check_PROGRAMS += %D%/bits
%C%_bits_SOURCES = %D%/bits.c
%C%_bits_LDADD = core/libnatten_core.la
EXTRA_DIST += %D%/cases/bits.txt

TESTS += %D%/check_same_bits.sh
EXTRA_DIST += %D%/check_same_bits.sh
bits_logs = %D%/bits.log
if HAVE_PYTHON
bits_logs += bindings/python/tests/run.log
endif
if HAVE_JULIA
bits_logs += bindings/julia/test/tap.log
endif
if HAVE_R
bits_logs += bindings/r/tests/testthat.log
endif
%D%/check_same_bits.log: $(bits_logs)

# ---- base, problem, machine, plan, api -----------------------------------------------
# Some are linked with allocators of their own in front of the system's: see there.

if HAVE_CHECK
core_tests = \
	%D%/base/check_cpus \
	%D%/base/check_dtype \
	%D%/base/check_env \
	%D%/base/check_floatmode \
	%D%/base/check_parallel \
	%D%/base/check_status \
	%D%/problem/check_extent \
	%D%/problem/check_merge \
	%D%/problem/check_problem \
	%D%/problem/check_problem_text \
	%D%/problem/check_task \
	%D%/problem/check_tensor \
	%D%/machine/check_machine \
	%D%/plan/check_plan \
	%D%/api/check_natten \
	%D%/api/check_settings \
	%D%/api/check_sizes \
	%D%/api/check_promises
C_TESTS += $(core_tests)
check_PROGRAMS += $(core_tests)

%C%_base_check_cpus_SOURCES = %D%/base/check_cpus.c
%C%_base_check_cpus_CPPFLAGS = $(check_cppflags)
%C%_base_check_cpus_LDADD = $(check_ldadd)
%C%_base_check_dtype_SOURCES = %D%/base/check_dtype.c
%C%_base_check_dtype_CPPFLAGS = $(check_cppflags)
%C%_base_check_dtype_LDADD = $(check_ldadd)
%C%_base_check_env_SOURCES = %D%/base/check_env.c
%C%_base_check_env_CPPFLAGS = $(check_cppflags)
%C%_base_check_env_LDADD = $(check_ldadd)
%C%_base_check_floatmode_SOURCES = %D%/base/check_floatmode.c
%C%_base_check_floatmode_CPPFLAGS = $(check_cppflags)
%C%_base_check_floatmode_LDADD = $(check_ldadd)
%C%_base_check_parallel_SOURCES = %D%/base/check_parallel.c
%C%_base_check_parallel_CPPFLAGS = $(check_cppflags)
%C%_base_check_parallel_LDADD = $(check_ldadd)
%C%_base_check_parallel_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pthread_create \
	-Wl,--wrap=pthread_cond_timedwait
%C%_base_check_status_SOURCES = %D%/base/check_status.c
%C%_base_check_status_CPPFLAGS = $(check_cppflags)
%C%_base_check_status_LDADD = $(check_ldadd)
%C%_problem_check_extent_SOURCES = %D%/problem/check_extent.c
%C%_problem_check_extent_CPPFLAGS = $(check_cppflags)
%C%_problem_check_extent_LDADD = $(check_ldadd)
%C%_problem_check_merge_SOURCES = %D%/problem/check_merge.c
%C%_problem_check_merge_CPPFLAGS = $(check_cppflags)
%C%_problem_check_merge_LDADD = $(check_ldadd)
%C%_problem_check_problem_SOURCES = %D%/problem/check_problem.c %D%/api/call.c %D%/api/call.h
%C%_problem_check_problem_CPPFLAGS = $(check_cppflags)
%C%_problem_check_problem_LDADD = $(check_ldadd)
%C%_problem_check_problem_text_SOURCES = %D%/problem/check_problem_text.c
%C%_problem_check_problem_text_CPPFLAGS = $(check_cppflags)
%C%_problem_check_problem_text_LDADD = $(check_ldadd)
%C%_problem_check_task_SOURCES = %D%/problem/check_task.c
%C%_problem_check_task_CPPFLAGS = $(check_cppflags)
%C%_problem_check_task_LDADD = $(check_ldadd)
%C%_problem_check_tensor_SOURCES = %D%/problem/check_tensor.c
%C%_problem_check_tensor_CPPFLAGS = $(check_cppflags)
%C%_problem_check_tensor_LDADD = $(check_ldadd)
%C%_machine_check_machine_SOURCES = %D%/machine/check_machine.c
%C%_machine_check_machine_CPPFLAGS = $(check_cppflags)
%C%_machine_check_machine_LDADD = $(check_ldadd)
%C%_plan_check_plan_SOURCES = %D%/plan/check_plan.c
%C%_plan_check_plan_CPPFLAGS = $(check_cppflags)
%C%_plan_check_plan_LDADD = $(check_ldadd)
%C%_api_check_natten_SOURCES = %D%/api/check_natten.c %D%/api/call.c %D%/api/call.h
%C%_api_check_natten_CPPFLAGS = $(check_cppflags)
%C%_api_check_natten_LDADD = $(check_ldadd)
%C%_api_check_natten_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=posix_memalign
%C%_api_check_settings_SOURCES = %D%/api/check_settings.c
%C%_api_check_settings_CPPFLAGS = $(check_cppflags)
%C%_api_check_settings_LDADD = $(check_ldadd)
%C%_api_check_sizes_SOURCES = %D%/api/check_sizes.c
%C%_api_check_sizes_CPPFLAGS = $(check_cppflags)
%C%_api_check_sizes_LDADD = $(check_ldadd)
%C%_api_check_promises_SOURCES = %D%/api/check_promises.c %D%/api/call.c \
	%D%/api/call.h
%C%_api_check_promises_CPPFLAGS = $(check_cppflags)
%C%_api_check_promises_LDADD = $(check_ldadd)
endif
