# SPDX-License-Identifier: MIT
"""CPU tensors of torch: in without copies, out as tensors, and torch not needed."""

import numpy as np
import pytest

import natten

torch = pytest.importorskip("torch")


@pytest.fixture
def arrays(random):
    return [random.normal(size=(2, 5, 7, 3, 4)) for _ in range(3)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_in_tensors_out(arrays, dtype):
    tensors = [torch.from_numpy(a).to(getattr(torch, dtype)) for a in arrays]
    out, lse = natten.na2d(*tensors, 3, return_lse=True)
    assert isinstance(out, torch.Tensor) and isinstance(lse, torch.Tensor)
    assert out.dtype == tensors[0].dtype and out.shape == tensors[0].shape
    assert lse.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    # The same bits as from NumPy, where NumPy has the type.
    if dtype != "bfloat16":
        expected = natten.na2d(*(t.numpy() for t in tensors), 3)
        assert (out.numpy() == expected).all()
    gradients = natten.na_backward(*tensors, out, 3, lse=lse, out=out)
    assert all(isinstance(g, torch.Tensor) for g in gradients[:3])
    merged = natten.merge_attentions([out, out], [lse, lse])
    assert all(isinstance(m, torch.Tensor) for m in merged)


def test_strided_tensors_are_not_copied(arrays):
    qkv = torch.from_numpy(np.stack(arrays, axis=3))
    views = [qkv[:, :, :, i] for i in range(3)]
    assert not views[0].is_contiguous()
    assert (natten.na2d(*views, 3).numpy() == natten.na2d(*arrays, 3)).all()


def test_numpy_and_torch_mix_and_query_decides(arrays):
    q, k, v = arrays
    assert isinstance(natten.na2d(torch.from_numpy(q), k, v, 3), torch.Tensor)
    assert type(natten.na2d(q, torch.from_numpy(k), v, 3)) is np.ndarray


def test_a_tensor_that_wants_a_gradient_is_not_lent_to_numpys_function(arrays):
    q, k, v = (torch.from_numpy(a) for a in arrays)
    with pytest.raises((BufferError, RuntimeError), match="^key: .*detach"):
        natten.na2d(q.numpy(), k.requires_grad_(), v, 3)


def test_integer_tensors_are_refused_by_name(arrays):
    q, k, v = (torch.from_numpy(a) for a in arrays)
    with pytest.raises(TypeError, match="^value: elements of type torch.int64"):
        natten.na2d(q, k, v.long(), 3)
