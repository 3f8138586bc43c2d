# SPDX-License-Identifier: MIT
"""The operations as operators of torch: autograd, torch.compile, autocast, vmap.

From torch 2.4 on they are ``torch.ops.natten.*``, with shapes for tracing and with
gradients; before, the same functions make an ``autograd.Function``.  This module is
imported when the first tensor comes in, so torch is there.

Every operator is one row: its schema, what computes it (from ``_functional``, on
detached tensors), what shapes come out, and its gradient.  Tensors of a schema that are
optional travel as None; gradients that do not exist as tensors without elements,
because a schema knows no optional results.  The parameters of a call follow the
tensors, in the order of ``Params``.

Length: the rows are one table, and what reads it must serve two generations of torch.
"""

import math
from functools import partial
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor  # type: ignore[import-not-found, unused-ignore]
from torch.autograd import (  # type: ignore[import-not-found, unused-ignore]
    forward_ad,
)

from . import _functional as arrays

__all__ = [
    "av", "av_backward", "backward", "forward", "joined", "merge",
    "merge_backward", "plain_forward", "qk", "qk_backward",
]

_Maybe = Optional[Tensor]
_Tensors = Sequence[Tensor]
_Maybes = Sequence[_Maybe]
_Shape = Tuple[int, ...]

_REGISTERED = hasattr(torch.library, "custom_op")

_PARAMS = (
    "int rank, SymInt[] kernel_size, SymInt[] stride, SymInt[] dilation, "
    "SymInt[] is_causal, float? scale, SymInt[] grid_length, SymInt[] query_begin, "
    "SymInt[] key_begin, str? backend, int flags"
)
_PARAM_COUNT = 11


# ---- parameters ----------------------------------------------------------------------


def _flat(params: arrays.Params) -> List[Any]:
    """Params as arguments of an operator."""
    return list(arrays.listed(params))


def _params(flat: Iterable[Any]) -> arrays.Params:
    """The reverse."""
    return arrays.Params._make(None if v == [] or v == () else v for v in flat)


# ---- tensors -------------------------------------------------------------------------


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _tensor(array: Any) -> Any:
    """A tensor from whatever shares a call with tensors."""
    if array is None or isinstance(array, torch.Tensor):
        return array
    return torch.utils.dlpack.from_dlpack(array)


def _autocast_dtype(device: str) -> Optional[torch.dtype]:
    """What autocast computes in on a device, or None where it is off."""
    if device not in ("cpu", "cuda"):
        return None
    if _REGISTERED:
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
    elif device == "cpu" and torch.is_autocast_cpu_enabled():
        return torch.get_autocast_cpu_dtype()
    elif device == "cuda" and torch.is_autocast_enabled():
        return torch.get_autocast_gpu_dtype()
    return None


def _cast(
    storage: Iterable[Any], accumulator: Iterable[Any] = ()
) -> Tuple[List[Any], List[Any]]:
    """All tensors of a call as autocast wants them; bias in the accumulator's type."""
    storage = [_tensor(x) for x in storage]
    accumulator = [_tensor(x) for x in accumulator]
    dtype = _autocast_dtype(storage[0].device.type)
    if dtype is None or storage[0].dtype == torch.float64:
        return storage, accumulator
    return (
        [None if x is None else x.to(dtype) for x in storage],
        [None if x is None else x.to(torch.float32) for x in accumulator],
    )


def _detached(tensors: _Maybes) -> List[Any]:
    return [None if x is None else x.detach() for x in tensors]


def _or_empty(gradients: _Maybes, like: Tensor) -> Tuple[Tensor, ...]:
    """Absent gradients as tensors without elements."""
    return tuple(like.new_empty(0) if g is None else g for g in gradients)


def _shaped(x: _Maybe, like: Tensor) -> Tensor:
    return like.new_empty(0) if x is None else x.new_empty(x.shape)


def _given(gradients: _Tensors, inputs: _Maybes) -> List[_Maybe]:
    """The reverse of _or_empty."""
    return [None if x is None else g for g, x in zip(gradients, inputs)]


def joined(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(tensors), dim=1)


_Function = Callable[..., Any]

# ---- operators -----------------------------------------------------------------------


def _refuse(ctx: Any, *gradients: Any) -> Any:
    raise NotImplementedError("natten: gradients of gradients are not implemented")


_unpack_dual: Any = forward_ad.unpack_dual  # has no types


def _has_tangent(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_has_tangent, x))
    if not torch.is_tensor(x):
        return False
    try:
        return _unpack_dual(x).tangent is not None
    except RuntimeError:
        return False  # batched by vmap, which has no rule for this: _each asks slices


