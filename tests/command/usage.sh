#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Wrong usage and what can't be done: for each the exit status, a message that names the
# option or the file, nothing on standard output, and files that stay as they were.

# shellcheck disable=SC2154  # from natten-env.sh
. "$top_srcdir/tests/command/support.sh"

random q.npy '1, 6, 5, 2, 3' 180 1
random v.npy '1, 6, 5, 2, 4' 240 2
random one.npy '1, 6, 2, 3' 36 3
random ak.npy '1, 6, 5' 30 5
random g.npy '1, 6, 5, 2, 4' 240 4
octals 8 6 'printf "\\%03o", y % 256' | npy bytes.npy '|u1' '1, 4, 2, 1'
: | npy cut.npy '<f4' '1, 4, 2, 2'
printf 'no array\n' > text.npy
mkdir locked directory
echo precious > precious.npy
cp precious.npy keep

# wrong STATUS TEXT ARGUMENTS...
wrong()
{
    status=$1 text=$2
    shift 2
    check "$text: natten $*" refuses "$status" "$text" "$@"
}

refuses()
{
    status=$1 text=$2
    shift 2
    before=$(ls -A)
    exits "$status" "$@" && says "$text" || return
    if test -s out; then
        echo 'something is on standard output'
        return 1
    fi
    same precious.npy keep || return
    # out, err and .check are this script's own.
    after=$(ls -A)
    test "$before" = "$after" && return
    echo "left behind: $after"
    return 1
}
: > out
: > err
: > .check

