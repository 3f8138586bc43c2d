# SPDX-License-Identifier: MIT
"""A noisy stack of frames smoothed by na3d: windows in time beside windows in space.

    python3 examples/video.py --out FOLDER

Two discs move over a woven ground.  Each frame alone (na2d's window, 1 frame deep),
frames of the past alone (causal in time, as a live stream has them) and frames of past
and future.  Writes video.png and prints the PSNR of each.  Needs Matplotlib.
"""

import argparse
from pathlib import Path

import numpy as np
from nonlocal_means import psnr, smooth

SIGMA = 0.1


def frames(count, size):
    """[time, height, width, 1] between 0 and 1."""
    y, x = np.mgrid[:size, :size] / size
    ground = 0.45 + 0.2 * np.sin(25 * x) * np.sin(25 * y) + 0.2 * x
    stack = []
    for t in np.arange(count) / count:
        frame = ground.copy()
        frame[(x - 0.2 - 0.6 * t) ** 2 + (y - 0.35) ** 2 < 0.02] = 0.95
        frame[(x - 0.75) ** 2 + (y - 0.85 + 0.5 * t) ** 2 < 0.012] = 0.1
        stack.append(frame)
    return np.stack(stack)[..., None].astype("float32")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    truth = frames(options.frames, options.size)
    random = np.random.default_rng(20220414)
    noisy = truth + SIGMA * random.normal(size=truth.shape).astype("float32")
    given = dict(sigma=SIGMA, radius=1, strength=0.6)
    deep = min(7, options.frames)
    stacks = {
        "truth": truth,
        "with noise": noisy,
        "each frame alone": smooth(noisy, window=(1, 7, 7), **given),
        "past frames": smooth(
            noisy, window=(deep, 7, 7), is_causal=(True, False, False), **given
        ),
        "past and future": smooth(noisy, window=(deep, 7, 7), **given),
    }
    quality = {n: psnr(stack, truth) for n, stack in stacks.items() if n != "truth"}

    chosen = np.linspace(0, options.frames - 1, 3).astype(int)
    figure, panels = plt.subplots(
        len(chosen), len(stacks), figsize=(12.5, 7.8), layout="constrained"
    )
    for column, (name, stack) in enumerate(stacks.items()):
        title = f"{name}\n{quality[name]:.1f} dB" if name in quality else f"{name}\n"
        panels[0][column].set_title(title)
        for row, frame in enumerate(chosen):
            panel = panels[row][column]
            panel.imshow(stack[frame, ..., 0], cmap="gray", vmin=0, vmax=1)
            panel.set_xticks([])
            panel.set_yticks([])
            if column == 0:
                panel.set_ylabel(f"frame {frame}")
    figure.savefig(options.out / "video.png", dpi=90)
    print("video: PSNR " + ", ".join(f"{n} {q:.2f} dB" for n, q in quality.items()))
    return quality


if __name__ == "__main__":
    main()