def _refuse_tangents(values: Iterable[Any]) -> None:
    if any(map(_has_tangent, values)):
        raise NotImplementedError(
            "natten: forward-mode derivatives (torch.func.jvp, jacfwd, forward_ad) "
            "are not implemented; those of backward are"
        )


def _without_tangents(operator: _Function) -> _Function:
    """The operator, for tensors that have no tangents: torch drops those of a custom
    operator where nothing wants a gradient, and derivatives would be 0 in silence."""

    def call(*values: Any) -> Any:
        # Negative outside of forward mode.
        if forward_ad._current_level >= 0:
            _refuse_tangents(values)
        return operator(*values)

    return call


def _save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def _each(
    info: Any, in_dims: Any, *args: Any, operator: Callable[..., Any]
) -> Tuple[Any, Any]:
    """vmap: one call per slice, and the results side by side."""
    def at(x: Any, dim: Any, i: int) -> Any:
        if isinstance(dim, (list, tuple)) and isinstance(x, (list, tuple)):
            return [at(y, d, i) for y, d in zip(x, dim)]
        return x.select(dim, i) if isinstance(dim, int) and torch.is_tensor(x) else x

    results = [
        operator(*(at(x, dim, i) for x, dim in zip(args, in_dims)))
        for i in range(info.batch_size)
    ]
    if torch.is_tensor(results[0]):
        return torch.stack(results), 0
    stacked = [torch.stack(parts) for parts in zip(*results)]
    kind = type(results[0])
    return kind(stacked), kind([0] * len(stacked))


def _registered(
    name: str, schema: str, compute: _Function, fake: _Function, save: _Function,
    gradient: _Function,
) -> Any:
    operator = torch.library.custom_op(
        f"natten::{name}", compute, mutates_args=(), schema=schema
    )
    operator.register_fake(fake)
    operator.register_autograd(gradient, setup_context=save)
    call = _without_tangents(operator)
    if hasattr(operator, "register_vmap"):
        operator.register_vmap(partial(_each, operator=call))
    return call


def _function(
    name: str, schema: str, compute: _Function, fake: _Function, save: _Function,
    gradient: _Function,
) -> Any:
    """The same for a torch that knows no custom operators.

    autograd.Function looks for tensors among its arguments but not inside lists, so
    lists are spread out on the way in and gathered within.
    """
    def gather(sizes: Sequence[Optional[int]], flat: Iterable[Any]) -> List[Any]:
        left = iter(flat)
        return [
            next(left) if n is None else [next(left) for _ in range(n)] for n in sizes
        ]

    def spread(values: Sequence[Any]) -> Tuple[List[Optional[int]], List[Any]]:
        tensors = [
            isinstance(v, (list, tuple)) and any(map(torch.is_tensor, v))
            for v in values
        ]
        sizes = [len(v) if t else None for v, t in zip(values, tensors)]
        flat: List[Any] = []
        for value, is_list in zip(values, tensors):
            flat.extend(value if is_list else [value])
        return sizes, flat

    class Function(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(ctx: Any, sizes: Any, *flat: Any) -> Any:
            inputs = gather(sizes, flat)
            output = compute(*inputs)
            ctx.sizes = sizes
            save(ctx, inputs, output)
            return tuple(output) if isinstance(output, list) else output

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            results = gradient(ctx, *gradients)
            flat: List[Any] = []
            for size, result in zip(ctx.sizes, results):
                flat.extend([result] if size is None else result)
            return (None, *flat)

    Function.__name__ = f"natten_{name}"

    def operator(*values: Any) -> Any:
        sizes, flat = spread(values)
        return Function.apply(sizes, *flat)

    return _without_tangents(operator)


_operator = _registered if _REGISTERED else _function


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: _Maybe, ak: _Maybe, av: _Maybe, *flat: Any,
) -> Tuple[Tensor, Tensor]:
    q, k, v, bias, ak, av = _detached((q, k, v, bias, ak, av))
    return arrays._forward_arrays(_params(flat), q, k, v, bias, ak, av, True)


def _forward_fake(
    q: Tensor, k: Tensor, v: Tensor, bias: _Maybe, ak: _Maybe, av: _Maybe, *flat: Any,
) -> Tuple[Tensor, Tensor]:
    shape = tuple(q.shape[:-1])
    out = q.new_empty(shape + tuple(v.shape[-1:]))
    return out, q.new_empty(shape, dtype=_accumulator(q.dtype))


def _forward_save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.flat = inputs[6:]
    ctx.set_materialize_grads(False)


