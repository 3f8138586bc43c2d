# SPDX-License-Identifier: MIT
#
# What every C file of the project is compiled and linked with: warnings, hidden
# symbols, hardening, sanitizers.  A flag is used only when the compiler takes it
# without a warning, so any C11 compiler builds the library.

# NATTEN_TRY_CFLAGS(VARIABLE, FLAG...): append to VARIABLE each flag that compiles.
AC_DEFUN([NATTEN_TRY_CFLAGS],[
for natten_flag in $2; do
  AS_VAR_PUSHDEF([natten_cv],[natten_cv_cflag_$natten_flag])
  AC_CACHE_CHECK([whether $CC takes $natten_flag],[natten_cv],[
    natten_save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -Werror $natten_flag"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([])],[AS_VAR_SET([natten_cv],[yes])],
      [AS_VAR_SET([natten_cv],[no])])
    CFLAGS=$natten_save_CFLAGS])
  AS_VAR_IF([natten_cv],[yes],[$1="$$1 $natten_flag"])
  AS_VAR_POPDEF([natten_cv])
done
])

# NATTEN_TRY_LDFLAGS(VARIABLE, FLAG...): the same for flags of the linker.
AC_DEFUN([NATTEN_TRY_LDFLAGS],[
for natten_flag in $2; do
  AS_VAR_PUSHDEF([natten_cv],[natten_cv_ldflag_$natten_flag])
  AC_CACHE_CHECK([whether the linker takes $natten_flag],[natten_cv],[
    natten_save_LDFLAGS=$LDFLAGS
    LDFLAGS="$LDFLAGS $natten_flag"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([])],[AS_VAR_SET([natten_cv],[yes])],
      [AS_VAR_SET([natten_cv],[no])])
    LDFLAGS=$natten_save_LDFLAGS])
  AS_VAR_IF([natten_cv],[yes],[$1="$$1 $natten_flag"])
  AS_VAR_POPDEF([natten_cv])
done
])

# NATTEN_COMPILER: WARN_CFLAGS for all C, CORE_CFLAGS for the library, HARDEN_CFLAGS,
# HARDEN_CPPFLAGS, HARDEN_LDFLAGS and SANITIZE_FLAGS for all programs, DEFS_LDFLAGS for
# shared libraries that must resolve every symbol.
AC_DEFUN([NATTEN_COMPILER],[
AC_CACHE_CHECK([for a C11 compiler with 64-bit pointers],[natten_cv_c11],[
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#include <stdint.h>
#if __STDC_VERSION__ < 201112L
#error not C11
#endif
_Static_assert(sizeof(void *) == 8, "64-bit offsets are used everywhere");
]])],[natten_cv_c11=yes],[natten_cv_c11=no])])
AS_IF([test "$natten_cv_c11" = no],
  [AC_MSG_ERROR([natten needs a C11 compiler for a 64-bit machine; CC=$CC is not one])])

# Fast math removes NaN and infinity from the language, which masks are made of, and gcc
# and clang then switch the whole process to flush-to-zero when the library is loaded.
AC_MSG_CHECKING([that the compiler keeps IEEE arithmetic])
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#if defined __FAST_MATH__ || (defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__)
#error fast math
#endif
]])],[AC_MSG_RESULT([yes])],[AC_MSG_RESULT([no])
  AC_MSG_ERROR([CFLAGS="$CFLAGS" turn on fast math, which breaks NaN, infinity and subnormals])])

AC_ARG_ENABLE([werror],[AS_HELP_STRING([--enable-werror],
  [treat compiler warnings as errors @<:@no@:>@])],[],[enable_werror=no])
WARN_CFLAGS=
NATTEN_TRY_CFLAGS([WARN_CFLAGS],[-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wundef -Wdouble-promotion -Wformat=2])
AS_IF([test "$enable_werror" = yes],[WARN_CFLAGS="$WARN_CFLAGS -Werror"])
AC_SUBST([WARN_CFLAGS])

