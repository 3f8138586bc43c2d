# SPDX-License-Identifier: MIT
"""The cases that C, Python, Julia and R all run: against the oracle, and as bytes.

With NATTEN_BITS naming a folder, each case leaves its results there, for the test that
holds the four languages against each other bit for bit (docs/problem-text.md).
"""

import os
from pathlib import Path

import numpy as np
import pytest

from oracle import Attention, Grid, worst
from problem import Problem

SOURCE = Path(os.environ.get("top_srcdir", Path(__file__).resolve().parents[3]))


def cases():
    for path in sorted((SOURCE / "tests" / "cases").glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                yield pytest.param(
                    line, f"{path.stem}-{number}", id=f"{path.stem}: {line}"
                )


def expected_of(p):
    """The oracle's results of a problem, in the order of problem.run()."""
    options = dict(p.options)
    scale = options.pop("scale", None)
    if p.operation in ("qk", "qkbwd") and scale is None:
        scale = 1
    grid = Grid(p.lengths, p.keys, p.window, **options)
    value = p.data("value")
    given = {
        name: p.data(name) for name in ("bias", "additional_keys", "additional_values")
    }
    oracle = Attention(
        grid, p.data("query"), p.data("key"), value, p.dtype, scale=scale, **given
    )
    if p.operation in ("fwd", "bwd"):
        results = oracle.forward()
        if p.operation == "bwd":
            results.update(oracle.backward(p.data("grad_out"), p.data("grad_lse")))
    elif p.operation == "qk":
        results = oracle.qk()
    elif p.operation == "qkbwd":
        results = oracle.qk_backward(p.data("grad_attn"))
    elif p.operation == "av":
        results = oracle.av(p.data("attn"))
    else:
        results = oracle.av_backward(p.data("attn"), p.data("grad_out"))
    order = ["attn", "out", "lse", "grad_attn", "grad_query", "grad_key", "grad_value"]
    order += ["grad_bias", "grad_additional_keys", "grad_additional_values"]
    return {name: results[name] for name in order if name in results}


@pytest.mark.parametrize("line, name", list(cases()))
def test_case(line, name):
    problem = Problem(line)
    results = problem.run()
    expected = expected_of(problem)
    assert len(results) == len(expected)
    for result, (tensor, wanted) in zip(results, expected.items()):
        assert worst(result, wanted) <= 1, tensor
    bits = os.environ.get("NATTEN_BITS")
    if bits:
        folder = Path(bits) / "python"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.bin").write_bytes(b"".join(r.tobytes() for r in results))


def test_the_data_are_those_of_the_other_languages():
    """The first elements of seed 1, query, worked out by hand from the recurrence."""
    x = (1 * 1000003 + 0 * 7919 + 1) % 2147483647
    first = []
    for _ in range(3):
        x = 48271 * x % 2147483647
        first.append((x // 8388608 - 128) / 64)
    problem = Problem("fwd fp64 b1 h1 d3 1 w1")
    assert problem.data("query").ravel().tolist() == first
    assert np.abs(problem.data("key")).max() <= 2
