# SPDX-License-Identifier: MIT
"""The library beside what torch and scikit-image offer on a CPU.

    scripts/devenv python3 bench/cpu_peers.py [LABEL]...    P1 to P7 of suites/cpu.txt

All in one process, fp32, as users call them: the library's Python functions on torch's
tensors; torch's scaled_dot_product_attention over all pairs with a mask (dense); and
windows cut out by torch's unfold, some heads at a time where all would not fit.
Results, gradients included, are held against each other before anything is timed;
which of them is right says natten-bench.  Then all take turns for a while; medians
count.

Where scikit-image is, its denoise_nl_means (fast_mode, patches of 5 x 5 in a search of
13 x 13) takes turns with the same as one na2d, examples/nonlocal_means.py, on a colour
picture of 512 x 512; the quality of both is printed.  Needs torch.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

import natten

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "bench/suites/cpu.txt"
MOST_REPEATS = 20
# Before a shorter call comes one that does not count: it would find its data gone.
WARM_SECONDS = 0.02
# A longer call is not made again after its results were looked at.
SLOW_SECONDS = 5
MOST_BYTES = 1 << 30  # of windows that are cut out at a time
NAMES = "natten", "dense", "unfold"


class Problem:
    """What a problem text of the suite says."""

    def __init__(self, text):
        self.text = text
        words = text.split()[2:]
        said = {word[0]: word[1:] for word in words if word[0].isalpha()}
        self.batch, self.heads, self.dim = (int(said[x]) for x in "bhd")
        grid = next(word for word in words if word[0].isdigit())
        self.grid = tuple(int(n) for n in grid.split("x"))
        self.window = tuple(int(n) for n in said["w"].split("x"))
        dilation = said.get("e", "1").split("x")
        self.dilation = tuple(int(n) for n in dilation * (
            len(self.grid) if len(dilation) == 1 else 1
        ))


def read_suite():
    """{label: Problem} of the suite's problems, forward and backward alike."""
    found = {}
    for line in SUITE.read_text().splitlines():
        label, _, text = line.partition(": fwd ")
        if text and label.startswith("P"):
            found[label] = Problem("fwd " + text)
    return found


