#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The library exports what natten.h declares, no more and no less: an internal symbol
# that leaks out is an interface that someone will use, a declared one that is missing
# is found only in a user's link.

set -eu
# shellcheck disable=SC2154  # from natten-env.sh
header=$top_srcdir/core/include/natten.h
# shellcheck disable=SC2154
library=$top_builddir/core/.libs/libnatten.so

command -v nm > /dev/null || {
    echo '1..0 # SKIP nm not found'
    exit 0
}
test -f "$library" || {
    echo '1..0 # SKIP no shared library in this build'
    exit 0
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Functions the header declares, in the compiler's own reading: each name before "(" at
# the outermost level.
printf '#define NATTEN_API natten_declared_here\n#include <natten.h>\n' > "$work/all.c"
sed 's/^# *define NATTEN_API.*/#define NATTEN_API natten_declared_here/' "$header" \
    > "$work/natten.h"
$CC -E -P -I"$work" "$work/all.c" | tr '\n' ' ' | tr ';' '\n' |
    sed -n 's/.*natten_declared_here[^(]*[ *]\(natten_[a-z0-9_]*\) *(.*/\1/p' |
    sort -u > "$work/declared"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    sort -u > "$work/exported"

echo 1..3
verdict()
{
    if test -s "$work/difference"; then
        sed 's/^/# /' "$work/difference"
        echo "not ok $1"
    else
        echo "ok $1"
    fi
}
grep -q natten_version "$work/declared" && echo 'ok 1 - the header is read' ||
    echo 'not ok 1 - the header is read'
comm -23 "$work/declared" "$work/exported" > "$work/difference"
verdict '2 - every function of natten.h is exported'
comm -13 "$work/declared" "$work/exported" > "$work/difference"
verdict '3 - nothing else is exported'
