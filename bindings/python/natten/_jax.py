# SPDX-License-Identifier: MIT
"""The operations on JAX arrays, on the CPU: under jax.jit, jax.grad and eagerly.

Each is a callback that JAX makes from compiled code with NumPy arrays, and a custom_vjp
whose backward pass is another one.  This module is imported when the first array of JAX
comes in, so JAX is there.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from . import _functional as arrays

__all__ = ["av", "forward", "full_like", "joined", "merge", "qk"]


def _accumulator(dtype):
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _hashable(params):
    """JAX keeps static arguments in dictionaries."""
    return arrays.Params(
        *[
            tuple(int(x) for x in v) if hasattr(v, "__len__") and not isinstance(v, str)
            else v
            for v in params
        ]
    )


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
    q, v = inputs[0], inputs[2]
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

    def compute(q, k, v, bias, ak, av, out, lse, grad_out, grad_lse):
        return tuple(
            arrays._backward(
                params, q, k, v, grad_out, ak, av, bias, out, lse, grad_lse
            )
        )

    return _call(compute, _structs(inputs), *inputs, *results, *gradients)


_forward.defvjp(_forward_save, _forward_gradient)


def forward(params, *inputs):
    """(out, lse)."""
    return _forward(_hashable(params), *inputs)


# ---- the unfused pair ----------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _qk(params, *inputs):
    q, extras = inputs[0], inputs[3]
    window = params.kernel_size
    if not isinstance(window, tuple):
        window = (window,) * params.rank
    slots = int(np.prod(window)) + (0 if extras is None else extras.shape[1])
    return _call(
        lambda *given: arrays._qk_arrays(params, *given),
        _struct((*q.shape[:-1], slots), q.dtype),
        *inputs,
    )


def _qk_gradient(params, inputs, grad_attn):
    def compute(q, k, bias, ak, grad_attn):
        return tuple(arrays._qk_backward_arrays(params, q, k, grad_attn, bias, ak))

    return _call(compute, _structs(inputs), *inputs, grad_attn)


_qk.defvjp(lambda params, *inputs: (_qk(params, *inputs), inputs), _qk_gradient)


def qk(params, *inputs):
    """attn."""
    return _qk(_hashable(params), *inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _av(params, *inputs):
    attn, value = inputs[:2]
    return _call(
        lambda *given: arrays._av_arrays(params, *given),
        _struct((*attn.shape[:-1], value.shape[-1]), attn.dtype),
        *inputs,
    )


def _av_gradient(params, inputs, grad_out):
    def compute(attn, value, av, grad_out):
        return tuple(arrays._av_backward_arrays(params, attn, value, grad_out, av))

    return _call(compute, _structs(inputs), *inputs, grad_out)


_av.defvjp(lambda params, *inputs: (_av(params, *inputs), inputs), _av_gradient)


def av(params, *inputs):
    """out."""
    return _av(_hashable(params), *inputs)


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

    def compute(outputs, lses, out, lse, grad_out, grad_lse):
        grads, grad_lses = arrays.merge_attentions_backward(
            outputs, lses, grad_out, out=out, lse=lse, grad_lse=grad_lse
        )
        return tuple(grads), tuple(grad_lses)

    return _call(compute, _structs(inputs), *inputs, *results, *gradients)


_merge.defvjp(_merge_save, _merge_gradient)


def merge(outputs, lse_tensors):
    """(out, lse)."""
    return _merge(tuple(outputs), tuple(lse_tensors))
