# SPDX-License-Identifier: MIT
"""Arrays of the host sent to a GPU, on machines without one; test_cuda.py has one."""

import numpy as np
import pytest

import natten

QUERY = np.random.default_rng(3).standard_normal((2, 5, 7, 2, 3)).astype(np.float32)


def test_the_cpu_has_a_name():
    out = natten.na2d(QUERY, QUERY, QUERY, 3, device="cpu")
    assert np.array_equal(out, natten.na2d(QUERY, QUERY, QUERY, 3))


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", ""])
def test_other_names_are_refused_with_the_list(name):
    with pytest.raises(ValueError, match='device="%s" is none of: cpu cuda' % name):
        natten.na2d(QUERY, QUERY, QUERY, 3, device=name)
    with pytest.raises(ValueError, match="is none of"):
        natten.na_backward(QUERY, QUERY, QUERY, QUERY, 3, device=name)


def test_a_number_is_no_name():
    with pytest.raises(TypeError, match="device: a name is wanted"):
        natten.na2d(QUERY, QUERY, QUERY, 3, device=0)


def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(RuntimeError, match="^natten_forward_host: "):
        natten.na2d(QUERY, QUERY, QUERY, 3, device="cuda:63")
    out, lse = natten.na2d(QUERY, QUERY, QUERY, 3, return_lse=True)
    with pytest.raises(RuntimeError, match="^natten_backward_host: "):
        natten.na_backward(
            QUERY, QUERY, QUERY, QUERY, 3, out=out, lse=lse, device="cuda:63"
        )


def test_tensors_of_torch_are_where_they_are():
    torch = pytest.importorskip("torch")
    query = torch.zeros(1, 5, 2, 3)
    with pytest.raises(ValueError, match="device: .* where they are"):
        natten.na1d(query, query, query, 3, device="cuda")
    with pytest.raises(ValueError, match="device: .* where they are"):
        natten.na_backward(query, query, query, query, 3, device="cuda")