def _forward_gradient(ctx: Any, grad_out: _Maybe, grad_lse: _Maybe) -> Tuple[Any, ...]:
    *inputs, out, lse = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    gradients = ops.backward(*inputs, out, lse, grad_out, grad_lse, *ctx.flat)
    return (*_given(gradients, inputs), *[None] * _PARAM_COUNT)


def _backward(
    q: Tensor, k: Tensor, v: Tensor, bias: _Maybe, ak: _Maybe, av: _Maybe, out: Tensor,
    lse: Tensor, grad_out: Tensor, grad_lse: _Maybe, *flat: Any,
) -> Tuple[Tensor, ...]:
    tensors = _detached((q, k, v, bias, ak, av, out, lse, grad_out, grad_lse))
    return _or_empty(arrays._backward_arrays(_params(flat), *tensors), q)


def _backward_fake(
    q: Tensor, k: Tensor, v: Tensor, bias: _Maybe, ak: _Maybe, av: _Maybe, out: Tensor,
    lse: Tensor, grad_out: Tensor, grad_lse: _Maybe, *flat: Any,
) -> Tuple[Tensor, ...]:
    return tuple(_shaped(x, q) for x in (q, k, v, bias, ak, av))


# _functional orders the gradients query, key, value, bias, extras: as the inputs here.


def _qk(q: Tensor, k: Tensor, bias: _Maybe, ak: _Maybe, *flat: Any) -> Any:
    return arrays._qk_arrays(_params(flat), *_detached((q, k, bias, ak)))


def _qk_fake(q: Tensor, k: Tensor, bias: _Maybe, ak: _Maybe, *flat: Any) -> Tensor:
    slots = math.prod(flat[1]) + (0 if ak is None else ak.shape[1])
    return q.new_empty((*q.shape[:-1], slots))


def _qk_save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.flat = inputs[4:]


def _qk_gradient(ctx: Any, grad_attn: Tensor) -> Tuple[Any, ...]:
    inputs = ctx.saved_tensors
    gradients = ops.qk_backward(*inputs, grad_attn, *ctx.flat)
    return (*_given(gradients, inputs), *[None] * _PARAM_COUNT)


def _qk_backward(
    q: Tensor, k: Tensor, bias: _Maybe, ak: _Maybe, grad_attn: Tensor, *flat: Any,
) -> Tuple[Tensor, ...]:
    tensors = _detached((q, k, bias, ak, grad_attn))
    return _or_empty(arrays._qk_backward_arrays(_params(flat), *tensors), q)


def _qk_backward_fake(
    q: Tensor, k: Tensor, bias: _Maybe, ak: _Maybe, grad_attn: Tensor, *flat: Any,
) -> Tuple[Tensor, ...]:
    return tuple(_shaped(x, q) for x in (q, k, bias, ak))


def _av(attn: Tensor, v: Tensor, av: _Maybe, *flat: Any) -> Any:
    return arrays._av_arrays(_params(flat), *_detached((attn, v, av)))


def _av_fake(attn: Tensor, v: Tensor, av: _Maybe, *flat: Any) -> Tensor:
    return attn.new_empty((*attn.shape[:-1], v.shape[-1]))


def _av_save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.flat = inputs[3:]


def _av_gradient(ctx: Any, grad_out: Tensor) -> Tuple[Any, ...]:
    inputs = ctx.saved_tensors
    gradients = ops.av_backward(*inputs, grad_out, *ctx.flat)
    return (*_given(gradients, inputs), *[None] * _PARAM_COUNT)


def _av_backward(
    attn: Tensor, v: Tensor, av: _Maybe, grad_out: Tensor, *flat: Any,
) -> Tuple[Tensor, ...]:
    tensors = _detached((attn, v, av, grad_out))
    return _or_empty(arrays._av_backward_arrays(_params(flat), *tensors), attn)


def _av_backward_fake(
    attn: Tensor, v: Tensor, av: _Maybe, grad_out: Tensor, *flat: Any,
) -> Tuple[Tensor, ...]:
    return tuple(_shaped(x, attn) for x in (attn, v, av))


def _merge(outputs: _Tensors, lses: _Tensors) -> Tuple[Tensor, Tensor]:
    return arrays._merge_arrays(_detached(outputs), _detached(lses))


def _merge_fake(outputs: _Tensors, lses: _Tensors) -> Tuple[Tensor, Tensor]:
    return outputs[0].new_empty(outputs[0].shape), lses[0].new_empty(lses[0].shape)


def _merge_save(ctx: Any, inputs: Any, output: Any) -> None:
    outputs, lses = inputs
    ctx.save_for_backward(*outputs, *lses, *output)
    ctx.count = len(outputs)
    ctx.set_materialize_grads(False)


