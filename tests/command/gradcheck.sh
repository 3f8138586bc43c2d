#!/bin/sh
# SPDX-License-Identifier: MIT
#
# natten gradcheck finds right gradients right and a spoilt one wrong; natten info tells
# what it should; the man pages know every option.

# shellcheck disable=SC2154  # from natten-env.sh
. "$top_srcdir/tests/command/support.sh"

ok()
{
    exits 0 gradcheck "$@" && cat out && grep -q '^Gradients Ok' out &&
        ! grep -q WRONG out
}
check 'gradients are right for random problems' ok --count 12
each_operation()
{
    ok && for operation in bwd qkbwd avbwd; do
        grep -q "^$operation " out || return
    done
}
check 'without arguments each operation has a problem' each_operation
check 'a batch of nothing is right' ok 'bwd fp64 b0 h1 d2 6 w3 m2 dlse'
check 'gradients are right for a given problem' ok \
    'bwd fp64 b2 h4:2 d5:3 7x11 w3x5 s1x2 e2x1 causal01 m3 bias scale0.5 dlse seed7'
check 'gradients are right for parts of a grid' ok \
    'bwd fp64 b1 h2 d3 5x4 w3x3 bias g9x8 q2x3 k1x0 n6x7' \
    'qkbwd fp64 b1 h2:1 d3 5 w4 causal1 m1 bias g9 q2 k1 n6' \
    'avbwd fp64 b1 h2:1 d3 5 w4 causal1 m1 g9 q2 k1 n6'
every_line()
{
    ok 'bwd fp64 b1 h1 d2 6 w3 m1 bias' || return
    for tensor in query key value bias additional_keys additional_values; do
        grep -q "grad_$tensor  *Ok" out || return
    done
}
check 'each tensor has a line' every_line
spoilt()
{
    for problem in 'bwd fp64 b1 h1 d2 6 w3 m1 bias' 'qkbwd fp64 b1 h1 d2 6 w3' \
        'avbwd fp64 b1 h1 d2 6 w3'; do
        exits 1 gradcheck --spoil "$problem" && says 'gradients are wrong' &&
            grep -q WRONG out && ! grep -q 'Ok ' out || return
    done
}
check 'a spoilt gradient is found, with status 1' spoilt

info()
{
    exits 0 info && for name in version build threads backends 'cpu variants' files; do
        grep -q "^$name " out || return
    done
}
check 'info tells the facts' info
device()
{
    exits 0 info && if grep -q '^cuda devices *0$' out; then
        grep -qE '^no cuda because .*(kernels|driver|architecture)' out
    else
        grep -qE '^cuda:0 .*compute capability [0-9]+\.[0-9], [0-9]+ processors' out
    fi
}
check 'info names the GPU, or says why there is none' device
threads()
{
    NATTEN_NUM_THREADS=3 "$natten" info | grep -q '^threads *3$'
}
check 'info tells the threads of the environment' threads

man() # COMMAND
{
    page=$top_srcdir/command/natten-$1.1
    exits 0 "$1" --help || return
    for option in $(grep -o -- '--[a-z][a-z-]*' out | sort -u); do
        # In roff a hyphen that is meant is written \-.
        escaped=$(printf '%s' "$option" | sed 's/-/\\-/g')
        grep -qF -- "$escaped" "$page" && continue
        echo "$option is not in $page"
        return 1
    done
}
for name in forward backward qk av merge denoise gradcheck info; do
    check "the man page of natten $name knows its options" man $name
done
finish
