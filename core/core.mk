# SPDX-License-Identifier: MIT
#
# The library.  All of core/ is one convenience library, libnatten_core, which the tests
# link to reach what is not exported; libnatten, the public one, is the same objects behind
# the version script natten.sym.

include_HEADERS += %D%/include/natten.h
lib_LTLIBRARIES += %D%/libnatten.la
noinst_LTLIBRARIES += %D%/libnatten_core.la

%C%_libnatten_core_la_SOURCES = \
	%D%/include/natten.h
%C%_libnatten_core_la_LIBADD =

%C%_libnatten_la_SOURCES =
%C%_libnatten_la_LIBADD = %D%/libnatten_core.la
%C%_libnatten_la_LDFLAGS = $(AM_LDFLAGS) -version-info $(NATTEN_LT_VERSION) \
	-no-undefined $(DEFS_LDFLAGS)
if HAVE_VERSION_SCRIPT
%C%_libnatten_la_LDFLAGS += -Wl,--version-script=$(srcdir)/%D%/natten.sym
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