def _merge_gradient(ctx: Any, grad_out: _Maybe, grad_lse: _Maybe) -> Tuple[Any, ...]:
    *parts, out, lse = ctx.saved_tensors
    outputs, lses = list(parts[: ctx.count]), list(parts[ctx.count :])
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    gradients = ops.merge_backward(outputs, lses, out, lse, grad_out, grad_lse)
    return list(gradients[: ctx.count]), list(gradients[ctx.count :])


def _merge_backward(
    outputs: _Tensors, lses: _Tensors, out: Tensor, lse: Tensor, grad_out: Tensor,
    grad_lse: _Maybe,
) -> List[Tensor]:
    grads, grad_lses = arrays._merge_backward_arrays(
        _detached(outputs), _detached(lses),
        *_detached((out, lse, grad_out, grad_lse)),
    )
    return [*grads, *grad_lses]


def _merge_backward_fake(
    outputs: _Tensors, lses: _Tensors, out: Tensor, lse: Tensor, grad_out: Tensor,
    grad_lse: _Maybe,
) -> List[Tensor]:
    return [x.new_empty(x.shape) for x in (*outputs, *lses)]


class Operators:
    """All operators, made by `make`: by _registered, or by _function."""

    def __init__(self, make: _Function) -> None:
        inputs = (
            "Tensor query, Tensor key, Tensor value, Tensor? bias, "
            "Tensor? additional_keys, Tensor? additional_values, "
        )
        qk = "Tensor query, Tensor key, Tensor? bias, Tensor? additional_keys, "
        av = "Tensor attn, Tensor value, Tensor? additional_values, "
        self.forward = make(
            "forward", f"({inputs}{_PARAMS}) -> (Tensor, Tensor)",
            _forward, _forward_fake, _forward_save, _forward_gradient,
        )
        self.backward = make(
            "backward",
            f"({inputs}Tensor out, Tensor lse, Tensor grad_out, Tensor? grad_lse, "
            f"{_PARAMS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
            _backward, _backward_fake, _save_nothing, _refuse,
        )
        self.qk = make(
            "qk", f"({qk}{_PARAMS}) -> Tensor", _qk, _qk_fake, _qk_save, _qk_gradient
        )
        self.qk_backward = make(
            "qk_backward",
            f"({qk}Tensor grad_attn, {_PARAMS}) -> (Tensor, Tensor, Tensor, Tensor)",
            _qk_backward, _qk_backward_fake, _save_nothing, _refuse,
        )
        self.av = make(
            "av", f"({av}{_PARAMS}) -> Tensor", _av, _av_fake, _av_save, _av_gradient
        )
        self.av_backward = make(
            "av_backward",
            f"({av}Tensor grad_out, {_PARAMS}) -> (Tensor, Tensor, Tensor)",
            _av_backward, _av_backward_fake, _save_nothing, _refuse,
        )
        self.merge = make(
            "merge", "(Tensor[] outputs, Tensor[] lse_tensors) -> (Tensor, Tensor)",
            _merge, _merge_fake, _merge_save, _merge_gradient,
        )
        self.merge_backward = make(
            "merge_backward",
            "(Tensor[] outputs, Tensor[] lse_tensors, Tensor out, Tensor lse, "
            "Tensor grad_out, Tensor? grad_lse) -> Tensor[]",
            _merge_backward, _merge_backward_fake, _save_nothing, _refuse,
        )


ops = Operators(_operator)


# ---- what _functional calls ----------------------------------------------------------


def forward(
    params: arrays.Params, query: Any, key: Any, value: Any, bias: _Maybe,
    additional_keys: Any, additional_values: Any,
) -> Any:
    """(out, lse)."""
    (q, k, v, ak, av), (bias,) = _cast(
        (query, key, value, additional_keys, additional_values), (bias,)
    )
    return ops.forward(q, k, v, bias, ak, av, *_flat(params))


def plain_forward(
    params: arrays.Params, *inputs_and_want: Any,
) -> Any:
    """(out, lse) in the inputs' own type, whatever autocast says: for a gradient, whose
    arrays have to agree."""
    *inputs, _ = inputs_and_want
    return ops.forward(*map(_tensor, inputs), *_flat(params))


def _explicit(
    operator: _Function, count: int, params: arrays.Params, tensors: Iterable[Any],
) -> List[_Maybe]:
    """A gradient that was asked for by name: one for each of the first `count`."""
    tensors = [_tensor(x) for x in tensors]
    return _given(operator(*tensors, *_flat(params)), tensors[:count])


