# SPDX-License-Identifier: MIT
"""What all tests start from: the library's defaults, and the same random numbers."""

import numpy as np
import pytest

import natten


@pytest.fixture
def random():
    return np.random.default_rng(20220414)


@pytest.fixture(autouse=True)
def defaults():
    """Threads and instruction sets are process-wide; no test leaves them changed."""
    yield
    natten.set_num_threads(0)
    natten.set_cpu_variant(None)
