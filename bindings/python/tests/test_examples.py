# SPDX-License-Identifier: MIT
"""The examples in Python run, are right, and leave a picture that is one."""

import importlib
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def ran(name, folder, *arguments):
    """What an example's main returns; its picture has more than one colour."""
    import matplotlib.pyplot as plt

    folder = folder / "made" / "here"
    result = importlib.import_module(name).main(["--out", str(folder), *arguments])
    picture = plt.imread(folder / f"{name}.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 600
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 20
    plt.close("all")
    return result


def test_a_photograph_gains_5_db(tmp_path):
    pytest.importorskip("sklearn")
    before, after = ran("photograph", tmp_path)
    assert 20 < before < 21 and after > before + 5


def test_a_sequence_is_smoother_than_by_averages(tmp_path):
    noisy, averaged, ours = ran("sequence", tmp_path)
    assert ours < 0.8 * averaged < 0.4 * noisy


def test_frames_help_each_other(tmp_path):
    quality = ran("video", tmp_path)
    assert quality["each frame alone"] > quality["with noise"] + 6
    assert quality["past frames"] > quality["each frame alone"] + 1
    assert quality["past and future"] > quality["past frames"]


def test_digits_are_learnt_to_97_percent_in_two_minutes(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    accuracy, seconds = ran("digits", tmp_path)
    assert accuracy >= 0.97
    assert seconds < 120


def test_legacy_against_fused_is_a_table_and_two_plots(tmp_path, capsys):
    pytest.importorskip("torch")
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no Linux")
    results = ran("plots", tmp_path, "--sizes", "28")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("| 28 x 28 |")
    # 28 x 28 windows of 49 tokens of 64 numbers, keys and values: 18.4 MiB at least.
    assert results["legacy", 28]["bytes"] > 18 * 2**20
    assert results["fused", 28]["bytes"] < results["legacy", 28]["bytes"] / 2
