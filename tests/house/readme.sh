#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The code of the README and of the languages' pages runs as it stands there: fenced
# blocks are cut out and given to their language, so that the first thing a reader tries
# is never stale; and the README's are ten lines at most.  (Python's page is run by its
# own tests.)  And ./quickstart explains itself to the end.

set -eu
page=README.md # that blocks are cut out of
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

block() # LANGUAGE FILE: the blocks after ```LANGUAGE
{
    # shellcheck disable=SC2154  # from natten-env.sh
    awk -v "open=\`\`\`$1" '$0 == "```" { on = 0 } on { print } $0 == open { on = 1 }' \
        "$top_srcdir/$page" > "$work/$2"
    test -s "$work/$2"
}

number=0
try() # LANGUAGE FILE REASON COMMAND...: skipped where REASON is not empty
{
    language=$1 file=$2 reason=$3
    shift 3
    number=$((number + 1))
    sentence="the $language code of $page runs"
    if test -n "$reason"; then
        echo "ok $number - $sentence # SKIP $reason"
    elif block "$language" "$file" && (cd "$work" && "$@") > "$work/log" 2>&1; then
        echo "ok $number - $sentence"
    else
        sed 's/^/# /' "$work/log"
        echo "not ok $number - $sentence"
    fi
}

build_and_run()
{
    # shellcheck disable=SC2086,SC2154  # CC may carry options
    $CC -I"$top_srcdir/core/include" -o a.out block.c "$NATTEN_LIBRARY" && ./a.out
}

missing() # STAGED-FILE LANGUAGE: why a language cannot run
{
    test -e "$1" || echo "$2 is off in this build"
}

# shellcheck disable=SC2154  # from natten-env.sh
cd "$top_builddir"
echo 1..8
try c block.c '' build_and_run
try python block.py "$(missing stage/python/natten Python)" "${PYTHON:-:}" block.py
layer=$top_srcdir/bindings/julia/src/LibNATTEN.jl
reason=$(missing "$layer" Julia)
test "${JULIA:-:}" != : || reason='no julia'
try julia block.jl "$reason" "${JULIA:-:}" --startup-file=no block.jl
try r block.R "$(missing stage/r/natten R)" "${RSCRIPT:-:}" --vanilla block.R
number=$((number + 1))
long=
for language in c python julia r; do
    block $language block
    test "$(grep -vc '^[[:space:]{}]*$' "$work/block")" -le 10 || long="$long $language"
done
test -z "$long" || printf 'not '
echo "ok $number - first contact takes ten lines of code in each language$long"
page=docs/julia.md
try julia block.jl "$reason" "${JULIA:-:}" --startup-file=no block.jl
page=docs/r.md
try r block.R "$(missing stage/r/natten R)" "${RSCRIPT:-:}" --vanilla block.R
number=$((number + 1))
"$top_srcdir/quickstart" --help | tail -n 1 | grep -q '\.$' || printf 'not '
echo "ok $number - quickstart --help ends where a sentence does"
