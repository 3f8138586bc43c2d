# SPDX-License-Identifier: MIT
"""JAX on the CPU: the same bits as NumPy and torch, under jit, with gradients."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

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


def test_gradients_by_name_are_arrays_of_jax(inputs, random):
    q, k, v, bias, ak, av = inputs
    grad = random.normal(size=(*q.shape[:-1], v.shape[-1])).astype("f4")

    def named(q, k, v):
        return natten.na_backward(q, k, v, grad, 3, bias=None)

    got, expected = jax.jit(named)(*map(jnp.asarray, (q, k, v))), named(q, k, v)
    assert isinstance(got.grad_key, jax.Array) and got.grad_bias is None
    for a, b in zip(got[:3], expected):
        assert np.asarray(a).tobytes() == b.tobytes()
    attn = natten.na_qk(q, k, 3)
    for f, given in (
        (natten.na_qk_backward, (q, k, attn)), (natten.na_av_backward, (attn, v, grad)),
    ):
        pair = f(*map(jnp.asarray, given), 3), f(*given, 3)
        for a, b in zip(*pair):
            assert a is b is None or np.asarray(a).tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_have_the_bits_of_numpy(inputs, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    given = [x if x.ndim == 3 else x.astype(dtype) for x in inputs]
    for a, b in zip(fused(*map(jnp.asarray, given)), fused(*given)):
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == b.tobytes()


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_is_illegal_is_refused_before_it_is_compiled(wrap):
    q = jnp.zeros((1, 5, 2, 3))
    for function in (
        lambda q: natten.na1d(q, q, q, 6), lambda q: natten.na_qk(q, q, 6),
        lambda q: natten.na_backward(q, q, q, q, 6),
    ):
        with pytest.raises(ValueError, match=r"kernel_size\[length\]=6"):
            wrap(function)(q)
    with pytest.raises(TypeError, match="an integer is wanted, not float"):
        natten.na1d(q, q, q, 3.5)


LARGE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, natten, numpy as np

q = jnp.asarray(np.random.default_rng(1).random((1, 362, 362, 4, 32), "f4"))
assert q.nbytes > 2**26 - 2**16

def loss(q):
    # Products, so that compiled code makes the arrays that the library reads.
    return jnp.square(natten.na2d(q * 2, q, q, 2)).sum()

value, gradient = jax.jit(jax.value_and_grad(loss))(q)
q = np.asarray(q)
expected = natten.na2d(q * 2, q, q, 2)
np.testing.assert_allclose(value, np.square(expected).sum(dtype="f8"), rtol=1e-4)
g = natten.na_backward(q * 2, q, q, expected * 2, 2)
total = g.grad_query * 2 + g.grad_key + g.grad_value
np.testing.assert_allclose(gradient, total, rtol=1e-5, atol=1e-5)
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_arrays_of_64_mib_on_one_cpu_under_jit_and_grad():
    # One CPU is one thread of XLA's, which a callback into Python would wait for.
    result = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=300
    )
    assert result.stdout == "right\n", result.stderr


def test_vmap_is_a_loop_over_slices(random):
    q = jnp.asarray(random.normal(size=(3, 1, 5, 2, 4)), "float32")

    def loss(q):
        return jnp.square(natten.na1d(q, q, q, 3)).sum()

    got = jax.vmap(jax.grad(loss))(q)
    expected = jnp.stack([jax.grad(loss)(x) for x in q])
    np.testing.assert_array_equal(got, expected)


def test_a_batch_of_nothing_has_a_gradient_of_zero_for_the_bias(inputs):
    given = [jnp.asarray(x if x.ndim == 3 else x[:0]) for x in inputs]
    grads = jax.grad(lambda *x: fused(*x)[0].sum(), argnums=range(6))(*given)
    assert grads[3].shape == (4, 5, 7) and not grads[3].any()


def illegal():
    """A call of each operation that no check of shapes alone would refuse."""
    q, bias = np.zeros((2, 5, 2, 3), "f4"), np.zeros((2, 5), "f4")
    half, few = q.astype("f2"), np.zeros((1, 4, 2, 3), "f4")
    lse = np.zeros((2, 5, 2), "f4")
    attn = natten.na_qk(q, q, 3)
    return {
        "bias's type": lambda to: natten.na1d(
            to(half), to(half), to(half), 3, bias=to(bias.astype("f2"))
        ),
        "bias's shape": lambda to: natten.na1d(
            to(q), to(q), to(q), 3, bias=to(bias[:, 1:])
        ),
        "no values of stride": lambda to: natten.na1d(to(q), to(q), to(q), 3, []),
        "a set of strides": lambda to: natten.na1d(to(q), to(q), to(q), 3, {1}),
        "a complex scale": lambda to: natten.na1d(to(q), to(q), to(q), 3, scale=1j),
        "a backend's number": lambda to: natten.na1d(to(q), to(q), to(q), 3, backend=3),
        "a batch": lambda to: natten.na1d(to(q), to(q[:1]), to(q), 3),
        "no axes": lambda to: natten.na1d(to(q), to(q[0, 0, 0, 0]), to(q), 3),
        "an integer": lambda to: natten.na1d(to(q), to(q), to(q.astype("i4")), 3),
        "additional_values alone": lambda to: natten.na1d(
            to(q), to(q), to(q), 3, additional_values=to(q)
        ),
        "grad_out": lambda to: natten.na_backward(
            to(q), to(q), to(q), to(q[..., 1:]), 3, out=to(q), lse=to(lse)
        ),
        "bias of qk": lambda to: natten.na_qk(to(q), to(q), 3, bias=to(bias[:1])),
        "grad_attn": lambda to: natten.na_qk_backward(
            to(q), to(q), to(attn[..., 1:]), 3
        ),
        "attn": lambda to: natten.na_av(to(attn[..., 1:]), to(q), 3),
        "grad_out of av": lambda to: natten.na_av_backward(to(attn), to(q), to(few), 3),
        "lses": lambda to: natten.merge_attentions([to(q), to(q)], [to(lse)]),
        "an lse": lambda to: natten.merge_attentions([to(q)], [to(lse[:, 1:])]),
        "grad_out of merging": lambda to: natten.merge_attentions_backward(
            [to(q)], [to(lse)], to(few), out=to(q), lse=to(lse)
        ),
    }


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", illegal())
def test_errors_are_those_of_numpy_when_the_call_is_traced(name, wrap):
    call = illegal()[name]
    with pytest.raises((ValueError, TypeError)) as numpys:
        call(np.asarray)
    with pytest.raises((ValueError, TypeError)) as ours:
        wrap(lambda: call(jnp.asarray))()
    assert ours.type is numpys.type and str(ours.value) == str(numpys.value)


def test_a_gpu_is_asked_for_where_the_program_runs():
    q = jnp.zeros((1, 5, 2, 3))

    def on_a_gpu(q):
        return natten.na1d(q, q, q, 3, backend="cuda")

    assert jax.eval_shape(on_a_gpu, q).shape == q.shape
    with pytest.raises(RuntimeError, match="backend=3 .cuda."):
        jax.block_until_ready(on_a_gpu(jax.device_put(q, jax.devices("cpu")[0])))


# Ours and XLA's names for what the frame of a call is made of.
STRUCTS = {
    "xla_extension": ("XLA_FFI_Extension_Base", "struct_size type next"),
    "xla_version": (
        "XLA_FFI_Api_Version", "struct_size extensions:extension_start "
        "major:major_version minor:minor_version",
    ),
    "xla_metadata": (
        "XLA_FFI_Metadata", "struct_size version:api_version traits",
    ),
    "xla_metadata_extension": (
        "XLA_FFI_Metadata_Extension", "base:extension_base metadata",
    ),
    "xla_buffer": ("XLA_FFI_Buffer", "struct_size dtype data rank dims"),
    "xla_span": ("XLA_FFI_ByteSpan", "text:ptr length:len"),
    "xla_array": ("XLA_FFI_Array", "dtype size data"),
    "xla_buffers": ("XLA_FFI_Args", "struct_size size types items:args"),
    "xla_attributes": ("XLA_FFI_Attrs", "struct_size size types names values:attrs"),
    "xla_error_arguments": (
        "XLA_FFI_Error_Create_Args", "struct_size message code:errc",
    ),
    "xla_stream_arguments": (
        "XLA_FFI_Stream_Get_Args", "struct_size context:ctx stream",
    ),
    "xla_device_arguments": (
        "XLA_FFI_DeviceOrdinal_Get_Args",
        "struct_size context:ctx ordinal:device_ordinal",
    ),
    "xla_api": (
        "XLA_FFI_Api", "struct_size version:api_version "
        "error_create:XLA_FFI_Error_Create stream_get:XLA_FFI_Stream_Get "
        "device_get:XLA_FFI_DeviceOrdinal_Get",
    ),
    "xla_frame": (
        "XLA_FFI_CallFrame", "struct_size extensions:extension_start api context:ctx "
        "stage arguments:args results:rets attributes:attrs",
    ),
}
CONSTANTS = {
    "XLA_VERSION_MAJOR": "XLA_FFI_API_MAJOR",
    "XLA_EXTENSION_METADATA": "XLA_FFI_Extension_Metadata",
    "XLA_BUFFER": "XLA_FFI_ArgType_BUFFER",
    "XLA_ATTRIBUTE_ARRAY": "XLA_FFI_AttrType_ARRAY",
    "XLA_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "XLA_INTERNAL": "XLA_FFI_Error_Code_INTERNAL",
    **{f"XLA_{t}": f"XLA_FFI_DataType_{t}" for t in ("F16", "F32", "F64", "BF16")},
}


def test_the_call_frame_is_that_of_the_jax_at_hand(tmp_path):
    source = Path(__file__).resolve().parents[3]
    python = sysconfig.get_path("include")
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]) or not (Path(python) / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")
    lines = ["#include <xla/ffi/api/c_api.h>", '#include "xla.h"']
    for ours, (theirs, fields) in STRUCTS.items():
        for field in fields.split():
            mine, _, its = field.partition(":")
            lines.append(
                f"_Static_assert(offsetof({ours}, {mine}) == "
                f'offsetof({theirs}, {its or mine}), "{ours}.{mine}");'
            )
    for ours, theirs in CONSTANTS.items():
        lines.append(f'_Static_assert((int){ours} == (int){theirs}, "{ours}");')
    (tmp_path / "abi.c").write_text("\n".join(lines) + "\n")
    folders = [jax.ffi.include_dir(), python, source / "bindings" / "python",
               source / "core" / "include"]
    result = subprocess.run(
        [*compiler, "-std=gnu11", "-fsyntax-only", *(f"-I{x}" for x in folders),
         str(tmp_path / "abi.c")],
        capture_output=True, text=True,
    )
    assert result.returncode == 0, result.stderr
