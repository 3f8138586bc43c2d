#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hold natten denoise against scikit-image's non-local means: quality and time.

Both get the same noisy picture, as 8-bit PNG, and each its own best h.  Prints the
table of docs/denoise.md; exits 1 if natten gains less than 6 dB or is more than 0.3 dB
behind.  Needs a Python with NumPy and scikit-image, and a natten built with libpng and
libjpeg:

    scripts/devenv python3 bench/compare_denoise.py [PICTURE]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage
from skimage import io
from skimage.restoration import denoise_nl_means

FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
PHOTO = "/usr/share/matplotlib/mpl-data/sample_data/grace_hopper.jpg"
# Where each contestant's best h is sought.
ALLOWED = FACTORS[1:]


def psnr(clean, picture):
    """In dB, of 8-bit pictures."""
    difference = clean.astype(np.float64) - picture.astype(np.float64)
    return 10 * np.log10(255 ** 2 / np.mean(difference ** 2))


def to_bytes(picture):
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def best_time(run, times):
    """The result of run() and the least seconds that it took."""
    seconds = np.inf
    for _ in range(times):
        result, taken = run()
        seconds = min(seconds, taken)
    return result, seconds


def run_skimage(noisy, h):
    channel_axis = -1 if noisy.ndim == 3 else None
    picture = noisy / 255
    start = time.perf_counter()
    out = denoise_nl_means(picture, h=h / 255, sigma=0, patch_size=5, patch_distance=6,
                           fast_mode=True, channel_axis=channel_axis)
    seconds = time.perf_counter() - start
    return to_bytes(out), seconds


def run_natten(args, folder, h, *options):
    command = [args.natten, "denoise", folder / "noisy.png", folder / "out.png",
               "--sigma", str(args.sigma), "--search", "13", "--json", *options]
    if h is not None:
        command += ["--h", str(h)]
    if args.threads:
        command += ["--threads", str(args.threads)]
    facts = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return io.imread(folder / "out.png"), facts["seconds"]


def machine():
    name = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as facts:
            name = next(line.split(":")[1].strip() for line in facts
                        if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", default=PHOTO)
    parser.add_argument("--natten", default=os.environ.get("NATTEN", "natten"))
    parser.add_argument("--sigma", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of natten (scikit-image has one)")
    parser.add_argument("--times", type=int, default=3, help="runs that are timed")
    args = parser.parse_args()
    contestants = {
        "scikit-image": lambda noisy, folder, h: run_skimage(noisy, h),
        "natten": lambda noisy, folder, h: run_natten(args, folder, h),
        "natten, whole 5x5 patches": lambda noisy, folder, h: run_natten(
            args, folder, h, "--patch", "5", "--components", "0"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [args.natten, "denoise", args.picture, folder / "out.png", "--search", "1",
             "--noise", str(args.sigma), "--seed", str(args.seed),
             "--noisy-out", folder / "noisy.png", "--clean-out", folder / "clean.png"],
            check=True, stdout=subprocess.DEVNULL)
        clean, noisy = io.imread(folder / "clean.png"), io.imread(folder / "noisy.png")
        before = psnr(clean, noisy)
        quality = {name: {f: psnr(clean, run(noisy, folder, f * args.sigma)[0])
                          for f in FACTORS} for name, run in contestants.items()}
        best = {name: max(ALLOWED, key=row.get) for name, row in quality.items()}
        seconds = {name: best_time(
            lambda run=run, f=best[name]: run(noisy, folder, f * args.sigma),
            args.times)[1] for name, run in contestants.items()}
        default = psnr(clean, run_natten(args, folder, None)[0])

    size = "x".join(str(n) for n in reversed(noisy.shape[:2]))
    print(f"{Path(args.picture).name}, {size}; sigma {args.sigma:g}, seed {args.seed}; "
          f"PSNR before {before:.2f} dB. {machine()}; "
          f"scikit-image {skimage.__version__}.\n")
    print("| h / sigma |", " | ".join(f"{f:g}" for f in FACTORS),
          "| best | gain | s |")
    print("|---|" + "---|" * (len(FACTORS) + 3))
    for name, row in quality.items():
        top = row[best[name]]
        print(f"| {name} |", " | ".join(f"{row[f]:.2f}" for f in FACTORS),
              f"| {top:.2f} | {top - before:.2f} | {seconds[name]:.3f} |")
    gain = quality["natten"][best["natten"]] - before
    lead = gain + before - quality["scikit-image"][best["scikit-image"]]
    ratio = seconds["scikit-image"] / seconds["natten"]
    side = "ahead" if lead >= 0 else "behind"
    print(f"\nWith its default h natten has {default:.2f} dB. It gains {gain:.2f} dB "
          f"and is {abs(lead):.2f} dB {side}; it takes 1/{ratio:.1f} of the time.")
    return 0 if gain >= 6 and lead >= -0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
