# SPDX-License-Identifier: MIT
"""The operations on JAX arrays: under jax.jit, jax.grad and eagerly.

Compiled programs call the library by XLA's foreign function interface, on the CPU and
on CUDA, with the arrays where they lie (xla.h is the other side); a custom_vjp makes a
gradient of each.  This module is imported when the first array of JAX comes in, so JAX
is there.
"""

import math
from functools import partial
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

import jax  # type: ignore[import-not-found, unused-ignore]
import jax.numpy as jnp  # type: ignore[import-not-found, unused-ignore]
import numpy as np

from . import _functional as arrays
from . import capi

__all__ = [
    "av", "av_backward", "backward", "forward", "joined", "merge",
    "merge_backward", "plain_forward", "qk", "qk_backward",
]

if not hasattr(jax, "ffi"):
    raise ImportError(f"natten needs JAX 0.5 or newer, and has found {jax.__version__}")

# Arrays of JAX, or its stand-ins for them while it traces; None where none is given.
_Array = Any
_Gradients = Tuple[_Array, ...]

_TARGET = "natten"
jax.ffi.register_ffi_target(_TARGET, capi.xla_target(False), platform="cpu")
jax.ffi.register_ffi_target(_TARGET, capi.xla_target(True), platform="CUDA")

# Operations of xla.h beyond those of natten.h.
_MERGE, _MERGE_BACKWARD = 16, 17


def _accumulator(dtype: Any) -> Any:
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _hashable(params: arrays.Params) -> arrays.Params:
    """JAX keeps static arguments in dictionaries."""
    return arrays.Params._make(
        tuple(v) or None if isinstance(v, list) else v for v in arrays.listed(params)
    )


def _check(
    compute: Callable[..., Any], params: Optional[arrays.Params],
    inputs: Sequence[_Array], bias: Optional[int] = None,
) -> None:
    """What is not legal is refused here, with NumPy's exception and sentence, before it
    is in a program that is compiled and run elsewhere: by the same call on a batch of
    nothing.  `bias` is the place of the input that has no batch.  Where the program
    will run is not known yet, so a GPU that was asked for is asked for there."""
    batched = [x for i, x in enumerate(inputs) if x is not None and i != bias]
    one_batch = len({x.shape[:1] for x in batched}) == 1

    def stand_in(place: int, x: _Array) -> Any:
        if x is None:
            return None
        shape = x.shape
        if one_batch and shape and place != bias:
            shape = (0, *shape[1:])
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        # One element that is repeated: inputs of several batches are refused by shape.
        return np.broadcast_to(np.zeros((), dtype), shape)

    stand_ins = [stand_in(i, x) for i, x in enumerate(inputs)]
    if params is None:
        compute(*stand_ins)
    else:
        backend = None if params.backend == "cuda" else params.backend
        compute(params._replace(backend=backend), *stand_ins)


def _struct(shape: Iterable[int], dtype: Any) -> Any:
    make: Any = jax.ShapeDtypeStruct
    return make(tuple(shape), dtype)


def _structs(inputs: Any) -> Any:
    """Gradients are as their inputs; None is nothing to JAX, as it is here."""
    return jax.tree.map(lambda x: _struct(x.shape, x.dtype), inputs)


def _target(
    params: Optional[arrays.Params], operation: int, given: int,
    results: Iterable[Any], inputs: Iterable[_Array],
) -> Tuple[_Array, ...]:
    """The library's results, a tuple, now or when the compiled program gets there."""
    if params is None:
        params = arrays.Params(1, 1)
    call = jax.ffi.ffi_call(_TARGET, tuple(results), vmap_method="sequential")
    return tuple(
        call(
            *inputs,
            call=np.array([operation, given], "int64"),
            params=np.frombuffer(capi.xla_params(params), "uint8"),
        )
    )


def _call(
    params: arrays.Params, operation: int, results: Iterable[Any],
    arguments: Sequence[_Array],
) -> Tuple[_Array, ...]:
    """The same for arguments in natten.h's order, None where one is not given."""
    given = sum(1 << i for i, x in enumerate(arguments) if x is not None)
    present = [jnp.asarray(x) for x in arguments if x is not None]
    return _target(params, operation, given, results, present)


def _gradients(
    params: arrays.Params, operation: int, inputs: Sequence[_Array],
    others: Sequence[_Array],
) -> _Gradients:
    """A gradient for each input; None for None."""
    if inputs[0].shape[0] == 0:
        # A batch of nothing: sums over the batch are not written.
        zeros: _Gradients = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), tuple(inputs)
        )
        return zeros
    wanted = [_struct(x.shape, x.dtype) for x in inputs if x is not None]
    found = iter(_call(params, operation, wanted, (*inputs, *others)))
    return tuple(None if x is None else next(found) for x in inputs)


def joined(pieces: Sequence[_Array]) -> _Array:
    return jnp.concatenate(pieces, axis=1)


# ---- fused ---------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward(params: arrays.Params, *inputs: _Array) -> Tuple[_Array, ...]:
    _check(partial(arrays._forward_arrays, want_lse=True), params, inputs, bias=3)
    q, _, v, *_ = inputs
    results = (
        _struct((*q.shape[:-1], v.shape[-1]), q.dtype),
        _struct(q.shape[:-1], _accumulator(q.dtype)),
    )
    return _call(params, capi.NATTEN_FORWARD, results, inputs)


def _forward_save(params: arrays.Params, *inputs: _Array) -> Any:
    results = _forward(params, *inputs)
    return results, (inputs, results)


