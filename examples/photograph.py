# SPDX-License-Identifier: MIT
"""Noise taken off a photograph: non-local means in colour, by one call of na2d.

    python3 examples/photograph.py --out FOLDER

Writes photograph.png and prints the PSNR before and after.  Needs Matplotlib and
scikit-learn, whose package has the photograph.
"""

import argparse
from pathlib import Path

import numpy as np
from nonlocal_means import psnr, smooth


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--sigma", type=float, default=25, help="of 255")
    parser.add_argument("--size", type=int, default=256, help="side of the part taken")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_sample_image

    sigma = options.sigma / 255
    truth = load_sample_image("china.jpg")[90:, 180:][: options.size, : options.size]
    truth = truth / np.float32(255)
    random = np.random.default_rng(20220414)
    noisy = truth + sigma * random.normal(size=truth.shape).astype("float32")
    clean = smooth(noisy, sigma, window=15, radius=1, strength=0.6)
    before, after = psnr(noisy, truth), psnr(clean, truth)

    figure, panels = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    shown = (truth, "photograph"), (noisy, f"with noise, {before:.1f} dB"), (
        clean, f"na2d, window 15 x 15, {after:.1f} dB",
    )
    for panel, (picture, title) in zip(panels, shown):
        panel.imshow(np.clip(picture, 0, 1), interpolation="nearest")
        panel.set_title(title)
        panel.axis("off")
    figure.savefig(options.out / "photograph.png", dpi=90)
    print(f"photograph: PSNR {before:.2f} dB before, {after:.2f} dB after")
    return before, after


if __name__ == "__main__":
    main()
