# SPDX-License-Identifier: MIT
#
# The languages that natten is bound to.  Each has an option (auto: on when everything it
# needs is there; yes: an error when not; no), a variable that chooses the program (":" in
# the end where the language is off), an automake conditional HAVE_..., and a line
# natten_... for the summary.  What goes wrong in auto mode is said there in words.

# NATTEN_LANGUAGE_LAYER(option, FILE): a layer that is neither shipped nor can be made is a
# reason against the language.
AC_DEFUN([NATTEN_LANGUAGE_LAYER],[
AS_IF([test -z "$natten_$1_why" && test ! -f "$srcdir/$2" && test -z "$natten_swig_version"],
  [natten_$1_why="$2 is not there, and swig, which makes it, not found"])
])

# NATTEN_LANGUAGE_RESULT(option, Title, WHY-NOT, DETAIL): common end of the macros below.
AC_DEFUN([NATTEN_LANGUAGE_RESULT],[
AS_IF([test -z "$3"],[natten_$1="yes ($4)"; natten_have_$1=yes],
  [AS_IF([test "$with_$1" = yes],[AC_MSG_ERROR([--with-$1: $3])])
   natten_$1="no ($3)"; natten_have_$1=no])
])

# NATTEN_ARG_SWIG: a release brings the generated layers along; SWIG and Python are needed
# only to make them again, from a checkout or after a change of natten.h or natten.i.
AC_DEFUN([NATTEN_ARG_SWIG],[
AC_ARG_VAR([SWIG],[SWIG 4.1 or newer, needed only when the generated layers are missing or out of date])
AM_MISSING_PROG([SWIG],[swig])
natten_swig_version=$(eval "$SWIG -version" 2>/dev/null | $SED -n 's/^SWIG Version //p')
AS_IF([test -n "$natten_swig_version"],[natten_swig="yes ($natten_swig_version)"],
  [natten_swig="no (swig not found; needed only to generate the language layers again)"])
])

