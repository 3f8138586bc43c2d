# SPDX-License-Identifier: MIT
#
# The Python package.  The build tree holds it as it will be installed, in
# stage/python/natten, so that tests import the real thing.

py_tree = $(srcdir)/%D%
py_wrap = $(py_tree)/capi_wrap.c
py_capi = $(py_tree)/natten/capi.py

# In the source tree, shipped, so that nobody needs SWIG to build a release.
py_generated = $(py_wrap) $(py_capi)

py_glue = %D%/stable.h %D%/arrays.h %D%/params.h %D%/xla.h
py_modules = %D%/natten/__init__.py %D%/natten/_arrays.py %D%/natten/_functional.py \
	%D%/natten/_functional.pyi %D%/natten/_runtime.py \
	%D%/natten/_gradcheck.py %D%/natten/_jax.py \
	%D%/natten/functional.py %D%/natten/gradcheck1d.py %D%/natten/gradcheck2d.py \
	%D%/natten/modules.py \
	%D%/natten/torch.py \
	%D%/natten/_torch.py %D%/natten/_upstream.py \
	%D%/natten/capi.pyi %D%/natten/py.typed
py_tests = %D%/tests/run.py %D%/tests/conftest.py %D%/tests/oracle.py \
	%D%/tests/test_abi3.py \
	%D%/tests/problem.py %D%/tests/test_arrays.py %D%/tests/test_bench.py \
	%D%/tests/test_attention.py %D%/tests/test_cases.py %D%/tests/test_cuda.py \
	%D%/tests/test_cupy.py %D%/tests/test_jax_cuda.py \
	%D%/tests/test_device.py \
	%D%/tests/test_errors.py \
	%D%/tests/test_lifetime.py %D%/tests/test_surface.py %D%/tests/test_threads.py \
	%D%/tests/test_examples.py %D%/tests/test_jax.py %D%/tests/test_functional.py \
	%D%/tests/test_features.py %D%/tests/test_modules.py \
	%D%/tests/test_torch.py %D%/tests/test_torch_autograd.py

dist_doc_DATA += docs/python.md docs/python-functional.md docs/python-gradcheck.md \
	docs/python-jax.md docs/python-modules.md docs/python-torch.md \
	docs/coming-from-natten.md
EXTRA_DIST += pyproject.toml CITATION.cff %D%/pip/natten_build.py
EXTRA_DIST += $(py_glue) $(py_modules) $(py_tests) $(py_generated)
MAINTAINERCLEANFILES += $(py_generated)
CLEAN_DIRECTORIES += stage/python

# One run of SWIG writes both.  It writes beside, and moves when all went well.
$(py_wrap): $(srcdir)/bindings/natten.i $(srcdir)/core/include/natten.h
	$(AM_V_GEN)rm -rf stage/python-generated && $(MKDIR_P) stage/python-generated && \
	$(SWIG) -python -threads -doxygen -module capi -interface _capi \
	  -I$(srcdir)/core/include -outdir stage/python-generated \
	  -o stage/python-generated/capi_wrap.c $(srcdir)/bindings/natten.i && \
	mv stage/python-generated/capi.py $(py_capi) && \
	mv stage/python-generated/capi_wrap.c $@ && rm -rf stage/python-generated
$(py_capi): $(py_wrap)
	@test -f $@ || { rm -f $(py_wrap); $(MAKE) $(AM_MAKEFLAGS) $(py_wrap); }

if HAVE_PYTHON

natten_pyexecdir = $(natten_pydir)/natten
natten_pydatadir = $(natten_pydir)/natten
natten_pyexec_LTLIBRARIES = %D%/_capi.la
natten_pydata_DATA = $(py_modules) $(py_capi)

# Libtool writes no run path for a directory that it takes for the system's, but Debian's
# loader knows /usr/local/lib only after ldconfig; so say it past libtool.
nodist_%C%__capi_la_SOURCES = %D%/capi_wrap.c
%C%__capi_la_CPPFLAGS = -I$(srcdir)/%D% -I$(srcdir)/core/include $(PYTHON_CPPFLAGS)
%C%__capi_la_CFLAGS = $(HARDEN_CFLAGS) $(SANITIZE_FLAGS)
%C%__capi_la_LDFLAGS = -module -avoid-version -shared $(HARDEN_LDFLAGS) \
	-export-symbols-regex '^PyInit_' -Wl,-rpath,$(libdir)
%C%__capi_la_LIBADD = core/libnatten.la

# Installing links again, against the installed library: that one first.  (Named by a
# variable, because automake leaves out its own rule for a target that it sees here.)
py_install = install-natten_pyexecLTLIBRARIES
$(py_install): install-libLTLIBRARIES

# Programs that probe for natten ask for a distribution of that name.
py_info = $(PYTHON) -B '$(py_tree)/pip/natten_build.py'

stage/python/natten/_capi.so: %D%/_capi.la $(py_modules) $(py_capi) \
	%D%/pip/natten_build.py
	$(AM_V_GEN)rm -rf stage/python/natten && $(MKDIR_P) stage/python/natten && \
	for file in $(py_modules); do \
	  cp -f '$(srcdir)'/$$file stage/python/natten/ || exit 1; done && \
	$(py_info) stage/python && \
	cp -f $(py_capi) stage/python/natten/ && cp -f %D%/.libs/_capi.so $@
ALL_LOCAL += stage/python/natten/_capi.so

# Python has no use for libtool's archive, and make uninstall knows only files it listed.
install-python:
	rm -f '$(DESTDIR)$(natten_pyexecdir)/_capi.la'
	$(py_info) '$(DESTDIR)$(natten_pydir)' '$(DESTDIR)$(bindir)' '$(natten_pydir)'
INSTALL_EXEC_HOOKS += install-python
uninstall-python:
	rm -rf '$(DESTDIR)$(natten_pydir)/natten' \
	  '$(DESTDIR)$(natten_pydir)/natten-$(PACKAGE_VERSION).dist-info'
	rm -f '$(DESTDIR)$(bindir)/gradcheck1d.py' '$(DESTDIR)$(bindir)/gradcheck2d.py'
UNINSTALL_HOOKS += uninstall-python

TESTS += %D%/tests/run.py
endif

PHONY_TARGETS += install-python uninstall-python
