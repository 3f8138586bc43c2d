# SPDX-License-Identifier: MIT
#
# The R package, staged in stage/r/natten.  R compiles inside the package's source, so a
# copy of it in the build tree is what gets compiled; make install copies the result.

r_tree = $(srcdir)/%D%
r_wrap = $(r_tree)/src/natten_wrap.c
r_swig = $(r_tree)/R/natten_swig.R
r_constants = $(r_tree)/R/constants.R

# In the source tree, shipped, so that nobody needs SWIG to build a release.
r_generated = $(r_wrap) $(r_swig) $(r_constants)

r_sources = %D%/.Rbuildignore %D%/DESCRIPTION %D%/NAMESPACE %D%/LICENSE %D%/configure %D%/cleanup \
	%D%/R/conditions.R %D%/R/natten.R \
	%D%/src/Makevars.in %D%/src/call.c %D%/src/call.h %D%/src/glue.c %D%/src/glue.h \
	%D%/man/attention.Rd %D%/man/merge_attentions.Rd %D%/man/natten-package.Rd %D%/man/natten_plan.Rd \
	%D%/man/natten_settings.Rd %D%/man/neighborhood_attention.Rd \
	%D%/man/neighborhood_attention_backward.Rd %D%/man/neighborhood_qk.Rd
r_tests = %D%/tests/testthat.R \
	%D%/tests/testthat/helper-oracle.R %D%/tests/testthat/helper-problem.R \
	%D%/tests/testthat/test-agreement.R %D%/tests/testthat/test-cases.R \
	%D%/tests/testthat/test-errors.R %D%/tests/testthat/test-gradients.R \
	%D%/tests/testthat/test-memory.R %D%/tests/testthat/test-process.R

EXTRA_DIST += $(r_sources) $(r_tests) $(r_generated)
dist_doc_DATA += docs/r.md
MAINTAINERCLEANFILES += $(r_generated)
CLEAN_DIRECTORIES += stage/r stage/r-source stage/r-generated

# SWIG's R code opens with classes for pointer objects and with the command line that made
# it; flat functions need neither.  Its C code leaves symbols open to look-up by name.
$(r_wrap): $(srcdir)/bindings/natten.i $(r_tree)/src/glue.h
	$(AM_V_GEN)rm -rf stage/r-generated && $(MKDIR_P) stage/r-generated && \
	$(SWIG) -r -I$(srcdir)/core/include -outdir stage/r-generated \
	  -o stage/r-generated/natten_wrap.c $(srcdir)/bindings/natten.i && \
	{ echo '# Made from natten.i by SWIG. Do not edit.'; echo; \
	  $(SED) -n '/^# Start of /,$$p' stage/r-generated/natten.R; } > $(r_swig)-t && \
	$(SED) 's/R_registerRoutines(dll, .*);/& R_useDynamicSymbols(dll, FALSE);/' \
	  stage/r-generated/natten_wrap.c > $@-t && \
	mv $(r_swig)-t $(r_swig) && mv $@-t $@ && rm -rf stage/r-generated
$(r_swig): $(r_wrap)
	@test -f $@ || { rm -f $(r_wrap); $(MAKE) $(AM_MAKEFLAGS) $(r_wrap); }

$(r_constants): $(srcdir)/core/include/natten.h $(srcdir)/bindings/natten.i \
		$(srcdir)/bindings/tools/generate.py $(srcdir)/bindings/tools/parsetree.py \
		$(srcdir)/bindings/tools/write_r.py
	$(AM_V_GEN)$(PYTHON_TOOL) -B $(srcdir)/bindings/tools/generate.py r $@ \
	  --swig '$(SWIG) -I$(srcdir)/core/include' --interface $(srcdir)/bindings/natten.i \
	  --header natten.h

if HAVE_R

# The library may be newer than the package: only the header's changes reach it.
stage/r/natten/DESCRIPTION: $(r_sources) $(r_generated) core/include/natten.h \
		| core/libnatten.la
	$(AM_V_GEN)rm -rf stage/r/natten stage/r-source && \
	$(MKDIR_P) stage/r && cp -R $(r_tree) stage/r-source && chmod -R u+w stage/r-source && \
	(cd stage/r-source && sh ./cleanup) && \
	env NATTEN_CFLAGS='-I$(abs_top_srcdir)/core/include' \
	  NATTEN_LIBS='-L$(abs_top_builddir)/core/.libs -lnatten -Wl,-rpath,$(libdir)' \
	  LD_LIBRARY_PATH="$(abs_top_builddir)/core/.libs$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" \
	  MAKEFLAGS= '$(RCMD)' CMD INSTALL --library=stage/r stage/r-source \
	  > stage/r.log 2>&1 || { cat stage/r.log; exit 1; }
ALL_LOCAL += stage/r/natten/DESCRIPTION
CLEANFILES += stage/r.log

install-r:
	$(MKDIR_P) '$(DESTDIR)$(rlibdir)' && cp -R stage/r/natten '$(DESTDIR)$(rlibdir)/'
INSTALL_DATA_HOOKS += install-r
uninstall-r:
	rm -rf '$(DESTDIR)$(rlibdir)/natten'
UNINSTALL_HOOKS += uninstall-r

TESTS += %D%/tests/testthat.R

# R's own judgement of the package; minutes, so not part of make check.  The staged copy
# may have older tests, because they are no reason to compile.
check-r-package: stage/r/natten/DESCRIPTION
	rm -rf stage/r-source/tests && cp -R $(r_tree)/tests stage/r-source && \
	chmod -R u+w stage/r-source && \
	. '$(abs_top_builddir)/natten-env.sh' && cd stage && \
	export NATTEN_CFLAGS='-I$(abs_top_srcdir)/core/include' \
	  NATTEN_LIBS='-L$(abs_top_builddir)/core/.libs -lnatten' MAKEFLAGS= && \
	'$(RCMD)' CMD build r-source && \
	_R_CHECK_FORCE_SUGGESTS_=false '$(RCMD)' CMD check --no-manual natten_$(PACKAGE_VERSION).tar.gz
	! grep -E '(WARNING|ERROR|NOTE)$$' stage/natten.Rcheck/00check.log
CLEAN_DIRECTORIES += stage/natten.Rcheck
CLEANFILES += stage/natten_$(PACKAGE_VERSION).tar.gz
else
TESTS += %D%/tests/no-r.sh
endif
EXTRA_DIST += %D%/tests/no-r.sh

PHONY_TARGETS += install-r uninstall-r check-r-package
