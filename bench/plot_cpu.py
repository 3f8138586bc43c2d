# SPDX-License-Identifier: MIT
"""Draw what natten-bench says of windows and grids of all sizes.

    scripts/bench --suite bench/suites/windows.txt --json windows.json
    scripts/bench --suite bench/suites/grids.txt --json grids.json
    python3 bench/plot_cpu.py windows.json grids.json --out FOLDER

Above: the share that useful work has of the machine's multiply-adds.  Below: the time
of a call beside a line of slope one, which is what neighborhood attention promises, in
the volume of the window and in the number of tokens; the slope of the larger half is
printed.  Leaves cpu-speed.png.  Needs Matplotlib.
"""

import argparse
import json
import math
import sys
from pathlib import Path

OPERATIONS = {"fwd": "forward", "bwd": "backward"}


def sizes(text):
    """(grid, window) of a problem text, in tokens: "fwd ... 14x14 w7x7"."""
    words = text.split()
    window = next(i for i, word in enumerate(words) if word[0] == "w")
    return tuple(
        [int(n) for n in word.split("x")]
        for word in (words[window - 1], words[window][1:])
    )


def curves(facts, which):
    """{name: [(edge, size, share, milliseconds)]} by edge; `which` of sizes() counts.
    """
    found = {}
    for row in facts["results"]:
        shape = sizes(row["problem"])[which]
        operation = OPERATIONS[row["problem"].split()[0]]
        plural = "s" if row["threads"] > 1 else ""
        name = f"{operation}, {row['threads']} thread{plural}"
        found.setdefault(name, []).append(
            (shape[-1], math.prod(shape), row["share_of_peak"],
             1e3 * row["median_seconds"])
        )
    return {name: sorted(points) for name, points in found.items()}


def slope(points):
    """Of log time over log size, by least squares over the larger half."""
    half = points[len(points) // 2:]
    xs = [math.log(size) for _, size, _, _ in half]
    ys = [math.log(time) for _, _, _, time in half]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum(
        (a - x) ** 2 for a in xs
    )


def draw_share(panel, lines, title):
    for name, points in lines.items():
        style = "o-" if name.startswith("forward") else "s--"
        panel.plot([p[0] for p in points], [p[2] for p in points], style, label=name)
    panel.set(xscale="log", xlabel=title, ylabel="share of peak", ylim=(0, None))
    edges = sorted({p[0] for points in lines.values() for p in points})
    panel.set_xticks(edges, [str(edge) for edge in edges])
    panel.minorticks_off()


def draw_time(panel, lines, title):
    for name, points in lines.items():
        style = "o-" if name.startswith("forward") else "s--"
        panel.plot([p[1] for p in points], [p[3] for p in points], style, label=name)
    points = next(iter(lines.values()))
    first, last = points[0][1], points[-1][1]
    panel.plot([first, last], [points[-1][3] * first / last, points[-1][3]], "k:",
               label="slope one")
    panel.set(xscale="log", yscale="log", xlabel=title, ylabel="time of a call, ms")


def draw(windows, grids, path, where):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(11, 8.4), layout="constrained")
    draw_share(panels[0][0], windows, "height and width of the window")
    draw_share(panels[0][1], grids, "height and width of the grid")
    draw_time(panels[1][0], windows, "tokens of a window")
    draw_time(panels[1][1], grids, "tokens of the grid")
    for panel in panels.flat:
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    figure.suptitle(where)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("windows", type=Path)
    parser.add_argument("grids", type=Path)
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args(arguments)
    facts = [json.loads(p.read_text()) for p in (options.windows, options.grids)]
    if any(row["share_of_peak"] is None for f in facts for row in f["results"]):
        sys.exit(f"plot_cpu: the limits of {facts[0]['variant']} are not known")
    windows, grids = curves(facts[0], 1), curves(facts[1], 0)
    slopes = {}
    for what, lines in (("window", windows), ("grid", grids)):
        for name, points in lines.items():
            slopes[what, name] = slope(points)
            print(f"{name}: time ~ tokens of the {what} ^ {slopes[what, name]:.2f}")
    where = f"{facts[0]['processor']}, {facts[0]['variant']}"
    options.out.mkdir(parents=True, exist_ok=True)
    draw(windows, grids, options.out / "cpu-speed.png", where)
    return slopes


if __name__ == "__main__":
    main()