# A fused multiply-add appears only where the source writes one: otherwise the bits of a
# result would depend on the compiler's mood.
CORE_CFLAGS=-pthread
NATTEN_TRY_CFLAGS([CORE_CFLAGS],[-fvisibility=hidden -ffp-contract=off -fno-math-errno])
AC_SUBST([CORE_CFLAGS])

AC_ARG_WITH([sanitizer],[AS_HELP_STRING([--with-sanitizer=LIST],
  [compile with -fsanitize=LIST, for instance address,undefined @<:@no@:>@])],
  [],[with_sanitizer=no])
SANITIZE_FLAGS= natten_sanitizers=no
AS_IF([test "$with_sanitizer" != no],[
  AS_IF([test "$with_sanitizer" = yes],[with_sanitizer=address,undefined])
  SANITIZE_FLAGS="-fsanitize=$with_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
  natten_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $SANITIZE_FLAGS"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([])],[],
    [AC_MSG_ERROR([$CC can't link with -fsanitize=$with_sanitizer])])
  CFLAGS=$natten_save_CFLAGS
  natten_sanitizers=$with_sanitizer
])
AC_SUBST([SANITIZE_FLAGS])

AC_ARG_ENABLE([hardening],[AS_HELP_STRING([--disable-hardening],
  [leave out stack protector, FORTIFY_SOURCE, RELRO, BIND_NOW and control-flow protection])],
  [],[enable_hardening=yes])
HARDEN_CFLAGS= HARDEN_CPPFLAGS= HARDEN_LDFLAGS= natten_hardening=no
AS_IF([test "$enable_hardening" = yes],[
  NATTEN_TRY_CFLAGS([HARDEN_CFLAGS],[-fstack-protector-strong -fstack-clash-protection -fcf-protection])
  NATTEN_TRY_LDFLAGS([HARDEN_LDFLAGS],[-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack])
  AC_CACHE_CHECK([whether FORTIFY_SOURCE can be added],[natten_cv_fortify],[
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#if !defined __OPTIMIZE__ || defined _FORTIFY_SOURCE
#error needs optimisation, and is left alone where the user or the system set it
#endif
]])],[natten_cv_fortify=yes],[natten_cv_fortify=no])])
  # A sanitizer sees the plain calls only; the checked ones hide them from it.
  AS_IF([test "$natten_cv_fortify" = yes && test "$with_sanitizer" = no],
    [HARDEN_CPPFLAGS=-D_FORTIFY_SOURCE=2])
  natten_hardening=$(echo $HARDEN_CFLAGS $HARDEN_CPPFLAGS $HARDEN_LDFLAGS |
    $SED 's/-Wl,-z,//g; s/-D//; s/-f//g')
])
AC_SUBST([HARDEN_CFLAGS])
AC_SUBST([HARDEN_CPPFLAGS])
AC_SUBST([HARDEN_LDFLAGS])

# Without this an unresolved symbol shows up only in a user's link.  A sanitizer's own
# symbols come from the program, so there it must stay open.
DEFS_LDFLAGS=
AS_IF([test "$with_sanitizer" = no],[NATTEN_TRY_LDFLAGS([DEFS_LDFLAGS],[-Wl,-z,defs])])
AC_SUBST([DEFS_LDFLAGS])

AC_CACHE_CHECK([whether the linker takes a version script],[natten_cv_version_script],[
  natten_save_LDFLAGS=$LDFLAGS
  LDFLAGS="$LDFLAGS -Wl,--version-script=conftest.sym"
  echo 'T { global: main; local: *; };' > conftest.sym
  AC_LINK_IFELSE([AC_LANG_PROGRAM([])],[natten_cv_version_script=yes],
    [natten_cv_version_script=no])
  rm -f conftest.sym
  LDFLAGS=$natten_save_LDFLAGS])
AM_CONDITIONAL([HAVE_VERSION_SCRIPT],[test "$natten_cv_version_script" = yes])
])
