#!/bin/sh
# SPDX-License-Identifier: MIT
#
# .npy files of all kinds: versions, orders, byte orders, types; and files that are
# broken or made to break a reader.  natten forward with a window of one token copies
# value, so that what was read is what is written.

# shellcheck disable=SC2154  # from natten-env.sh
. "$top_srcdir/tests/command/support.sh"

# Heads and sizes: [batch, length, heads, head_dim].
random ones.npy '1, 2, 3, 2' 12 1

# head VERSION HEADERTEXT: the head of a file, with the length that it has.
head_of()
{
    printf '\223NUMPY'
    length=${#2}
    low=$(printf %o $((length % 256))) high=$(printf %o $((length / 256)))
    # shellcheck disable=SC2059  # the format is the data
    if test "$1" = 1; then
        printf "\\1\\0\\$low\\$high"
    else
        printf "\\$1\\0\\$low\\$high\\0\\0"
    fi
    printf '%s' "$2"
}

copy() # FILE: read as value, written to copy.npy
{
    exits 0 forward ones.npy ones.npy "$1" --kernel-size 1 --out copy.npy
}

data ones.npy > ones.bin
text="{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2, 3, 2), }"
accepted() # VERSION TEXT
{
    head_of "$1" "$2" > a.npy
    cat ones.bin >> a.npy
    copy a.npy && same copy.npy ones.npy
}
for version in 1 2 3; do
    check "version $version" accepted $version "$text"
done
check 'entries in another order' accepted 1 \
    "{'shape': (1, 2, 3, 2), 'fortran_order': False, 'descr': '<f2'}"
check 'double quotes, no blanks, old long integers' accepted 1 \
    '{"shape":(1L,2L,3L,2L),"descr":"<f2","fortran_order":False}'
check 'native byte order said with =' accepted 1 \
    "{'descr': '=f2', 'fortran_order': False, 'shape': (1, 2, 3, 2), }"

swapped()
{
    printf '%s\n' '\074\000\300\000\100\200\000\001' | npy big.npy '>f2' '1, 2, 1, 2'
    printf '%s\n' '\000\074\000\300\200\100\001\000' | npy little.npy '<f2' '1, 2, 1, 2'
    exits 0 forward little.npy little.npy big.npy --kernel-size 1 --out copy.npy &&
        same copy.npy little.npy
}
check 'big-endian elements' swapped

fortran()
{
    # The same array, first index fastest.
    printf '%s\n' '\001\000\003\000\002\000\004\000' > values
    { head_of 1 "{'descr': '<f2', 'fortran_order': True, 'shape': (1, 2, 1, 2), }"
        # shellcheck disable=SC2059
        printf "$(cat values)"; } > f.npy
    printf '%s\n' '\001\000\002\000\003\000\004\000' | npy c.npy '<f2' '1, 2, 1, 2'
    exits 0 forward c.npy c.npy f.npy --kernel-size 1 --out copy.npy &&
        same copy.npy c.npy
}
check 'Fortran order' fortran

# Each is refused with a status of 3 and the file's name, and leaves nothing behind.
refused() # SENTENCE TEXT [BYTES OF DATA]
{
    head_of 1 "$2" > bad.npy
    head -c "${3:-24}" ones.bin >> bad.npy
    rm -f copy.npy
    exits 3 forward ones.npy ones.npy bad.npy --kernel-size 1 --out copy.npy &&
        says "bad.npy: $1" && test ! -e copy.npy
}
d="'descr': '<f2'" o="'fortran_order': False" s="'shape': (1, 2, 3, 2)"
check 'refused: data cut off' refused 'the file is cut off' "$text" 23
check 'refused: no dictionary' refused 'the header is no dictionary' 'descr'
check 'refused: an empty header' refused 'the header is no dictionary' ''
check 'refused: unclosed' refused 'the header is no dictionary' "{$d, $o, $s"
check 'refused: unclosed string' refused 'elements of a type' "{'descr': '<f2"
check 'refused: more after the end' refused 'something follows' "{$d, $o, $s} }"
check 'refused: an entry lacks' refused 'the header lacks' "{$d, $s}"
check 'refused: an unknown entry' refused 'the header has an unknown entry' \
    "{$d, $o, $s, 'x': 1}"
check 'refused: integers' refused 'elements of a type' "{'descr': '<i4', $o, $s}"
check 'refused: records' refused 'elements of a type' \
    "{'descr': [('a', '<f4')], $o, $s}"
check 'refused: objects' refused 'elements of a type' "{'descr': '|O', $o, $s}"
check 'refused: negative sizes' refused 'the shape is no tuple' \
    "{$d, $o, 'shape': (-1,)}"
check 'refused: a number, no tuple' refused 'the shape is no tuple' \
    "{$d, $o, 'shape': (4)}"
check 'refused: a tuple of nothing' refused 'the shape is no tuple' \
    "{$d, $o, 'shape': (,)}"
check 'refused: nine dimensions' refused 'the shape is no tuple' \
    "{$d, $o, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1)}"
check 'refused: a size beyond 64 bits' refused 'the shape is no tuple' \
    "{$d, $o, 'shape': (99999999999999999999,)}"
check 'refused: a product beyond 64 bits' refused 'the shape does not fit' \
    "{$d, $o, 'shape': (4294967296, 4294967296, 4)}"
check 'refused: overflow hidden by a 0' refused 'the shape does not fit' \
    "{$d, $o, 'shape': (0, 4294967296, 4294967296, 4)}"
check 'refused: more than the file has' refused 'the file is cut off' \
    "{$d, $o, 'shape': (1, 1099511627776, 3, 2)}"
check 'refused: fortran_order maybe' refused 'fortran_order' \
    "{$d, 'fortran_order': 1, $s}"

raw() # SENTENCE: the file bad.npy, as it is, is refused with this
{
    exits 3 forward ones.npy ones.npy bad.npy --kernel-size 1 --out copy.npy &&
        says "bad.npy: $1"
}
: > bad.npy
check 'refused: an empty file' raw 'not a .npy file'
printf '\223NUMPY' > bad.npy
check 'refused: only the magic' raw 'not a .npy file'
printf '\223NUMPY\4\0\1\0\0\0{' > bad.npy
check 'refused: version 4' raw 'a version of .npy'
printf '\223NUMPY\2\0\377\377\377\377{' > bad.npy
check 'refused: a header of 4 GiB' raw 'the header is too long'
printf '\223NUMPY\1\0\100\0{' > bad.npy
check 'refused: a header cut off' raw 'the file is cut off'

from_pipe()
{
    # A pipe has no size to be checked against.
    head_of 1 "{$d, $o, 'shape': (1, 4096, 3, 2)}" > bad.npy
    exits 3 forward ones.npy ones.npy /dev/stdin --kernel-size 1 --out copy.npy
    "$natten" forward ones.npy ones.npy /dev/stdin --kernel-size 1 --out copy.npy \
        < ones.npy && same copy.npy ones.npy &&
        ! cat bad.npy | "$natten" forward ones.npy ones.npy /dev/stdin --kernel-size 1 \
            --out copy.npy 2> err && says '/dev/stdin: the file is cut off'
}
check 'arrays come through pipes, cut off or not' from_pipe

if has_python; then
    numpy()
    {
        "$PYTHON" - "$natten" << 'END'
import subprocess, sys
import numpy as np
natten = sys.argv[1]
rng = np.random.default_rng(3)
def run(value, *more):
    np.save("p.npy", value)
    np.save("z.npy", np.zeros(value.shape, value.dtype))
    subprocess.run([natten, "forward", "z.npy", "z.npy", "p.npy", "--kernel-size", "1",
                    "--out", "r.npy", *more], check=True)
    return np.load("r.npy")
for dtype in "<f8", ">f8", "<f4", ">f4", "<f2", ">f2":
    for order in "C", "F":
        value = np.asarray(rng.normal(size=(2, 3, 4, 2, 5)), dtype, order=order)
        np.testing.assert_array_equal(run(value), value)
# Conversion rounds as NumPy does, subnormal numbers, overflow and ties included.
value = np.concatenate([rng.normal(size=2000) * 10.0 ** rng.integers(-9, 6, 2000),
                        [0.0, -0.0, 65519, 65520, 2.0 ** -25, 2.0 ** -24 * 1.5, 1e300,
                         1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11, -2.0 ** -15]])
value = value.reshape(1, -1, 1, 1)
# The sum that starts at 0 makes 0 of -0, which bits would show.
finite = (np.abs(value) < 3e38) & (value != 0)
with np.errstate(over="ignore"):
    wanted = value.astype("<f2")
got = run(value, "--dtype", "fp16")
assert got.dtype == np.dtype("<f2")
# Softmax of one key is 1: infinities go through as they are.
np.testing.assert_array_equal(got, wanted)
bits = (run(value[finite].reshape(1, -1, 1, 1), "--dtype", "bf16").view("<u2").ravel())
single = value[finite].astype(np.float32)
exact = np.abs(single.astype(float) - value[finite]) == 0
u = single.view(np.uint32)[exact].astype(np.uint64)
nearest = ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(np.uint16)
np.testing.assert_array_equal(bits[exact], nearest)
assert exact.sum() >= 5
try:
    import ml_dtypes
except ImportError:
    print("# ml_dtypes is not there")
else:
    value = rng.normal(size=(1, 9, 2, 3)).astype(ml_dtypes.bfloat16)
    got = run(value)
    np.testing.assert_array_equal(got.view("<u2"), value.view("<u2"))
    wide = rng.normal(size=(1, 500, 2, 3))
    np.testing.assert_array_equal(run(wide, "--dtype", "bf16").view("<u2"),
                                  wide.astype(ml_dtypes.bfloat16).view("<u2"))
END
    }
    check 'files of NumPy and for NumPy, every type and order' numpy
else
    skip 'files of NumPy and for NumPy, every type and order' 'no Python with NumPy'
fi
finish
