# SPDX-License-Identifier: MIT
#
# What the tests of the natten command share: a directory of their own to work in, TAP
# lines, runs whose status and streams are looked at, and arrays made without any other
# program, so that they also run under sanitizers where no language is built.
# shellcheck shell=sh disable=SC2154  # variables from natten-env.sh

set -u
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 99
count=0

# The command: what natten-env.sh chose, or an installed one.
natten=${NATTEN:-natten}

# check SENTENCE COMMAND...: one TAP line; before it what the command printed, when it
# failed.
check()
{
    sentence=$1
    shift
    count=$((count + 1))
    if "$@" > "$work/.check" 2>&1; then
        echo "ok $count - $sentence"
    else
        sed 's/^/# /' "$work/.check"
        echo "not ok $count - $sentence"
    fi
}

skip()
{
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

finish()
{
    echo "1..$count"
}

# exits STATUS ARGUMENTS...: run natten; its streams stay in out and err.
exits()
{
    wanted=$1
    shift
    "$natten" "$@" > "$work/out" 2> "$work/err" < /dev/null
    got=$?
    test "$got" = "$wanted" && return
    echo "natten $*: status $got, not $wanted"
    cat "$work/out" "$work/err"
    return 1
}

# says TEXT: the last run's message has it, after the command's name.
says()
{
    grep -q '^natten' "$work/err" && grep -qF -- "$1" "$work/err" && return
    echo "'$1' is not in:"
    cat "$work/err"
    return 1
}

# npy FILE DESCR 'SHAPE' < octal escapes, one line: an array file of version 1.
npy()
{
    header="{'descr': '$2', 'fortran_order': False, 'shape': ($3), }"
    while test $(((${#header} + 11) % 64)) -ne 0; do
        header="$header "
    done
    length=$((${#header} + 1))
    {
        # shellcheck disable=SC2059  # the format is the data
        printf "\\223NUMPY\\1\\0\\$(printf %o $((length % 256)))\\$(printf %o \
            $((length / 256)))"
        printf '%s\n' "$header"
        # Not by read: its lines are too long for some shells.
        while IFS= read -r escapes; do
            # shellcheck disable=SC2059
            printf "$escapes"
        done
    } > "$1"
}

# octals COUNT SEED SCRIPT: escapes of COUNT elements, made by awk's SCRIPT from x, a
# pseudo-random integer in [0, 65536).
octals()
{
    awk -v count="$1" -v x="$2" 'BEGIN {
        for (i = 0; i < count; i++) {
            x = (x * 171 + 11213) % 53125
            y = x % 65536
            '"$3"'
            if (i % 64 == 63) printf "\n"
        }
        printf "\n"
    }'
}

# random FILE 'SHAPE' COUNT SEED: fp16 in (-2, 2), both signs, many sizes.
random()
{
    octals "$3" "$4" 'printf "\\%03o\\%03o", y % 256,
        (int(y / 7) % 2 ? 176 : 48) + int(y / 256) % 16' | npy "$1" '<f2' "$2"
}

# The bytes of an array without its header.
data()
{
    tail -c +129 "$1"
}

same()
{
    cmp "$1" "$2"
}

differ()
{
    ! cmp -s "$1" "$2"
}

# has_python: a Python with NumPy was chosen.
has_python()
{
    test -n "${PYTHON:-}" && test "${PYTHON:-}" != : &&
        "$PYTHON" -c 'import numpy' 2> /dev/null
}

has_pictures()
{
    "$natten" info | grep -q "$1: yes"
}