def first_keys(length, window):
    """Where the window of each token of an axis begins."""
    return (torch.arange(length) - window // 2).clamp(0, length - window)


# ---- contestants: query, key, value and out are [batch, *grid, heads, dim] -----------


def natten_attention(problem):
    operation = (natten.na1d, natten.na2d, natten.na3d)[len(problem.grid) - 1]
    return lambda q, k, v: operation(
        q, k, v, problem.window, dilation=problem.dilation
    )


def visible(length, window, dilation):
    """[queries, keys] of one axis."""
    seen = torch.zeros(length, length, dtype=torch.bool)
    for residue in range(dilation):
        of_class = torch.arange(residue, length, dilation)
        first = first_keys(len(of_class), window)[:, None]
        at = torch.arange(len(of_class))
        seen[of_class[:, None], of_class] = (at >= first) & (at < first + window)
    return seen


def dense_attention(problem):
    mask = torch.ones(1, 1, dtype=torch.bool)
    for axis in zip(problem.grid, problem.window, problem.dilation):
        mask = torch.kron(mask, visible(*axis))

    def attention(q, k, v):
        heads_first = (x.flatten(1, -3).transpose(1, 2) for x in (q, k, v))
        out = scaled_dot_product_attention(*heads_first, attn_mask=mask)
        return out.transpose(1, 2).reshape(v.shape)

    return attention


def to_classes(x, problem):
    """Residue classes become batch items."""
    for axis, d in enumerate(problem.dilation):
        x = x.unflatten(1 + axis, (-1, d)).movedim(2 + axis, 1).flatten(0, 1)
    return x


def from_classes(x, problem):
    for axis, d in reversed(list(enumerate(problem.dilation))):
        x = x.unflatten(0, (-1, d)).movedim(1, 2 + axis).flatten(1 + axis, 2 + axis)
    return x


def unfold_attention(problem):
    def windows(x):
        for axis, window in enumerate(problem.window):
            first = first_keys(x.shape[1 + axis], window)
            x = x.unfold(1 + axis, window, 1).index_select(1 + axis, first)
        return x.flatten(-len(problem.window))

    def attention(q, k, v):
        q, k, v = (to_classes(x, problem) for x in (q, k, v))
        logits = q.unsqueeze(-2) @ windows(k) * problem.dim**-0.5
        out = windows(v) @ logits.softmax(-1).transpose(-2, -1)
        return from_classes(out.squeeze(-1), problem)

    return attention


def heads_at_a_time(name, problem):
    if name != "unfold":
        return problem.heads
    tokens = problem.batch * math.prod(problem.grid)
    each = 4 * tokens * problem.dim * math.prod(problem.window)
    return min(max(MOST_BYTES // each, 1), problem.heads)


class Contestant:
    def __init__(self, name, problem, tensors):
        make = {"natten": natten_attention, "dense": dense_attention,
                "unfold": unfold_attention}[name]
        self.attention = make(problem)
        step = heads_at_a_time(name, problem)
        self.parts = [
            [x[..., h:h + step, :] for x in tensors]
            for h in range(0, problem.heads, step)
        ]

    def forward(self):
        """(seconds, [out])."""
        outs = []
        with torch.no_grad():
            start = time.perf_counter()
            for q, k, v, _ in self.parts:
                outs.append(self.attention(q, k, v))
            seconds = time.perf_counter() - start
        return seconds, [torch.cat(outs, -2)]

    def backward(self):
        """(seconds, gradients of query, key and value)."""
        seconds, grads = 0, []
        for *inputs, grad in self.parts:
            inputs = [x.detach().requires_grad_() for x in inputs]
            out = self.attention(*inputs)
            start = time.perf_counter()
            grads.append(torch.autograd.grad(out, inputs, grad))
            seconds += time.perf_counter() - start
        return seconds, [torch.cat(parts, -2) for parts in zip(*grads)]


# ---- timing --------------------------------------------------------------------------


def take_turns(calls, firsts, limit):
    """Median seconds of each call, which returns its own; rounds for `limit` seconds.

    firsts: the seconds that each took before.
    """
    times = [[first] if first > SLOW_SECONDS else [] for first in firsts]
    start = time.perf_counter()
    for _ in range(MOST_REPEATS):
        for call, first, kept in zip(calls, firsts, times):
            if first < WARM_SECONDS:
                call()
            if first <= SLOW_SECONDS:
                kept.append(call()[0])
        if time.perf_counter() - start > limit:
            break
    return [statistics.median(kept) for kept in times]


def must_agree(ours, theirs, what):
    for a, b in zip(ours, theirs):
        error = (a - b).abs().max().item()
        if not error < 1e-4 * a.abs().max().item():
            sys.exit(f"cpu_peers: {what} is {error} away")


def measure(label, problem, limit):
    """{(name, pass): seconds}, and a line of the table."""
    shape = (problem.batch, *problem.grid, problem.heads, problem.dim)
    tensors = [torch.randn(shape) for _ in range(4)]
    contestants = {name: Contestant(name, problem, tensors) for name in NAMES}
    seconds, cells = {}, [f"{label}, {problem.text.split(' ', 2)[2]}"]
    for which in ("forward", "backward"):
        calls = [getattr(contestant, which) for contestant in contestants.values()]
        firsts, results = zip(*(call() for call in calls))
        for name, result in zip(NAMES[1:], results[1:]):
            must_agree(results[0], result, f"{which} of {label} by {name}")
        del results
        times = take_turns(calls, firsts, limit)
        seconds.update({(name, which): t for name, t in zip(NAMES, times)})
        cells.append(f"{1e3 * times[0]:.2f}")
        for peer in times[1:]:
            cells += [f"{1e3 * peer:.1f}", f"{peer / times[0]:.1f}"]
    print("| " + " | ".join(cells) + " |", flush=True)
    return seconds


def measure_denoising(limit):
    """The same for scikit-image; None where it is not to be had."""
    try:
        import numpy as np
        from skimage import data
        from skimage.restoration import denoise_nl_means
    except ImportError as missing:
        print(f"cpu_peers: no denoising: {missing}", file=sys.stderr)
        return None
    sys.path.insert(0, str(ROOT / "examples"))
    from nonlocal_means import psnr, smooth

    sigma = 25 / 255
    clean = data.astronaut().astype("float32") / 255
    noisy = clean + np.random.default_rng(1).normal(0, sigma, clean.shape)
    noisy = noisy.astype("float32")

    def timed(call):
        start = time.perf_counter()
        result = call()
        return time.perf_counter() - start, result

    calls = [
        lambda: timed(lambda: smooth(noisy, sigma, 13, 2, 0.72)),
        lambda: timed(lambda: denoise_nl_means(
            noisy, h=0.9 * sigma, sigma=0, patch_size=5, patch_distance=6,
            fast_mode=True, channel_axis=-1)),
    ]
    firsts, results = zip(*(call() for call in calls))
    quality = [psnr(result, clean) for result in results]
    ours, theirs = take_turns(calls, firsts, limit)
    print(f"\ndenoising, 13 x 13 of 5 x 5, from {psnr(noisy, clean):.2f} dB: "
          f"{1e3 * ours:.1f} ms, {quality[0]:.2f} dB; scikit-image "
          f"{1e3 * theirs:.1f} ms, {quality[1]:.2f} dB: {theirs / ours:.1f} times")
    return {"natten": (ours, quality[0]), "scikit-image": (theirs, quality[1])}


def main(arguments=None):
    problems = read_suite()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", nargs="*", help="of " + ", ".join(problems))
    parser.add_argument("--seconds", type=float, default=5,
                        help="rounds of a line and pass last so long (default 5)")
    parser.add_argument("--threads", type=int, help="of all (default: the CPUs)")
    options = parser.parse_args(arguments)
    for label in options.labels:
        if label not in problems:
            parser.error(f"{label} not in {{{', '.join(problems)}}}")
    if options.threads is not None:
        if not 1 <= options.threads <= 256:
            parser.error(f"--threads={options.threads} not in [1, 256]")
        torch.set_num_threads(options.threads)
    natten.set_num_threads(torch.get_num_threads())
    torch.manual_seed(0)
    print(f"fp32, {torch.get_num_threads()} threads, ms; torch {torch.__version__}\n")
    print("| problem | forward | dense | times | unfold | times "
          "| backward | dense | times | unfold | times |")
    print("|---" * 11 + "|")
    found = {
        label: measure(label, problems[label], options.seconds)
        for label in options.labels or problems
    }
    found["denoising"] = measure_denoising(options.seconds)
    return found


if __name__ == "__main__":
    main()