o='--out precious.npy'
w='--kernel-size 3'
f="forward q.npy q.npy v.npy $o"
b='backward q.npy q.npy v.npy --kernel-size 3 --grad-out g.npy'
# shellcheck disable=SC2086  # lists of arguments
table()
{
    wrong 2 "no command 'simulate'" simulate
    wrong 2 "no command 'forwards'" forwards q.npy
    wrong 2 'unrecognized option' $f --kernel-size 3 --colour
    wrong 2 'the file of value is missing' forward q.npy q.npy $o --kernel-size 3
    wrong 2 "'v.npy': too many files" $f --kernel-size 3 v.npy
    wrong 2 '--out is missing' forward q.npy q.npy v.npy --kernel-size 3
    wrong 2 '--kernel-size is missing' $f
    wrong 2 "--kernel-size: '3x3' is not integers" $f --kernel-size 3x3
    wrong 2 "--kernel-size: '' is no integer" $f --kernel-size ''
    wrong 2 "--kernel-size: '' is no integer" $f --kernel-size 3,
    wrong 2 '--kernel-size: ' $f --kernel-size 99999999999999999999
    wrong 2 'more than 3 values' $f --kernel-size 3,3,3,3
    wrong 2 '--kernel-size: 3 values for 2 axes' $f --kernel-size 3,3,3
    wrong 2 '--kernel-size[height]=7' $f --kernel-size 7,3
    wrong 2 '--kernel-size[width]=0' $f --kernel-size 3,0
    wrong 2 '--stride[height]=4' $f --kernel-size 3 --stride 4
    wrong 2 '--dilation[height]=0' $f --kernel-size 3 --dilation 0
    wrong 2 '--is-causal[height]=2' $f --kernel-size 3 --is-causal 2
    wrong 2 '--query-begin' $f --kernel-size 3 --query-begin 1
    wrong 2 '--scale' $f --kernel-size 3 --scale inf
    wrong 2 "--scale: 'half'" $f --kernel-size 3 --scale half
    wrong 2 "--dtype: 'fp8'" $f --kernel-size 3 --dtype fp8
    wrong 2 "--backend: 'fast'" $f --kernel-size 3 --backend fast
    wrong 2 "--device: 'tpu'" $f --kernel-size 3 --device tpu
    # What is missing depends on the machine; no machine has 64 GPUs.
    wrong 3 'natten forward: ' $f --kernel-size 3 --device cuda:63
    wrong 3 'natten qk computes on the CPU' qk q.npy q.npy --attn precious.npy \
        --kernel-size 3 --device cuda
    wrong 3 'natten av computes on the CPU' av q.npy q.npy $o $w --device cuda:1
    wrong 2 "--device: 'tpu'" qk q.npy q.npy --attn precious.npy $w --device tpu
    wrong 2 '--threads=257 not in [0, 256]' $f --kernel-size 3 --threads 257
    wrong 2 '--threads=4096 not in [0, 256]' denoise q.npy precious.npy --sigma 25 \
        --threads 4096
    wrong 2 '--threads=-1 not in [0, 256]' $f --kernel-size 3 --threads -1
    wrong 2 '--threads' $f --kernel-size 3 --threads two
    wrong 2 'key.ndim=5' forward one.npy q.npy one.npy $o --kernel-size 3
    wrong 2 'query: ak.npy: 3 dimensions' forward ak.npy q.npy v.npy $o --kernel-size 3
    wrong 2 'value: one.npy: 4' forward q.npy q.npy one.npy $o --kernel-size 3
    wrong 2 'another output goes there' $f --kernel-size 3 --lse precious.npy
    wrong 3 'missing.npy: No such file' forward missing.npy q.npy v.npy $o $w
    wrong 3 'cut.npy: the file is cut off' forward cut.npy q.npy v.npy $o $w
    wrong 3 'text.npy: not a .npy file' forward text.npy q.npy v.npy $o --kernel-size 3
    wrong 3 'directory: ' forward directory q.npy v.npy $o --kernel-size 3
    wrong 3 '--out directory: ' forward q.npy q.npy v.npy --out directory $w
    wrong 3 '--lse nowhere/l.npy: No such' $f --kernel-size 3 --lse nowhere/l.npy
    wrong 2 '--additional-keys is given, but --additional-values is NULL' $f $w \
        --additional-keys q.npy
    wrong 2 '--additional-values is given, but --additional-keys is NULL' $f $w \
        --additional-values q.npy
    wrong 2 '--bias' $f --kernel-size 3 --bias one.npy
    wrong 2 '--grad-out is missing' backward q.npy q.npy v.npy --kernel-size 3 \
        --grad-query precious.npy
    wrong 2 'no gradient is asked for' $b
    wrong 2 '--lse is missing' $b --out v.npy --grad-query precious.npy
    wrong 2 'there is no --additional-keys' $b --grad-additional-keys precious.npy
    wrong 2 '--grad-bias is given, but --bias is NULL' $b --grad-bias precious.npy
    wrong 2 '--attn is missing' qk q.npy q.npy --kernel-size 3
    wrong 2 '--grad-attn is missing' qk q.npy q.npy $w --attn precious.npy \
        --grad-query x.npy
    wrong 2 'exclude each other' av q.npy v.npy --kernel-size 3 --out precious.npy \
        --grad-out g.npy --grad-value x.npy
    wrong 2 'each part is two' merge q.npy $o
    wrong 2 '0 files' merge $o
    wrong 2 '--out is missing' merge q.npy v.npy
    # The sanitizer sees whether what was read of a part is freed.
    wrong 2 'out: bytes.npy: elements are uint8' merge bytes.npy q.npy $o
    wrong 2 'lse: bytes.npy: elements are uint8' merge q.npy bytes.npy $o
    wrong 2 '--grad-out is missing' merge q.npy v.npy $o --grad-lse g.npy
    wrong 2 '--grad-out is missing' merge q.npy v.npy $o --grad-lses precious.npy
    wrong 2 '--grad-out: no gradient' merge q.npy v.npy $o --grad-out g.npy
    wrong 2 "'--explain'" merge q.npy v.npy $o --explain
    wrong 2 "'--backend=cuda'" merge q.npy v.npy $o --backend=cuda
    wrong 3 'natten merge computes on the CPU' merge q.npy v.npy $o --device cuda
    wrong 2 '--grad-lses: 1 files for 2 parts' merge q.npy v.npy q.npy v.npy \
        --grad-out g.npy --grad-lses precious.npy
    wrong 2 'there is nothing to name' info q.npy
    wrong 2 'expected h and the heads' gradcheck 'fwd fp64 b1'
    wrong 2 'at "w3,3": expected w' gradcheck 'bwd fp64 b1 h1 d3 5x5 w3,3'
    wrong 2 'differences need fp64' gradcheck 'bwd fp32 b1 h1 d3 5x5 w3x3'
    wrong 2 'kernel-size[height]=9' gradcheck 'bwd fp64 b1 h1 d3 5x5 w9x3'
    wrong 2 '--sigma is missing' denoise q.npy precious.npy
    wrong 2 'the file to write is missing' denoise q.npy --sigma 25
    wrong 2 '--sigma: -1 is not above 0' denoise q.npy precious.npy --sigma -1
    wrong 2 '--sigma: ' denoise q.npy precious.npy --sigma nan
    wrong 2 '--patch: 4 is even' denoise q.npy precious.npy --sigma 25 --patch 4
    wrong 2 '--search: 0 not in' denoise q.npy precious.npy --sigma 25 --search 0
    wrong 2 '--seed: there is no --noise' denoise q.npy precious.npy --sigma 2 --seed 1
    wrong 2 '--noisy-out: there is no' denoise q.npy precious.npy --sigma 2 \
        --noisy-out n
    wrong 3 'neither PNG, JPEG nor .npy' denoise text.npy precious.npy --sigma 25
    wrong 3 'a picture is [height, width]' denoise q.npy precious.npy --sigma 25
}
table

