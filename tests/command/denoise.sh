#!/bin/sh
# SPDX-License-Identifier: MIT
#
# natten denoise on a picture made here: what it wins in dB, odd sizes, formats, alpha,
# stacks, and how it behaves on a terminal, in a pipe and when interrupted.

# shellcheck disable=SC2154  # from natten-env.sh
. "$top_srcdir/tests/command/support.sh"

# picture FILE 'SHAPE' WIDTH COUNT: uint8, squares of different greys with slopes.
picture()
{
    awk -v width="$3" -v count="$4" 'BEGIN {
        for (i = 0; i < count; i++) {
            x = i % width; y = int(i / width)
            square = (int(x / 11) * 7 + int(y / 13) * 5) % 6
            printf "\\%03o", 40 + square * 30 + x % 11
            if (i % 64 == 63) printf "\n"
        }
        printf "\n"
    }' | npy "$1" '|u1' "$2"
}
picture p.npy '67, 59' 59 3953
noise='--noise 25 --seed 3'

# number KEY: from the last run's line "PSNR 20.17 -> 28.90 dB".
before()
{
    sed -n 's/.*PSNR \([0-9.]*\) -> .*/\1/p' out
}
after()
{
    sed -n 's/.*PSNR [0-9.]* -> \([0-9.]*\) dB.*/\1/p' out
}
wins() # DB ARGUMENTS...
{
    least=$1
    shift
    exits 0 denoise "$@" || return
    cat out
    awk -v a="$(after)" -v b="$(before)" -v least="$least" \
        'BEGIN { exit !(a - b >= least) }'
}

repeated()
{
    # shellcheck disable=SC2086
    exits 0 denoise p.npy d2.npy $noise --noisy-out n2.npy --threads 1 &&
        same d.npy d2.npy && same n.npy n2.npy &&
        exits 0 denoise p.npy d3.npy --noise 25 --seed 4 --noisy-out n3.npy &&
        differ n.npy n3.npy
}

from_noisy()
{
    # Without --noise there is nothing to compare with, but the work is the same.
    exits 0 denoise n.npy d2.npy --sigma 25 && same d.npy d2.npy && ! grep -q PSNR out
}

line()
{
    # shellcheck disable=SC2086
    exits 0 denoise p.npy d.npy $noise --noisy-out n.npy --clean-out c.npy \
        --threads 2 && test "$(wc -l < out)" = 1 && test ! -s err || return
    n='[0-9.]+' # a number
    grep -Eq "^59x67 grey; sigma 25; noise 25, PSNR $n -> $n dB; $n s, 2 threads; \
c.npy, n.npy, d.npy\$" out
}

# The expected noise: 255^2 / 25^2 is 20.17 dB; rounding and cutting change little here.
level()
{
    # shellcheck disable=SC2086
    exits 0 denoise p.npy d.npy $noise && before &&
        before | awk '{ exit !($1 > 20.0 && $1 < 20.5) }'
}

check 'a grey picture gains 6 dB at sigma 25' wins 6 p.npy d.npy --noise 25 --seed 3 \
    --noisy-out n.npy --clean-out c.npy
check 'whole patches gain 6 dB too' wins 6 p.npy d0.npy --noise 25 --seed 3 \
    --components 0 --patch 5
check 'the clean picture comes out as it went in' same c.npy p.npy
check 'the noise has the level asked for' level
check 'a seed makes one noise, any number of threads the same picture' repeated
check 'a noisy picture is denoised the same' from_noisy
check 'one line says size, noise, PSNR, time, threads and files' line
no_noise()
{
    exits 0 denoise p.npy d.npy --sigma 5 --noise 0 && grep -q 'PSNR inf' out
}
check 'noise of 0 leaves PSNR before infinite' no_noise

# Sizes below the window and the patch, down to one pixel.
small()
{
    picture s.npy "$1, $2" "$2" $(($1 * $2))
    exits 0 denoise s.npy d.npy --sigma 25 || return
    test "$1" -ge 13 -a "$2" -ge 13 && return
    says 'note: --search 13 is more than'
}
for size in '1 1' '1 40' '40 1' '2 3' '12 13' '14 5'; do
    # shellcheck disable=SC2086  # two numbers
    check "a picture of $size pixels" small $size
done

stack()
{
    # 4 frames of 20 x 15, two channels.
    picture s.npy '4, 20, 15, 2' 30 2400
    wins 3 s.npy d.npy --noise 25 && grep -q '^4 frames of 15x20 ' out &&
        wins 3 s.npy d2.npy --noise 25 --search 3,7,7 --patch 3,3,3 &&
        wins 3 s.npy d3.npy --noise 25 --search 3,7,7 --patch 3 && same d2.npy d3.npy
}
check 'a stack of frames goes through windows in time' stack

flat()
{
    # One colour has nothing to learn directions from.
    awk 'BEGIN { for (i = 0; i < 400; i++) printf "\\144"; printf "\n" }' |
        npy flat.npy '|u1' '20, 20'
    exits 0 denoise flat.npy d.npy --sigma 10 && same flat.npy d.npy
}
check 'a flat picture stays flat' flat

