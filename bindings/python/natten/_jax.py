# SPDX-License-Identifier: MIT
"""The operations on JAX arrays, on the CPU: under jax.jit, jax.grad and eagerly.

Each is a callback that JAX makes from compiled code with NumPy arrays, and a custom_vjp
whose backward pass is another one.  This module is imported when the first array of JAX
comes in, so JAX is there.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from . import _functional as arrays
from . import capi

__all__ = [
    "av", "av_backward", "backward", "forward", "full_like", "joined", "merge",
    "merge_backward", "plain_forward", "qk", "qk_backward",
]


def _accumulator(dtype):
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _hashable(params):
    """JAX keeps static arguments in dictionaries."""
    return arrays.Params(
        *[tuple(v) or None if isinstance(v, list) else v for v in arrays.listed(params)]
    )


def _checked(params, operation, query, key, value=None, additional_keys=None):
    """What is not legal is refused here, as ValueError, before it is in a program that
    is compiled and run elsewhere.  Arrays of one element that is repeated stand in."""
    stand_ins = [
        None if x is None else np.broadcast_to(np.zeros((), x.dtype), x.shape)
        for x in (query, key, value, additional_keys)
    ]
    capi.natten_supported(params, operation, *stand_ins)


def _struct(shape, dtype):
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def _structs(inputs):
    """Gradients are as their inputs; None is nothing to JAX, as it is here."""
    return jax.tree.map(lambda x: _struct(x.shape, x.dtype), inputs)


def _call(compute, results, *inputs):
    """`compute` on NumPy arrays, now or when the compiled program gets there."""
    def callback(*given):
        return compute(*jax.tree.map(np.asarray, given))

    return jax.pure_callback(callback, results, *inputs, vmap_method="sequential")


def full_like(example, shape, value, lse=False):
    dtype = _accumulator(example.dtype) if lse else example.dtype
    return jnp.full(shape, value, dtype)


def joined(pieces):
    return jnp.concatenate(pieces, axis=1)


# ---- fused ---------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward(params, *inputs):
    q, k, v, _, ak, _ = inputs
    _checked(params, capi.NATTEN_FORWARD, q, k, v, ak)
    results = (
        _struct((*q.shape[:-1], v.shape[-1]), q.dtype),
        _struct(q.shape[:-1], _accumulator(q.dtype)),
    )
    return _call(
        lambda *given: arrays._forward_arrays(params, *given, True), results, *inputs
    )


def _forward_save(params, *inputs):
    results = _forward(params, *inputs)
    return results, (inputs, results)


def _forward_gradient(params, saved, gradients):
    inputs, results = saved
    return _backward(params, *inputs, *results, *gradients)


def _backward(params, *arguments):
    def compute(*given):
        return tuple(arrays._backward_arrays(params, *given))

    return _call(compute, _structs(arguments[:6]), *arguments)


_forward.defvjp(_forward_save, _forward_gradient)


def forward(params, *inputs):
    """(out, lse)."""
    return _forward(_hashable(params), *inputs)


def plain_forward(params, *inputs_and_want):
    """The same, for a gradient that is asked for by name."""
    return forward(params, *inputs_and_want[:-1])


def backward(params, *arguments):
    """query to additional_values, out, lse, grad_out, grad_lse -> six gradients."""
    q, k, v, _, ak, _ = arguments[:6]
    params = _hashable(params)
    _checked(params, capi.NATTEN_BACKWARD, q, k, v, ak)
    return _backward(params, *arguments)


# ---- the unfused pair ----------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _qk(params, *inputs):
    q, k, _, extras = inputs
    _checked(params, capi.NATTEN_QK, q, k, None, extras)
    slots = math.prod(params.kernel_size) + (0 if extras is None else extras.shape[1])
    return _call(
        lambda *given: arrays._qk_arrays(params, *given),
        _struct((*q.shape[:-1], slots), q.dtype),
        *inputs,
    )


def _qk_gradient(params, inputs, grad_attn):
    def compute(*given):
        return tuple(arrays._qk_backward_arrays(params, *given))

    return _call(compute, _structs(inputs), *inputs, grad_attn)


_qk.defvjp(lambda params, *inputs: (_qk(params, *inputs), inputs), _qk_gradient)


def qk(params, *inputs):
    """attn."""
    return _qk(_hashable(params), *inputs)


def qk_backward(params, *arguments):
    """query, key, bias, additional_keys, grad_attn -> four gradients."""
    params = _hashable(params)
    q, k, _, ak, _ = arguments
    _checked(params, capi.NATTEN_QK_BACKWARD, q, k, None, ak)
    return _qk_gradient(params, arguments[:4], arguments[4])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _av(params, *inputs):
    attn, value, _ = inputs
    _checked(params, capi.NATTEN_AV, attn, value)
    return _call(
        lambda *given: arrays._av_arrays(params, *given),
        _struct((*attn.shape[:-1], value.shape[-1]), attn.dtype),
        *inputs,
    )


def _av_gradient(params, inputs, grad_out):
    def compute(*given):
        return tuple(arrays._av_backward_arrays(params, *given))

    return _call(compute, _structs(inputs), *inputs, grad_out)


_av.defvjp(lambda params, *inputs: (_av(params, *inputs), inputs), _av_gradient)


def av(params, *inputs):
    """out."""
    return _av(_hashable(params), *inputs)


def av_backward(params, *arguments):
    """attn, value, additional_values, grad_out -> three gradients."""
    params = _hashable(params)
    _checked(params, capi.NATTEN_AV_BACKWARD, *arguments[:2])
    return _av_gradient(params, arguments[:3], arguments[3])


# ---- merging -------------------------------------------------------------------------


@jax.custom_vjp
def _merge(outputs, lses):
    results = _structs((outputs[0], lses[0]))
    return _call(arrays._merge_arrays, results, outputs, lses)


def _merge_save(outputs, lses):
    results = _merge(outputs, lses)
    return results, ((outputs, lses), results)


def _merge_gradient(saved, gradients):
    inputs, results = saved

    def compute(*given):
        grads, grad_lses = arrays._merge_backward_arrays(*given)
        return tuple(grads), tuple(grad_lses)

    return _call(compute, _structs(inputs), *inputs, *results, *gradients)


_merge.defvjp(_merge_save, _merge_gradient)


def merge(outputs, lse_tensors):
    """(out, lse)."""
    return _merge(tuple(outputs), tuple(lse_tensors))


def merge_backward(outputs, lse_tensors, out, lse, grad_out, grad_lse):
    """A list of gradients for the outputs, and one for their lses."""
    inputs = tuple(outputs), tuple(lse_tensors)
    grads = _merge_gradient((inputs, (out, lse)), (grad_out, grad_lse))
    return tuple(map(list, grads))
