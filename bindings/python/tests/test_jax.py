# SPDX-License-Identifier: MIT
"""JAX on the CPU: the same bits as NumPy and torch, under jit, with gradients."""

import numpy as np
import pytest

import natten

jax = pytest.importorskip("jax")
jnp = jax.numpy

OPTIONS = dict(kernel_size=(3, 4), dilation=(1, 2), is_causal=(False, True), scale=0.3)


@pytest.fixture
def inputs(random):
    shapes = [(2, 5, 9, 4, 3), (2, 5, 9, 2, 3), (2, 5, 9, 2, 5), (4, 5, 7),
              (2, 2, 2, 3), (2, 2, 2, 5)]
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def fused(q, k, v, bias, ak, av):
    return natten.na2d(
        q, k, v, bias=bias, additional_keys=ak, additional_values=av, return_lse=True,
        **OPTIONS,
    )


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_forward_has_the_bits_of_numpy(inputs, wrap):
    got = wrap(fused)(*map(jnp.asarray, inputs))
    for a, b in zip(got, fused(*inputs)):
        assert isinstance(a, jax.Array) and np.asarray(a).tobytes() == b.tobytes()


def test_gradients_have_the_bits_of_numpy_and_torch(inputs, random):
    shapes = [x.shape for x in fused(*inputs)]
    grad_out, grad_lse = (random.normal(size=s).astype("f4") for s in shapes)

    def loss(*x):
        out, lse = fused(*x)
        return (out * grad_out).sum() + (lse * grad_lse).sum()

    got = jax.jit(jax.grad(loss, argnums=range(6)))(*map(jnp.asarray, inputs))
    q, k, v, bias, ak, av = inputs
    expected = natten.na_backward(
        q, k, v, grad_out, bias=bias, additional_keys=ak, additional_values=av,
        grad_lse=grad_lse, **OPTIONS,
    )
    for a, b in zip(got, expected):
        assert np.asarray(a).tobytes() == b.tobytes()
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(x).requires_grad_() for x in inputs]
    torch.autograd.backward(fused(*tensors), [torch.from_numpy(grad_out),
                                              torch.from_numpy(grad_lse)])
    for x, b in zip(tensors, expected):
        assert x.grad.numpy().tobytes() == b.tobytes()


def test_the_pair_is_the_fused_operation(inputs):
    q, k, v = map(jnp.asarray, inputs[:3])
    window = dict(kernel_size=3, dilation=(1, 2))

    def pair(q, k, v):
        attn = jax.nn.softmax(natten.na_qk(q, k, scale=0.3, **window))
        return natten.na_av(attn, v, **window)

    def whole(q, k, v):
        return natten.na2d(q, k, v, scale=0.3, **window)

    def gradients(f):
        return jax.grad(lambda *x: jnp.square(f(*x)).sum(), argnums=(0, 1, 2))(q, k, v)

    # Sums of up to 25 products of numbers of order 1 to 10, in fp32.
    np.testing.assert_allclose(pair(q, k, v), whole(q, k, v), atol=1e-5)
    for a, b in zip(gradients(pair), gradients(whole)):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_merging_and_its_gradient(random):
    outs = [jnp.asarray(random.normal(size=(1, 5, 2, 3)), "float32") for _ in range(2)]
    lses = [jnp.asarray(random.normal(size=(1, 5, 2)), "float32") for _ in range(2)]

    def plain(outs, lses):
        weights = jax.nn.softmax(jnp.stack(lses), axis=0)
        return (jnp.stack(outs) * weights[..., None]).sum(0)

    def ours(outs, lses):
        return natten.merge_attentions(outs, lses)[0]

    def gradient(f):
        return jax.grad(lambda *x: jnp.square(f(*x)).sum(), argnums=(0, 1))

    for f, g in ((ours, plain), (gradient(ours), gradient(plain))):
        pairs = zip(*(jax.tree.leaves(h(outs, lses)) for h in (f, g)))
        for a, b in pairs:
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_large_arrays_reach_the_callback(random):
    q = jnp.asarray(random.normal(size=(1, 96, 96, 4, 32)), "float32")
    f = jax.jit(jax.grad(lambda q: natten.na2d(q, q, q, 3).sum()))
    assert np.isfinite(np.asarray(f(q))).all()
