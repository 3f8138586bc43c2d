#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The library and the command as an attacker finds them: relocations read-only and bound
# at load, no executable stack, no writable code, no relocations in the text, no runtime
# of another language dragged in.

set -eu
# shellcheck disable=SC2154  # from natten-env.sh
library=$top_builddir/core/.libs/libnatten.so
# shellcheck disable=SC2154
program=$top_builddir/command/.libs/natten
# shellcheck disable=SC2154
settings=$top_builddir/config.status

skip()
{
    echo "1..0 # SKIP $1"
    exit 0
}
command -v readelf > /dev/null || skip 'readelf not found'
test -f "$library" || skip 'no shared library in this build'
! grep -q 'HARDEN_LDFLAGS"\]=""' "$settings" || skip 'configured without hardening'

number=0
expect() # NAME yes|no PATTERN TEXT
{
    number=$((number + 1))
    found=no
    ! printf '%s\n' "$4" | grep -qE "$3" || found=yes
    if test "$found" = "$2"; then
        echo "ok $number - $1"
    else
        printf '%s\n' "$4" | grep -E "$3" | sed 's/^/# /'
        echo "not ok $number - $1"
    fi
}

for file in "$library" "$program"; do
    test -f "$file" || continue
    name=$(basename "$file")
    dynamic=$(readelf -Wd "$file")
    segments=$(readelf -Wl "$file")
    expect "$name: relocations become read-only" yes 'GNU_RELRO' "$segments"
    expect "$name: all symbols are bound at load" yes 'BIND_NOW|FLAGS.*NOW' "$dynamic"
    expect "$name: the stack is not executable" no 'GNU_STACK.*E' "$segments"
    expect "$name: no segment is writable and executable" no 'LOAD.*RWE' "$segments"
    expect "$name: the text has no relocations" no 'TEXTREL' "$dynamic"
    expect "$name: needs no C++, OpenMP or CUDA runtime" no \
        'NEEDED.*(stdc\+\+|gomp|libomp|cuda)' "$dynamic"
done
# natten.h promises it; sentences are made by snprintf, which prints nothing.
prints='v?f?printf|__v?f?printf_chk|f?puts|f?putc|putchar|fwrite|write|perror'
ends='abort|_?exit|_Exit|quick_exit|raise|kill|__assert_fail|(_|sig)*longjmp[a-z_]*'
expect 'libnatten.so: never prints, exits, aborts or jumps' no \
    " ($prints|$ends)(@|\$)" "$(nm -D --undefined-only "$library" 2>/dev/null)"
# Frames with arrays are guarded; only where the compiler knows the flag.
if grep -q 'HARDEN_CFLAGS"\]=.*-fstack-protector-strong' "$settings"; then
    expect 'libnatten.so: frames are guarded' yes '__stack_chk_fail' \
        "$(nm -D "$library" 2>/dev/null)"
fi
echo "1..$number"
