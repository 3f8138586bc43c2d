# SPDX-License-Identifier: MIT
"""A noisy sequence smoothed by na1d, beside the best moving average.

    python3 examples/sequence.py --out FOLDER

The sequence has steps and a wave that gets faster: what an average blurs, and what
patches recognise.  Writes sequence.png and prints the errors.  Needs Matplotlib.
"""

import argparse
from pathlib import Path

import numpy as np
from nonlocal_means import smooth

SIGMA = 0.12


def signal(length):
    t = np.linspace(0, 1, length)
    steps = np.select([t < 0.12, t < 0.25, t < 0.33], [0.2, 0.9, 0.35], 0.6)
    wave = 0.35 * np.sin(2 * np.pi * (4 * t + 16 * t**2)) * (t > 0.4)
    return steps + wave


def moving_average(x, width):
    padded = np.pad(x, width // 2, mode="reflect")
    return np.convolve(padded, np.ones(width) / width, "valid")


def rms(error):
    return float(np.sqrt(np.square(error).mean()))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--length", type=int, default=1200)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    truth = signal(options.length)
    random = np.random.default_rng(20220414)
    noisy = truth + SIGMA * random.normal(size=truth.shape)
    ours = smooth(noisy[:, None], SIGMA, window=301, radius=12, strength=1.0)[:, 0]
    averages = {w: moving_average(noisy, w) for w in range(3, 40, 2)}
    width = min(averages, key=lambda w: rms(averages[w] - truth))
    errors = rms(noisy - truth), rms(averages[width] - truth), rms(ours - truth)

    t = np.arange(options.length)
    figure, panels = plt.subplots(
        3, 1, figsize=(11, 7), sharex=True, sharey=True, layout="constrained"
    )
    shown = (
        (noisy, f"with noise, error {errors[0]:.3f}", 0.6),
        (averages[width], f"mean of {width} neighbours, error {errors[1]:.3f}", 1.2),
        (ours, f"na1d, window 301, error {errors[2]:.3f}", 1.2),
    )
    for panel, (curve, title, thickness) in zip(panels, shown):
        panel.plot(t, truth, color="0.6", linewidth=2.5, label="truth")
        panel.plot(t, curve, color="tab:blue", linewidth=thickness)
        panel.set_title(title, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(loc="upper right", frameon=False)
    panels[-1].set_xlabel("token")
    panels[-1].set(xlim=(0, options.length - 1), ylim=(-0.3, 1.6))
    figure.savefig(options.out / "sequence.png", dpi=90)
    words = "sequence: rms error {:.4f} noisy, {:.4f} averaged, {:.4f} na1d"
    print(words.format(*errors))
    return errors


if __name__ == "__main__":
    main()
