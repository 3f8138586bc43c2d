#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What scripts/agree runs: finds agreement over a few problems of each rank, takes every
# option, and refuses a wrong one with a sentence that names it.

set -u
: "${top_builddir:?}"
agree=$top_builddir/tests/agree
tests=0

# expect STATUS PATTERN TITLE OPTION...: exit status, and a line of the output.
expect () {
  wanted=$1 pattern=$2 title=$3
  shift 3
  tests=$((tests + 1))
  output=$("$agree" "$@" 2>&1)
  status=$?
  if test $status -eq "$wanted" && printf '%s\n' "$output" | grep -q -e "$pattern"; then
    echo "ok $tests - $title"
  else
    printf '%s\n' "$output" | sed 's/^/# /'
    echo "not ok $tests - $title (exit status $status)"
  fi
}

expect 0 '^All agree' 'everybody agrees with the definition' --problems 25
expect 0 ', 10 problems from seed 7' 'options choose the problems' \
  --problems=10 --seed=7 --rank=2 --dtype fp32
expect 0 '^ *reference$' 'the reference runs alone' --problems 5 --backend reference
expect 0 '^ *cpu scalar\( *cpu [a-z0-9]*\)*$' 'the cpu backend runs alone' \
  --problems 5 --backend cpu
# A driver of the tests' own in the real one's place, that finds no GPU.
kept=${LD_LIBRARY_PATH-}
LD_LIBRARY_PATH=$top_builddir/tests/cuda/fake:$kept NATTEN_FAKE_INIT=100
export LD_LIBRARY_PATH NATTEN_FAKE_INIT
expect 3 '^agree: .* (--backend=cuda)$' 'a backend that is not here is missed' \
  --problems 5 --backend cuda
LD_LIBRARY_PATH=$kept
unset NATTEN_FAKE_INIT
expect 2 '--backend=auto not in' 'no backend in particular is none' --backend auto
expect 0 'cpu scalar' 'a variant can be chosen' --problems 5 --variant scalar
expect 0 'Usage' 'help is given' --help
expect 0 '--backend B *of {reference, cpu, cuda}' 'help names the backends' --help
expect 2 '--problems=0 not in' 'no problems are refused' --problems 0
expect 2 '--seed=x not in' 'a seed that is no number is refused' --seed x
expect 2 '--dtype=fp8 not in {fp64' 'an unknown type is refused' --dtype fp8
expect 2 '--rank=4 not in \[1, 3\]' 'a rank out of range is refused' --rank 4
expect 2 '--backend=tpu not in {reference, cpu, cuda}' 'an unknown backend is refused' \
  --backend tpu
expect 2 '--variant=mmx not in {' 'an unknown variant is refused' --variant mmx
expect 2 '--variant=scalar goes with' 'the reference has no variants' \
  --variant scalar --backend reference
expect 2 '--rank needs a value' 'a missing value is missed' --rank
expect 2 '--frobnicate is no option' 'an unknown option is refused' --frobnicate 1
echo "1..$tests"
