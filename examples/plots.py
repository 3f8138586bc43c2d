# SPDX-License-Identifier: MIT
"""Time and memory of the Legacy module, which unfolds windows, and of the fused one.

    python3 examples/plots.py --out FOLDER

One 2-D module, forward and backward, for feature maps of 7 x 7 to 224 x 224: a table,
and plots.png with time and memory over the size of the map.  Window attention is the
fused operation with a stride of the window.  Each number is of a process of its own, so
that its peak of memory is its own; times are the shortest of some runs, of the
processor and on one thread, so that other programs disturb them little.  The module is
judged against Legacy before it is timed.  Needs torch, Matplotlib and Linux.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

DIM, HEADS, KERNEL = 64, 2, 7
SIZES = 7, 14, 28, 56, 112, 224
NAMES = {"legacy": "Legacy (unfold)", "fused": "fused", "window": "window attention"}


def made(name):
    import natten

    given = dict(num_heads=HEADS, kernel_size=KERNEL)
    if name == "legacy":
        return natten.LegacyNeighborhoodAttention2D(dim=DIM, **given)
    if name == "fused":
        return natten.NeighborhoodAttention2D(dim=DIM, **given)
    return natten.NeighborhoodAttention2D(embed_dim=DIM, stride=KERNEL, **given)


def memory(line):
    """Bytes of memory of this process, by Linux: VmRSS now, VmHWM at most."""
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line + ":"):
            return int(text.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {line}")


def measure(name, size):
    """Seconds of forward and backward, and bytes beyond what the process had before."""
    import torch

    import natten

    torch.set_num_threads(1)
    natten.set_num_threads(1)
    torch.manual_seed(20220414)
    module = made(name)
    run(module, torch.randn(1, KERNEL, KERNEL, DIM))
    Path("/proc/self/clear_refs").write_text("5")  # what was at most is now forgotten
    before = memory("VmRSS")
    x = torch.randn(1, size, size, DIM)
    times = []
    while len(times) < 3 or (sum(times) < 0.5 and len(times) < 50):
        start = time.process_time()
        run(module, x)
        times.append(time.process_time() - start)
    return {"seconds": min(times), "bytes": memory("VmHWM") - before}


def run(module, x):
    module.zero_grad()
    module(x).square().mean().backward()


def judged():
    """The two modules agree, forward and backward."""
    import torch

    legacy, fused = made("legacy"), made("fused")
    legacy.load_state_dict(fused.state_dict())
    x = torch.randn(1, 14, 14, DIM)
    for module in (legacy, fused):
        run(module, x)
    pairs = zip(legacy.parameters(), fused.parameters())
    return all(torch.allclose(a.grad, b.grad, atol=1e-5) for a, b in pairs)


def measured(name, size):
    result = subprocess.run(
        [sys.executable, __file__, "--measure", name, str(size)],
        check=True, stdout=subprocess.PIPE,
    )
    return json.loads(result.stdout)


def table(results, sizes):
    lines = [
        "| map | " + " | ".join(f"{n}, ms | MiB" for n in NAMES.values()) + " |",
        "|---" * (1 + 2 * len(NAMES)) + "|",
    ]
    for size in sizes:
        cells = [f"{size} x {size}"]
        for name in NAMES:
            one = results[name, size]
            cells.append(f"{1e3 * one['seconds']:.1f}")
            cells.append(f"{one['bytes'] / 2**20:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results, sizes, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    styles = {"legacy": "o-", "fused": "s-", "window": "^:"}
    for name, title in NAMES.items():
        of = [results[name, size] for size in sizes]
        left.plot(sizes, [1e3 * x["seconds"] for x in of], styles[name], label=title)
        # Less than a page or two is not seen from outside.
        mib = [x["bytes"] / 2**20 for x in of]
        large = [(size, m) for size, m in zip(sizes, mib) if m > 1]
        right.plot(*zip(*large or [(sizes[0], 1)]), styles[name], label=title)
    for panel, what in ((left, "time, ms"), (right, "memory, MiB")):
        panel.set(xscale="log", yscale="log", xlabel="height and width", ylabel=what)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    figure.suptitle(
        f"forward and backward, window {KERNEL} x {KERNEL}, dim {DIM}, {HEADS} heads, "
        "fp32, one thread"
    )
    figure.savefig(path, dpi=90)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.measure:
        name, size = options.measure
        print(json.dumps(measure(name, int(size))))
        return None
    if not judged():
        sys.exit("plots: the fused module's gradients are not Legacy's")
    results = {
        (name, size): measured(name, size) for size in options.sizes for name in NAMES
    }
    print(table(results, options.sizes))
    draw(results, options.sizes, options.out / "plots.png")
    return results


if __name__ == "__main__":
    main()
