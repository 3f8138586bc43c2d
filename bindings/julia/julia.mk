# SPDX-License-Identifier: MIT
#
# The Julia package.  It has nothing to build: the ccall layer is generated into the source
# tree, shipped, and so needed by nobody who has a release; make install copies the package
# and tells it where the library went.

jl_tree = $(srcdir)/%D%
jl_layer = $(jl_tree)/src/LibNATTEN.jl

jl_sources = %D%/src/NATTEN.jl %D%/src/attention.jl %D%/src/bfloat16.jl %D%/src/calls.jl \
	%D%/src/library.jl %D%/src/merge.jl %D%/src/options.jl %D%/src/settings.jl \
	%D%/src/tensors.jl %D%/src/unfused.jl
jl_extensions = %D%/ext/NATTENChainRulesCoreExt.jl
jl_tests = %D%/test/runtests.jl %D%/test/tap.jl \
	%D%/test/arrays.jl %D%/test/attention.jl %D%/test/cases.jl %D%/test/errors.jl \
	%D%/test/gradients.jl %D%/test/loading.jl %D%/test/merging.jl %D%/test/oracle.jl \
	%D%/test/problem_text.jl %D%/test/processes.jl %D%/test/rules.jl %D%/test/settings.jl \
	%D%/test/stand-in/ChainRulesCore.jl

EXTRA_DIST += %D%/Project.toml $(jl_sources) $(jl_extensions) $(jl_tests) $(jl_layer)
MAINTAINERCLEANFILES += $(jl_layer)
dist_doc_DATA += docs/julia.md

jl_generator = $(srcdir)/bindings/tools/generate.py $(srcdir)/bindings/tools/parsetree.py \
	$(srcdir)/bindings/tools/write_julia.py

# The name that the loader knows the library by: its number is libtool's current less age.
jl_library = libnatten.so.$$(echo '$(NATTEN_LT_VERSION)' | $(AWK) -F: '{ print $$1 - $$3 }')

$(jl_layer): $(srcdir)/bindings/natten.i $(srcdir)/core/include/natten.h $(jl_generator)
	$(AM_V_GEN)$(PYTHON_TOOL) -B $(srcdir)/bindings/tools/generate.py julia $@ \
	  --swig '$(SWIG) -I$(srcdir)/core/include' --interface $(srcdir)/bindings/natten.i \
	  --library "$(jl_library)"

if HAVE_JULIA

jl_srcdir = $(juliadir)/src
jl_extdir = $(juliadir)/ext
julia_DATA = %D%/Project.toml
jl_src_DATA = $(jl_sources) $(jl_layer)
jl_ext_DATA = $(jl_extensions)
nodist_jl_src_DATA = stage/julia/libpath.jl

# Where the installed package finds the library.
stage/julia/libpath.jl: Makefile
	$(AM_V_GEN)$(MKDIR_P) stage/julia && echo "\"$(libdir)/$(jl_library)\"" > $@
CLEAN_DIRECTORIES += stage/julia

ALL_LOCAL += $(jl_layer)
uninstall-julia:
	-rmdir '$(DESTDIR)$(jl_srcdir)' '$(DESTDIR)$(jl_extdir)' '$(DESTDIR)$(juliadir)' 2>/dev/null
UNINSTALL_HOOKS += uninstall-julia

TESTS += %D%/test/tap.jl
else
TESTS += %D%/test/no-julia.sh
endif
EXTRA_DIST += %D%/test/no-julia.sh

PHONY_TARGETS += uninstall-julia