if test "$(id -u)" != 0; then
    chmod a-w locked precious.npy
    # shellcheck disable=SC2086
    wrong 3 'Permission denied' $f --kernel-size 3 --lse locked/l.npy
    # shellcheck disable=SC2086
    wrong 3 '--out precious.npy: Permission' $f --kernel-size 3
    chmod u+w locked precious.npy
else
    skip 'a directory that may not be written to' 'run by root, who may'
fi

# A disk that is full says so when the file is written, and again when it is closed.
full()
{
    exits 3 forward q.npy q.npy v.npy --kernel-size 3 --out /dev/full &&
        says '/dev/full: No space left'
}
if test -c /dev/full; then
    check 'a full disk is told' full
else
    skip 'a full disk is told' 'no /dev/full'
fi

help()
{
    exits 0 "$1" --help && grep -q "^Usage: natten $1" out && test ! -s err
}
for name in forward backward qk av merge denoise gradcheck info; do
    check "natten $name --help tells the usage" help $name
done
# two_usages NAME RESULT GRADIENT: it computes either, and each line of usage asks for
# what that needs.
two_usages()
{
    ARGP_HELP_FMT=rmargin=250 "$natten" "$1" --help |
        sed -n '/^ *\(Usage\|or\):/p' > usages
    test "$(wc -l < usages)" = 2 && grep -q -e "$2" usages &&
        grep -q -e "$3" usages && ! grep -e "$2" usages | grep -q -e "$3" &&
        exits 0 --help && grep -q "^  $1 .*gradients\$" out
}
check 'natten qk --help has a usage for gradients' \
    two_usages qk '--attn A.npy' '--grad-attn GA.npy'
check 'natten av --help has a usage for gradients' \
    two_usages av '--out O.npy' '--grad-out G.npy'
check 'natten merge --help has a usage for gradients' \
    two_usages merge '--out O.npy' '--grad-out G.npy'
devices()
{
    for name in forward backward denoise; do
        exits 0 $name --help && grep -q -e --device out || return
    done
    for name in qk av merge; do
        exits 0 $name --help && ! grep -e --device out &&
            exits 0 $name --usage && ! grep -e --device out || return
    done
}
check 'only what computes on a GPU offers --device' devices
backends()
{
    for name in forward backward qk av denoise; do
        exits 0 $name --help && grep -e --backend= out > listed &&
            for backend in auto reference cpu cuda; do
                grep -q "\<$backend\>" listed || return
            done || return
    done
}
check '--help lists every backend that --backend takes' backends
threads()
{
    for n in 0 1 256; do
        # shellcheck disable=SC2086
        exits 0 $f --kernel-size 3 --threads $n || return
    done
    cp keep precious.npy
}
check 'all numbers of threads that the library takes are taken' threads
version()
{
    exits 0 --version && grep -q 'libnatten' out && cp out whole &&
        exits 0 forward --version && same out whole
}
check '--version is one for all' version
overview()
{
    exits 2 && exits 0 --help && for name in forward backward qk av merge denoise \
        gradcheck info; do
        grep -q "^  $name " out || return
    done
}
check 'natten --help lists the commands' overview
finish