quiet()
{
    "$natten" denoise p.npy d.npy --sigma 25 2>&1 | cat > piped
    test "$(wc -l < piped)" = 1 && ! tr -d '\015' < piped | cmp -s - /dev/null &&
        ! grep -q '\[' piped
}
check 'a pipe sees no progress bar' quiet
if script -qec true /dev/null > /dev/null 2>&1; then
    bar()
    {
        script -qec "'$natten' denoise p.npy d4.npy --sigma 25" /dev/null > seen \
            < /dev/null
        grep -q 'denoise \[####' seen && exits 0 denoise p.npy d.npy --sigma 25 &&
            same d.npy d4.npy
    }
    check 'a terminal sees one, and the picture is the same' bar
else
    skip 'a terminal sees one, and the picture is the same' 'no script(1)'
fi

# Slow on purpose, so that there is something to interrupt.
picture large.npy '700, 700' 700 490000
interrupted()
{
    echo old > d5.npy
    # A shell's background jobs ignore SIGINT; the terminal's own way is SIGTERM here.
    "$natten" denoise large.npy d5.npy --sigma 25 --search 41 --backend reference \
        --components 0 2> err &
    process=$!
    sleep 1
    kill -TERM $process
    wait $process
    got=$?
    echo "status $got"
    cat err
    # 128 + SIGTERM
    test $got = 143 && says interrupted && test "$(cat d5.npy)" = old && ! ls d5.npy.?*
}
check 'a signal ends it, with nothing written' interrupted

if has_pictures PNG; then
    png()
    {
        exits 0 denoise p.npy d.png --sigma 25 &&
            exits 0 denoise p.npy d.npy --sigma 25 &&
            exits 0 denoise d.png e.npy --sigma 1 --search 1 && same d.npy e.npy
    }
    check 'PNG keeps what was written' png
    wrong_name()
    {
        exits 2 denoise p.npy d.jpg --sigma 25 &&
            says 'OUT d.jpg: pictures are written as' &&
            exits 2 denoise s.npy stack.png --sigma 25 && says 'OUT stack.png: ' &&
            test ! -e d.jpg -a ! -e stack.png
    }
    check 'names that say another format are refused' wrong_name
    broken()
    {
        head -c 200 d.png > cut.png
        exits 3 denoise cut.png e.npy --sigma 25 && says 'cut.png: ' && test ! -e e2.npy
    }
    check 'a PNG that is cut off is told' broken
else
    skip 'PNG' 'built without libpng'
fi

if has_pictures PNG && has_python && "$PYTHON" -c 'import PIL' 2> /dev/null; then
    formats()
    {
        "$PYTHON" - "$natten" << 'END'
import subprocess, sys
import numpy as np
from PIL import Image
natten = sys.argv[1]
y, x = np.mgrid[0:31, 0:37]
grey = (60 + 5 * (x // 6) + 4 * (y // 5)).astype(np.uint8)
alpha = (x * 6).astype(np.uint8)
def run(image, save={}):
    image.save("i.png", **save)
    subprocess.run([natten, "denoise", "i.png", "o.png", "--sigma=1", "--search=1"],
                   check=True, stdout=subprocess.DEVNULL)
    return Image.open("o.png")
# A search of one pixel leaves pictures as they are: tested is how they are read.
rgb = np.stack([grey, 255 - grey, grey // 2], -1)
rgba = np.concatenate([rgb, alpha[..., None]], -1)
for array, mode in (grey, "L"), (rgb, "RGB"), (rgba, "RGBA"), \
        (np.stack([grey, alpha], -1), "LA"):
    out = run(Image.fromarray(array, mode))
    assert out.mode == mode, (out.mode, mode)
    np.testing.assert_array_equal(np.asarray(out), array)
deep = (grey.astype(np.uint16) * 257 + x % 3).astype(np.uint16)
out = run(Image.fromarray(deep))
np.testing.assert_array_equal(np.asarray(out).astype(np.uint16), deep)
palette = Image.fromarray(rgb).quantize(200)
np.testing.assert_array_equal(np.asarray(run(palette).convert("RGB")),
                              np.asarray(palette.convert("RGB")))
END
    }
    check 'PNG of every kind: grey, colour, alpha, 16 bits, palette' formats
else
    skip 'PNG of every kind: grey, colour, alpha, 16 bits, palette' \
        'no Pillow, or no libpng'
fi
if has_pictures JPEG && has_python && "$PYTHON" -c 'import PIL' 2> /dev/null; then
    jpeg()
    {
        "$PYTHON" - "$natten" << 'END'
import subprocess, sys
import numpy as np
from PIL import Image
natten = sys.argv[1]
y, x = np.mgrid[0:40, 0:50]
rgb = np.stack([x * 4, y * 5, 200 - x - y], -1).astype(np.uint8)
for image in Image.fromarray(rgb), Image.fromarray(rgb[..., 0]):
    image.save("i.jpg", quality=95)
    subprocess.run([natten, "denoise", "i.jpg", "o.npy", "--sigma=1", "--search=1"],
                   check=True, stdout=subprocess.DEVNULL)
    got = np.load("o.npy").reshape(np.asarray(image).shape)
    wanted = np.asarray(Image.open("i.jpg"))
    # Decoders may round differently.
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 2
with open("i.jpg", "rb") as file:
    start = file.read(300)
with open("cut.jpg", "wb") as file:
    file.write(start)
run = subprocess.run([natten, "denoise", "cut.jpg", "x.npy", "--sigma", "1"],
                     capture_output=True, text=True)
assert run.returncode == 3 and "cut.jpg" in run.stderr, run
END
    }
    check 'JPEG in grey and colour; one that is cut off is told' jpeg
else
    skip 'JPEG in grey and colour; one that is cut off is told' \
        'no Pillow, or no libjpeg'
fi
finish
