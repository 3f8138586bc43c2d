# SPDX-License-Identifier: MIT
"""What all tests start from: the library's defaults, and the same random numbers."""

import signal

import numpy as np
import pytest

import natten
from natten import capi

# A shell ignores Ctrl-C on behalf of what it starts in the background, and Python keeps
# to that; a test that presses it would then wait for a call of an hour.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def random():
    return np.random.default_rng(20220414)


@pytest.fixture(autouse=True)
def defaults():
    """Threads and instruction sets are process-wide; no test leaves them changed."""
    yield
    natten.set_num_threads(0)
    natten.set_cpu_variant(None)


@pytest.fixture
def backward_flags(monkeypatch):
    """The flags of each call of natten_backward() from now on."""
    flags = []

    def watched(params, *arrays):
        flags.append(params.flags)
        return backward(params, *arrays)

    backward = capi.natten_backward
    monkeypatch.setattr(capi, "natten_backward", watched)
    return flags


@pytest.fixture
def check_compiled():
    """A torch model compiled gives what it gives eagerly, gradients too."""
    torch = pytest.importorskip("torch")

    def check(model, compiled, x):
        results = []
        for run in (model, compiled):
            model.zero_grad()
            y = run(x)
            y.square().mean().backward()
            results.append((y, *(p.grad.clone() for p in model.parameters())))
        for eager, traced in zip(*results):
            torch.testing.assert_close(traced, eager)

    return check