def _forward_gradient(params: arrays.Params, saved: Any, gradients: Any) -> _Gradients:
    inputs, results = saved
    return _gradients(params, capi.NATTEN_BACKWARD, inputs, (*results, *gradients))


_forward.defvjp(_forward_save, _forward_gradient)


def forward(params: arrays.Params, *inputs: _Array) -> Tuple[_Array, ...]:
    """(out, lse)."""
    results: Tuple[_Array, ...] = _forward(_hashable(params), *inputs)
    return results


def plain_forward(params: arrays.Params, *inputs_and_want: Any) -> Tuple[_Array, ...]:
    """The same, for a gradient that is asked for by name."""
    return forward(params, *inputs_and_want[:-1])


def backward(params: arrays.Params, *arguments: _Array) -> _Gradients:
    """query to additional_values, out, lse, grad_out, grad_lse -> six gradients."""
    _check(arrays._backward_arrays, params, arguments, bias=3)
    return _gradients(params, capi.NATTEN_BACKWARD, arguments[:6], arguments[6:])


# ---- the unfused pair ----------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _qk(params: arrays.Params, *inputs: _Array) -> _Array:
    _check(arrays._qk_arrays, params, inputs, bias=2)
    q, _, _, extras = inputs
    slots = math.prod(params.kernel_size) + (0 if extras is None else extras.shape[1])
    results = [_struct((*q.shape[:-1], slots), q.dtype)]
    return _call(params, capi.NATTEN_QK, results, inputs)[0]


def _qk_gradient(params: arrays.Params, inputs: Any, grad_attn: _Array) -> _Gradients:
    return _gradients(params, capi.NATTEN_QK_BACKWARD, inputs, (grad_attn,))


_qk.defvjp(lambda params, *inputs: (_qk(params, *inputs), inputs), _qk_gradient)


def qk(params: arrays.Params, *inputs: _Array) -> _Array:
    """attn."""
    return _qk(_hashable(params), *inputs)


def qk_backward(params: arrays.Params, *arguments: _Array) -> _Gradients:
    """query, key, bias, additional_keys, grad_attn -> four gradients."""
    _check(arrays._qk_backward_arrays, params, arguments, bias=2)
    return _qk_gradient(params, arguments[:4], arguments[4])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _av(params: arrays.Params, *inputs: _Array) -> _Array:
    _check(arrays._av_arrays, params, inputs)
    attn, value, _ = inputs
    results = [_struct((*attn.shape[:-1], value.shape[-1]), attn.dtype)]
    return _call(params, capi.NATTEN_AV, results, inputs)[0]


def _av_gradient(params: arrays.Params, inputs: Any, grad_out: _Array) -> _Gradients:
    return _gradients(params, capi.NATTEN_AV_BACKWARD, inputs, (grad_out,))


_av.defvjp(lambda params, *inputs: (_av(params, *inputs), inputs), _av_gradient)


def av(params: arrays.Params, *inputs: _Array) -> _Array:
    """out."""
    return _av(_hashable(params), *inputs)


def av_backward(params: arrays.Params, *arguments: _Array) -> _Gradients:
    """attn, value, additional_values, grad_out -> three gradients."""
    _check(arrays._av_backward_arrays, params, arguments)
    return _av_gradient(params, arguments[:3], arguments[3])


# ---- merging -------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=())
def _merge(
    outputs: Tuple[_Array, ...], lses: Tuple[_Array, ...]
) -> Tuple[_Array, ...]:
    results = _structs((outputs[0], lses[0]))
    return _target(None, _MERGE, len(outputs), results, (*outputs, *lses))


def _merge_save(outputs: Tuple[_Array, ...], lses: Tuple[_Array, ...]) -> Any:
    results = _merge(outputs, lses)
    return results, ((outputs, lses), results)


def _merge_gradient(saved: Any, gradients: Any) -> Tuple[Any, Any]:
    (outputs, lses), results = saved
    count, inputs = len(outputs), (*outputs, *lses)
    everything = map(jnp.asarray, (*inputs, *results, *gradients))
    grads = _target(None, _MERGE_BACKWARD, count, _structs(inputs), everything)
    return grads[:count], grads[count:]


_merge.defvjp(_merge_save, _merge_gradient)


def merge(
    outputs: Iterable[_Array], lse_tensors: Iterable[_Array]
) -> Tuple[_Array, ...]:
    """(out, lse)."""
    outputs, lses = tuple(outputs), tuple(lse_tensors)

    def compute(*both: Any) -> None:
        arrays._merge_arrays(both[: len(outputs)], both[len(outputs) :])

    _check(compute, None, (*outputs, *lses))
    results: Tuple[_Array, ...] = _merge(outputs, lses)
    return results


def merge_backward(
    outputs: Iterable[_Array], lse_tensors: Iterable[_Array], out: _Array,
    lse: _Array, grad_out: _Array, grad_lse: _Array,
) -> Tuple[List[_Array], List[_Array]]:
    """A list of gradients for the outputs, and one for their lses."""
    if grad_lse is None:
        grad_lse = jnp.zeros(lse.shape, lse.dtype)
    inputs = tuple(outputs), tuple(lse_tensors)

    def compute(*flat: Any) -> None:
        found = iter(flat)
        lists = [[next(found) for _ in part] for part in inputs]
        arrays._merge_backward_arrays(*lists, *found)

    _check(compute, None, (*inputs[0], *inputs[1], out, lse, grad_out, grad_lse))
    grads, grad_lses = _merge_gradient((inputs, (out, lse)), (grad_out, grad_lse))
    return list(grads), list(grad_lses)