def backward(params: arrays.Params, *tensors: Any) -> List[_Maybe]:
    """query to additional_values, out, lse, grad_out, grad_lse -> six gradients."""
    return _explicit(ops.backward, 6, params, tensors)


def qk(
    params: arrays.Params, query: Any, key: Any, bias: _Maybe, additional_keys: Any,
) -> Any:
    """attn."""
    (q, k, ak), (bias,) = _cast((query, key, additional_keys), (bias,))
    return ops.qk(q, k, bias, ak, *_flat(params))


def qk_backward(params: arrays.Params, *tensors: Any) -> List[_Maybe]:
    """query, key, bias, additional_keys, grad_attn -> four gradients."""
    return _explicit(ops.qk_backward, 4, params, tensors)


def av(
    params: arrays.Params, attn: Tensor, value: Any, additional_values: Any,
) -> Any:
    """out."""
    tensors, _ = _cast((attn, value, additional_values))
    return ops.av(*tensors, *_flat(params))


def av_backward(params: arrays.Params, *tensors: Any) -> List[_Maybe]:
    """attn, value, additional_values, grad_out -> three gradients."""
    return _explicit(ops.av_backward, 3, params, tensors)


def merge(outputs: Any, lse_tensors: Any) -> Any:
    """(out, lse)."""
    return ops.merge(
        [_tensor(x) for x in outputs], [_tensor(x) for x in lse_tensors]
    )


def merge_backward(
    outputs: Any, lse_tensors: Any, out: Any, lse: Any, grad_out: Any, grad_lse: Any,
) -> Tuple[List[Tensor], List[Tensor]]:
    """A list of gradients for the outputs, and one for their lses."""
    gradients = ops.merge_backward(
        [_tensor(x) for x in outputs], [_tensor(x) for x in lse_tensors],
        *map(_tensor, (out, lse, grad_out, grad_lse)),
    )
    count = len(outputs)
    return list(gradients[:count]), list(gradients[count:])


# ---- operations counted --------------------------------------------------------------


def _count_flops() -> None:
    """Formulas for torch.utils.flop_counter: two per product and sum, windows full.

    A window is as long as the keys where it is the window of attention over fewer keys
    than queries.
    """
    from torch.utils import (  # type: ignore[import-not-found, unused-ignore]
        flop_counter,
    )

    flop_registry = flop_counter.flop_registry

    def rows(shape: _Shape) -> int:
        return math.prod(shape[:-1])

    def slots(kernel: Sequence[int], keys: _Shape, extras: Optional[_Shape]) -> int:
        window = math.prod(map(min, kernel, keys[1:-2]))
        return window + (0 if extras is None else extras[1])

    def forward_flops(
        q: _Shape, k: _Shape, v: _Shape, bias: Any, ak: Any, av: Any, rank: int,
        kernel: Sequence[int], *rest: Any, **kw: Any,
    ) -> int:
        return 2 * rows(q) * slots(kernel, k, ak) * (q[-1] + v[-1])

    def backward_flops(
        q: _Shape, k: _Shape, v: _Shape, bias: Any, ak: Any, av: Any, out: Any,
        lse: Any, go: Any, gl: Any, rank: int, kernel: Sequence[int], *rest: Any,
        **kw: Any,
    ) -> int:
        # S and dP again, dQ and dK, dV.
        return 2 * rows(q) * slots(kernel, k, ak) * (3 * q[-1] + 2 * v[-1])

    def qk_flops(
        q: _Shape, k: _Shape, bias: Any, ak: Any, rank: int, kernel: Sequence[int],
        *rest: Any, **kw: Any,
    ) -> int:
        return 2 * rows(q) * slots(kernel, k, ak) * q[-1]

    def av_flops(attn: _Shape, v: _Shape, av: Any, *rest: Any, **kw: Any) -> int:
        return 2 * math.prod(attn) * v[-1]

    natten = torch.ops.natten
    for operator, formula in (
        (natten.forward, forward_flops),
        (natten.backward, backward_flops),
        (natten.qk, qk_flops),
        (natten.qk_backward, lambda *a, **kw: 2 * qk_flops(*a[:4], *a[5:], **kw)),
        (natten.av, av_flops),
        (natten.av_backward, lambda *a, **kw: 2 * av_flops(*a, **kw)),
    ):
        flop_counter.register_flop_formula(operator)(formula)
        # torch 2.4 notes the overload, and looks for the operator.
        if operator not in flop_registry:
            flop_registry[operator] = flop_registry[operator.default]


if _REGISTERED:
    _count_flops()