# NATTEN_ARG_PYTHON: PYTHON, PYTHON_CPPFLAGS, PYTHON_EXT (suffix of a module), natten_pydir
# (where the package goes), and PYTHON_TOOL: any Python 3, for the generators.
AC_DEFUN([NATTEN_ARG_PYTHON],[
AC_ARG_WITH([python],[AS_HELP_STRING([--with-python],
  [the Python package @<:@auto@:>@; PYTHON= chooses the interpreter])],[],[with_python=auto])
AC_ARG_WITH([python-dir],[AS_HELP_STRING([--with-python-dir=DIR],
  [where the Python package goes @<:@where PYTHON looks, when that lies under the prefix@:>@])],
  [],[with_python_dir=])
natten_python_why=
AS_IF([test "$with_python" = no],[PYTHON=: natten_python_why=--without-python],[
  AM_PATH_PYTHON([3.8],[],[PYTHON=:])
  AS_IF([test "$PYTHON" = :],[natten_python_why="Python 3.8 or newer not found"])])
PYTHON_CPPFLAGS= PYTHON_EXT= natten_numpy=
AS_IF([test -z "$natten_python_why"],[
  AC_CACHE_CHECK([for the headers of $PYTHON],[natten_cv_python_include],
    [natten_cv_python_include=$($PYTHON -c "import sysconfig; print(sysconfig.get_path('include'))")])
  AC_CACHE_CHECK([for the suffix of $PYTHON modules],[natten_cv_python_ext],
    [natten_cv_python_ext=$($PYTHON -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")])
  AC_CACHE_CHECK([for NumPy in $PYTHON],[natten_cv_python_numpy],
    [natten_cv_python_numpy=$($PYTHON -c "import numpy; print(numpy.__version__)" 2>&AS_MESSAGE_LOG_FD || echo no)])
  PYTHON_CPPFLAGS=-I$natten_cv_python_include PYTHON_EXT=$natten_cv_python_ext
  AS_IF([test ! -f "$natten_cv_python_include/Python.h"],
      [natten_python_why="Python.h of $PYTHON not found"],
    [test "$natten_cv_python_numpy" = no],[natten_python_why="$PYTHON has no numpy"])])

# Debian's Python looks in dist-packages, where automake would not install: take the
# interpreter's own directory if one lies under the prefix.
AS_IF([test -n "$with_python_dir"],[natten_pydir=$with_python_dir],
  [test -n "$natten_python_why"],[natten_pydir='${pyexecdir}'],[
  natten_p=$prefix
  AS_IF([test "$natten_p" = NONE],[natten_p=$ac_default_prefix])
  natten_pydir=$($PYTHON -c "import sys
for d in sys.path:
    if d.startswith(sys.argv@<:@1@:>@ + '/lib') and d.endswith('-packages'):
        print('\${prefix}' + d.replace(sys.argv@<:@1@:>@, '', 1))
        break" "$natten_p")
  AS_IF([test -z "$natten_pydir"],[natten_pydir='${pyexecdir}'])])
# A module for Python 3.9 and all that follow takes a wrapper by SWIG 4.2 or newer: older
# ones reach into Python's structures.
AC_ARG_ENABLE([python-abi3],[AS_HELP_STRING([--enable-python-abi3],
  [a module for Python 3.9 and newer, not for PYTHON alone; takes SWIG 4.2 or newer])],
  [],[enable_python_abi3=no])
AS_IF([test "$enable_python_abi3" != no],[
  natten_wrap=$srcdir/bindings/python/capi_wrap.c natten_wrap_by=$natten_swig_version
  AS_IF([test -f "$natten_wrap"],
    [natten_wrap_by=$($SED -n '1,5s/^.*Version //p' "$natten_wrap")])
  AS_CASE([$natten_wrap_by],
    [''|3.*|4.0*|4.1*],[AC_MSG_ERROR([--enable-python-abi3 takes a wrapper by SWIG 4.2 or newer;
      this one is by: ${natten_wrap_by:-no SWIG}.  With SWIG= a newer one, remove
      $natten_wrap, so that it is made again])])
  PYTHON_CPPFLAGS="$PYTHON_CPPFLAGS -DPy_LIMITED_API=0x03090000"])
AC_SUBST([natten_pydir])
AC_SUBST([PYTHON_CPPFLAGS])
AC_SUBST([PYTHON_EXT])
NATTEN_LANGUAGE_LAYER([python],[bindings/python/capi_wrap.c])
NATTEN_LANGUAGE_RESULT([python],[Python],[$natten_python_why],
  [$PYTHON $PYTHON_VERSION with numpy $natten_cv_python_numpy])
AM_CONDITIONAL([HAVE_PYTHON],[test "$natten_have_python" = yes])

AS_IF([test "$PYTHON" != :],[PYTHON_TOOL=$PYTHON],[AC_PATH_PROGS([PYTHON_TOOL],[python3 python],[:])])
AC_SUBST([PYTHON_TOOL])
AS_IF([test "$natten_have_python" = no],[PYTHON=:])
])

# NATTEN_ARG_R: RCMD, RSCRIPT (of the same R), rlibdir.
AC_DEFUN([NATTEN_ARG_R],[
AC_ARG_WITH([r],[AS_HELP_STRING([--with-r],[the R package @<:@auto@:>@; RCMD= chooses R])],
  [],[with_r=auto])
AC_ARG_WITH([r-dir],[AS_HELP_STRING([--with-r-dir=DIR],
  [where the R package goes @<:@LIBDIR/R/site-library@:>@])],
  [rlibdir=$withval],[rlibdir='${libdir}/R/site-library'])
AC_ARG_VAR([RCMD],[the R program])
natten_r_why= RSCRIPT=no
AS_IF([test "$with_r" = no],[natten_r_why=--without-r],[
  NATTEN_PATH_PROG([RCMD],[R])
  AS_IF([test "$RCMD" = no],[natten_r_why="R not found"],
    [natten_r_cc=$("$RCMD" CMD config CC 2>&AS_MESSAGE_LOG_FD); test -z "$natten_r_cc"],
      [natten_r_why="$RCMD can't compile packages"],
    [RSCRIPT=$("$RCMD" RHOME)/bin/Rscript
     AS_IF([test ! -x "$RSCRIPT"],[natten_r_why="$RSCRIPT not found"])])])
AC_SUBST([RSCRIPT])
AC_SUBST([rlibdir])
AS_IF([test -z "$natten_r_why"],
  [natten_r_version=$("$RSCRIPT" --vanilla -e 'cat(as.character(getRversion()))')])
NATTEN_LANGUAGE_LAYER([r],[bindings/r/src/natten_wrap.c])
NATTEN_LANGUAGE_RESULT([r],[R],[$natten_r_why],[$RCMD $natten_r_version])
AM_CONDITIONAL([HAVE_R],[test "$natten_have_r" = yes])
AS_IF([test "$natten_have_r" = no],[RCMD=: RSCRIPT=:])
])

# NATTEN_ARG_JULIA: JULIA, juliadir.  julia-natten is the wrapper that scripts/julia-setup
# leaves.  Debian 11's Julia on Debian 12 dies when compiled code throws; users would take
# that for our crash, so it counts as no Julia.
AC_DEFUN([NATTEN_ARG_JULIA],[
AC_ARG_WITH([julia],[AS_HELP_STRING([--with-julia],
  [the Julia package @<:@auto@:>@; JULIA= chooses julia])],[],[with_julia=auto])
AC_ARG_WITH([julia-dir],[AS_HELP_STRING([--with-julia-dir=DIR],
  [where the Julia package goes @<:@DATADIR/julia/NATTEN@:>@])],
  [juliadir=$withval],[juliadir='${datadir}/julia/NATTEN'])
AC_ARG_VAR([JULIA],[the julia program])
natten_julia_why=
AS_IF([test "$with_julia" = no],[natten_julia_why=--without-julia],[
  NATTEN_PATH_PROG([JULIA],[julia-natten julia])
  AS_IF([test "$JULIA" = no],[natten_julia_why="julia not found"],[
    AC_CACHE_CHECK([whether $JULIA is 1.5 or newer and survives an exception],[natten_cv_julia],[
      natten_cv_julia=$("$JULIA" --startup-file=no -e 'VERSION >= v"1.5" || exit(1); f(x) = x > 1 ? throw(ArgumentError("x")) : 1; try f(2) catch; end; print(VERSION)' 2>&AS_MESSAGE_LOG_FD) || natten_cv_julia=no])
    AS_IF([test "$natten_cv_julia" = no],
      [natten_julia_why="$JULIA is older than 1.5 or dies when compiled code throws; see scripts/julia-setup"])])])
AC_SUBST([juliadir])
NATTEN_LANGUAGE_LAYER([julia],[bindings/julia/src/LibNATTEN.jl])
NATTEN_LANGUAGE_RESULT([julia],[Julia],[$natten_julia_why],[$JULIA $natten_cv_julia])
AM_CONDITIONAL([HAVE_JULIA],[test "$natten_have_julia" = yes])
AS_IF([test "$natten_have_julia" = no],[JULIA=:])
])

# NATTEN_PATH_PROG(VARIABLE, PROGRAMS): AC_PATH_PROGS that also looks up a bare name given
# by the user, which Autoconf's own ignores.
AC_DEFUN([NATTEN_PATH_PROG],[
natten_names="$2"
AS_CASE([$$1],[''|/*],[],[*/*],[$1=$(pwd)/$$1],[natten_names=$$1; unset $1])
AC_PATH_PROGS([$1],[$natten_names],[no])
])
