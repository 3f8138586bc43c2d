# SPDX-License-Identifier: MIT
"""The programs of bench/ that want Python: rivals compute the same, what natten-bench
wrote becomes tables and plots."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


# ---- cpu_peers.py --------------------------------------------------------------------


@pytest.fixture
def peers():
    pytest.importorskip("torch")
    return importlib.import_module("cpu_peers")


@pytest.mark.parametrize("text", [
    "fwd fp32 b1 h1 d3 7 w7",
    "fwd fp32 b2 h3 d5 24 w6 e2",
    "fwd fp32 b2 h2 d4 12x10 w3x4 e2x1",
    "fwd fp32 b1 h2 d4 4x6x9 w3x3x2 e1x2x3",
])
@pytest.mark.parametrize("name", ["dense", "unfold"])
def test_rivals_compute_neighborhood_attention(peers, text, name, monkeypatch):
    import torch

    problem = peers.Problem(text)
    # So that unfold takes some heads at a time.
    monkeypatch.setattr(peers, "MOST_BYTES", 1)
    shape = (problem.batch, *problem.grid, problem.heads, problem.dim)
    tensors = [torch.randn(shape) for _ in range(4)]
    ours, theirs = (
        peers.Contestant(n, problem, tensors) for n in ("natten", name)
    )
    for which in "forward", "backward":
        for a, b in zip(getattr(ours, which)()[1], getattr(theirs, which)()[1]):
            assert a.shape == shape
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_rivals_that_differ_are_refused(peers):
    import torch

    x = torch.randn(5, 3)
    peers.must_agree([x, x], [x, x + 1e-6], "nothing")
    with pytest.raises(SystemExit, match="forward of P0 is .* away"):
        peers.must_agree([x, x], [x, x + 0.1], "forward of P0")
    with pytest.raises(SystemExit):
        peers.must_agree([x], [x + math.nan], "forward of P0")


def test_rivals_are_a_table(peers, capsys):
    import torch

    import natten

    threads = natten.get_num_threads(), torch.get_num_threads()
    try:
        found = peers.main(["P2", "--seconds", "0", "--threads", "1"])
    finally:
        natten.set_num_threads(threads[0])
        torch.set_num_threads(threads[1])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("| P")]
    assert len(rows) == 1 and rows[0].startswith("| P2, b1 h16 d32 14x14 w7x7 |")
    assert all(line.count("|") == 12 for line in lines if line.startswith("|"))
    assert len(found["P2"]) == 6 and min(found["P2"].values()) > 0


@pytest.mark.parametrize("arguments, sentence", [
    (["P9"], "P9 not in {P1, P2, P3, P4, P5, P6, P7}"),
    (["--threads", "0"], "--threads=0 not in [1, 256]"),
])
def test_what_is_no_label_or_number_is_refused(peers, arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        peers.main(arguments)
    assert stop.value.code == 2 and sentence in capsys.readouterr().err


# ---- plot_cpu.py ---------------------------------------------------------------------


def facts(texts, exponent, share=0.5):
    """What natten-bench writes, of calls that take tokens ^ exponent."""
    import plot_cpu

    results = [
        {"problem": text, "threads": threads, "share_of_peak": share,
         "median_seconds": math.prod(math.prod(s) for s in plot_cpu.sizes(text))
         ** exponent / threads}
        for text in texts for threads in (1, 2)
    ]
    return {"processor": "a processor", "variant": "avx2", "results": results}


def written(folder, name, content):
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


WINDOWS = [f"{op} fp32 b1 h2 d64 99x98 w{w}x{w}"
           for op in ("fwd", "bwd") for w in (3, 7, 11, 31, 63)]
GRIDS = [f"{op} fp32 b1 h2 d64 {n}x{n} w7x7" for op in ("fwd", "bwd")
         for n in (14, 28, 56, 512)]


def test_windows_and_grids_are_plots_with_slopes(tmp_path, capsys):
    plt = pytest.importorskip("matplotlib.pyplot")
    plot_cpu = importlib.import_module("plot_cpu")
    assert plot_cpu.sizes("bwd fp32 b1 h2 d64 99x98 w3x5 e2x2") == ([99, 98], [3, 5])
    slopes = plot_cpu.main([
        written(tmp_path, "windows.json", facts(WINDOWS, 1)),
        written(tmp_path, "grids.json", facts(GRIDS, 1.5)),
        "--out", str(tmp_path / "made" / "here"),
    ])
    assert "backward, 2 threads: time ~ tokens of the grid ^ 1.50" in (
        capsys.readouterr().out
    )
    assert len(slopes) == 8
    for (what, _), found in slopes.items():
        assert found == pytest.approx({"window": 1, "grid": 1.5}[what])
    picture = plt.imread(tmp_path / "made" / "here" / "cpu-speed.png")
    assert picture.shape[0] > 600 and picture.shape[1] > 900


def test_unknown_limits_are_no_plot(tmp_path):
    plot_cpu = importlib.import_module("plot_cpu")
    files = [written(tmp_path, name, facts(texts, 1, None))
             for name, texts in (("windows.json", WINDOWS), ("grids.json", GRIDS))]
    with pytest.raises(SystemExit, match="limits of avx2 are not known"):
        plot_cpu.main([*files, "--out", str(tmp_path)])


def test_the_suites_are_what_the_plots_read():
    plot_cpu = importlib.import_module("plot_cpu")
    for name, which, first, last in (("windows", 1, 3, 63), ("grids", 0, 14, 512)):
        lines = (BENCH / "suites" / f"{name}.txt").read_text().splitlines()
        edges = [plot_cpu.sizes(x)[which][-1] for x in lines if not x.startswith("#")]
        assert edges[0] == first and edges[-1] == last


# ---- cpu_table.py --------------------------------------------------------------------


def test_results_are_a_table_for_each_type(tmp_path, capsys):
    cpu_table = importlib.import_module("cpu_table")
    limits = {"avx2": {"fp32": 96.25, "fp64": 48}}
    content = {
        "processor": "a processor", "variant": "avx2", "version": "0.1.0",
        "build": "version 0.1.0\ncompiler gcc 12.2.0\ncuda no\n", "openblas": None,
        "arguments": ["--threads", "1,2", "fwd fp32"],
        "ceilings": [
            {"threads": n, "fma_gflops": limits, "l2_read_gbs": 80.04 * n,
             "memory_read_gbs": None} for n in (1, 2)
        ],
        "results": [
            {"label": label, "problem": f"{pass_} {type} b1 h4 d32 56x56 w7x7",
             "threads": n, "median_seconds": seconds / n, "gflops": 20 * n,
             "share_of_peak": 0.25, "ratio_to_gemm": None, "speedup": n,
             "ratio_to_fp32": 1 if type == "fp32" else 0.5,
             "times_loops": 7 if type == "fp32" else None, "times_upstream": 12.34}
            for label, pass_, seconds in (("P1", "fwd", 0.004), ("", "bwd", 2e-6))
            for type in ("fp32", "fp64") for n in (1, 2)
        ],
    }
    cpu_table.main([written(tmp_path, "cpu.json", content)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a processor; avx2 kernels; gcc 12.2.0; no OpenBLAS; ")
    assert lines[0].endswith("`natten-bench --threads 1,2 'fwd fp32'`:")
    assert "| 2 | 96.2 | 48.0 | 160.1 | - |" in lines
    single = lines.index(
        "| fp32 | 1 thread: median ms | GFLOP/s | peak | loops | upstream "
        "| 2 threads: median ms | GFLOP/s | peak | faster | loops | upstream |"
    )
    assert lines[single + 2] == (
        "| P1 forward | 4.00 | 20.0 | 0.25 | 7.0 | 12.3 "
        "| 2.00 | 40.0 | 0.25 | 2.00 | 7.0 | 12.3 |"
    )
    assert lines[single + 3].startswith("| b1 h4 d32 56x56 w7x7 backward | 0.0020 |")
    assert lines[single + 4] == ""
    assert lines[single + 5] == (
        "| fp64 | 1 thread: median ms | GFLOP/s | peak | fp32 | upstream "
        "| 2 threads: median ms | GFLOP/s | peak | faster | fp32 | upstream |"
    )
    assert lines[-1].split(" | ")[4] == "0.50"
