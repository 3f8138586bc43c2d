# SPDX-License-Identifier: MIT
#
# Libraries that the command and the tests can use.  Each one is optional.

# NATTEN_ARG_LIBRARY(NAME, name, PKG-CONFIG MODULE, HEADER, LIBRARIES, FUNCTION, PURPOSE,
#                    [INCLUDES]):
# the option --with-name (auto, yes, no); NAME_CFLAGS, NAME_LIBS, HAVE_NAME for make,
# NATTEN_HAVE_NAME for C, natten_name for the summary.  pkg-config is asked first; without
# it the header and the library are looked for where the compiler looks.
AC_DEFUN([NATTEN_ARG_LIBRARY],[
AC_ARG_WITH([$2],[AS_HELP_STRING([--with-$2],[$2, for $7 @<:@auto@:>@])],[],[with_$2=auto])
natten_$2=no natten_$2_why="--without-$2"
AS_IF([test "$with_$2" != no],[
  PKG_CHECK_MODULES([$1],[$3],[natten_$2=yes],[
    AC_CHECK_HEADER([$4],[
      natten_save_LIBS=$LIBS
      AC_SEARCH_LIBS([$6],[$5],[
        natten_$2=yes
        AS_CASE([$ac_cv_search_$6],[-l*],[$1_LIBS=$ac_cv_search_$6])])
      LIBS=$natten_save_LIBS],[],[m4_default([$8],[AC_INCLUDES_DEFAULT])])])
  natten_$2_why="$2 not found: no $7"
  AS_IF([test "$with_$2$natten_$2" = yesno],[AC_MSG_ERROR([--with-$2: $2 not found])])])
AM_CONDITIONAL([HAVE_$1],[test "$natten_$2" = yes])
AS_IF([test "$natten_$2" = yes],
  [AC_DEFINE([NATTEN_HAVE_$1],[1],[Define to 1 for $7])],
  [natten_$2="no ($natten_$2_why)"])
])
