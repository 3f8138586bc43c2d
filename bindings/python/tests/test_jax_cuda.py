# SPDX-License-Identifier: MIT
"""JAX on a GPU: compiled programs call the library on XLA's stream, with the arrays
where they lie."""

import os

import numpy as np
import pytest

import natten
import natten.capi

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
jax = pytest.importorskip("jax")
jnp = jax.numpy
try:
    GPU = jax.devices("cuda")[0]
except RuntimeError:
    pytest.skip("no GPU for JAX", allow_module_level=True)
if natten.capi.natten_device_count() == 0:
    pytest.skip("this build has no CUDA kernels", allow_module_level=True)

OPTIONS = dict(kernel_size=(5, 3), dilation=(1, 2), is_causal=(False, True))
# Largest errors over the largest value: a few units in the last place of each type.
CLOSE = {"float32": 1e-5, "bfloat16": 0.02}


@pytest.fixture(params=CLOSE)
def inputs(request, random):
    shapes = [(2, 13, 11, 4, 32)] + 2 * [(2, 13, 11, 2, 32)]
    arrays = [jnp.asarray(random.normal(size=s), request.param) for s in shapes]
    arrays.append(jnp.asarray(random.normal(size=(4, 9, 5)), "float32"))
    return [jax.device_put(x, GPU) for x in arrays]


def fused(q, k, v, bias, **backend):
    return natten.na2d(q, k, v, bias=bias, return_lse=True, **OPTIONS, **backend)


def loss(*inputs):
    out, lse = fused(*inputs)
    return (out.astype("float32") ** 2).sum() + jnp.sin(lse).sum()


def assert_close(got, expected, dtype):
    for a, b in zip(got, expected):
        assert a.devices() == {GPU}
        a, b = (np.asarray(x).astype("float64") for x in (a, b))
        assert np.abs(a - b).max() <= CLOSE[dtype] * np.abs(b).max()


def exact(inputs):
    return [np.asarray(x).astype("float64") for x in inputs]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_forward(inputs, wrap):
    assert_close(wrap(fused)(*inputs), fused(*exact(inputs)), inputs[0].dtype.name)


def test_a_backend_by_name(inputs):
    for a, b in zip(fused(*inputs, backend="cuda"), fused(*inputs)):
        assert (a == b).all()


def test_gradients_within_a_longer_program(inputs):
    q, k, v, bias = exact(inputs)
    out, lse = fused(q, k, v, bias)
    expected = natten.na_backward(
        q, k, v, 2 * out, bias=bias, out=out, lse=lse, grad_lse=np.cos(lse), **OPTIONS
    )
    expected = [x for x in expected if x is not None]
    got = jax.jit(jax.grad(loss, argnums=range(4)))(*inputs)
    assert len(expected) == len(got)
    assert_close(got, expected, inputs[0].dtype.name)
    again = jax.jit(jax.grad(loss, argnums=range(4)))(*inputs)
    assert all((a == b).all() for a, b in zip(got, again))
