#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The same call on the same data gives the same bits from C, Python, Julia and R: holds
# the files that each language's tests wrote for the cases in tests/cases against those
# of tests/bits (docs/problem-text.md).  R has no 16-bit types, so those are not for
# it.  A TAP line per case and language.

set -u
: "${NATTEN_BITS:?}" "${top_srcdir:?}"
tests=0

tell () {
  tests=$((tests + 1))
  echo "$1 $tests - $2"
}

# case_lines: number, type and text of every case of a file.
case_lines () {
  awk '!/^#/ && NF { print NR, $2, $0 }' "$1"
}

compare () {
  language=$1 name=$2 text=$3
  if test ! -s "$NATTEN_BITS/c/$name.bin"; then
    tell 'not ok' "C left no results of $text"
  elif test ! -s "$NATTEN_BITS/$language/$name.bin"; then
    tell 'not ok' "$language left no results of $text"
  elif cmp -s "$NATTEN_BITS/c/$name.bin" "$NATTEN_BITS/$language/$name.bin"; then
    tell ok "$language: $text"
  else
    tell 'not ok' "$language has other bits than C: $text"
  fi
}

# compare_language NAME PROGRAM
compare_language () {
  case $2 in
  '' | : | no)
    tell ok "$1 # SKIP $1 is off in this build; the output of configure says why"
    return ;;
  esac
  # Where the language's own tests were skipped or failed, theirs is the line to read.
  if test ! -d "$NATTEN_BITS/$1"; then
    tell ok "$1 # SKIP its tests, which leave the results, did not run"
    return
  fi
  for file in "$top_srcdir"/tests/cases/*.txt; do
    stem=$(basename "$file" .txt)
    lines=$(case_lines "$file")
    while read -r number type text; do
      case $1:$type in
      r:bf16 | r:fp16) continue ;;
      python:bf16)
        if ! "$2" -c 'import ml_dtypes' 2>/dev/null; then
          tell ok "python: $text # SKIP no ml_dtypes, which has bf16"
          continue
        fi ;;
      esac
      compare "$1" "$stem-$number" "$text"
    done <<END
$lines
END
  done
}

compare_language python "${PYTHON-}"
compare_language julia "${JULIA-}"
compare_language r "${RSCRIPT-}"
echo "1..$tests"
