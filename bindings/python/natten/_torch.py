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
"""

import math
from functools import partial

import torch

from . import _functional as arrays

__all__ = [
    "av", "av_backward", "backward", "forward", "full_like", "joined", "merge",
    "merge_backward", "plain_forward", "qk", "qk_backward",
]

_REGISTERED = hasattr(torch.library, "custom_op")

_PARAMS = (
    "int rank, SymInt[] kernel_size, SymInt[] stride, SymInt[] dilation, "
    "SymInt[] is_causal, float? scale, SymInt[] grid_length, SymInt[] query_begin, "
    "SymInt[] key_begin, str? backend, int flags"
)
_PARAM_COUNT = 11


# ---- parameters ----------------------------------------------------------------------


def _flat(params):
    """Params as arguments of an operator."""
    return list(arrays.listed(params))


def _params(flat):
    """The reverse."""
    return arrays.Params(*[None if v == [] or v == () else v for v in flat])


# ---- tensors -------------------------------------------------------------------------


def _accumulator(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def _tensor(array):
    """A tensor from whatever shares a call with tensors."""
    if array is None or isinstance(array, torch.Tensor):
        return array
    return torch.from_dlpack(array)


def _autocast_dtype(device):
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


def _cast(storage, accumulator=()):
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


def _detached(tensors):
    return [None if x is None else x.detach() for x in tensors]


def _or_empty(gradients, like):
    """Absent gradients as tensors without elements."""
    return tuple(like.new_empty(0) if g is None else g for g in gradients)


def _shaped(x, like):
    return like.new_empty(0) if x is None else x.new_empty(x.shape)


def _given(gradients, inputs):
    """The reverse of _or_empty."""
    return [None if x is None else g for g, x in zip(gradients, inputs)]


def full_like(example, shape, value, lse=False):
    dtype = _accumulator(example.dtype) if lse else example.dtype
    return torch.full(shape, value, dtype=dtype, device=example.device)


def joined(tensors):
    return torch.cat(list(tensors), dim=1)


# ---- operators -----------------------------------------------------------------------


def _refuse(ctx, *gradients):
    raise NotImplementedError("natten: gradients of gradients are not implemented")


def _save_nothing(ctx, inputs, output):
    pass


def _each(info, in_dims, *args, operator):
    """vmap: one call per slice, and the results side by side."""
    def at(x, dim, i):
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


def _registered(name, schema, compute, fake, save, gradient):
    operator = torch.library.custom_op(
        f"natten::{name}", compute, mutates_args=(), schema=schema
    )
    operator.register_fake(fake)
    operator.register_autograd(gradient, setup_context=save)
    if hasattr(operator, "register_vmap"):
        operator.register_vmap(partial(_each, operator=operator))
    return operator


def _function(name, schema, compute, fake, save, gradient):
    """The same for a torch that knows no custom operators.

    autograd.Function looks for tensors among its arguments but not inside lists, so
    lists are spread out on the way in and gathered within.
    """
    def gather(sizes, flat):
        flat = iter(flat)
        return [
            next(flat) if n is None else [next(flat) for _ in range(n)] for n in sizes
        ]

    def spread(values):
        tensors = [
            isinstance(v, (list, tuple)) and any(map(torch.is_tensor, v))
            for v in values
        ]
        sizes = [len(v) if t else None for v, t in zip(values, tensors)]
        flat = []
        for value, is_list in zip(values, tensors):
            flat.extend(value if is_list else [value])
        return sizes, flat

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, sizes, *flat):
            inputs = gather(sizes, flat)
            output = compute(*inputs)
            ctx.sizes = sizes
            save(ctx, inputs, output)
            return tuple(output) if isinstance(output, list) else output

        @staticmethod
        def backward(ctx, *gradients):
            results = gradient(ctx, *gradients)
            flat = []
            for size, result in zip(ctx.sizes, results):
                flat.extend([result] if size is None else result)
            return (None, *flat)

    Function.__name__ = f"natten_{name}"

    def operator(*values):
        sizes, flat = spread(values)
        return Function.apply(sizes, *flat)

    return operator


_operator = _registered if _REGISTERED else _function


def _forward(q, k, v, bias, ak, av, *flat):
    return arrays._forward_arrays(
        _params(flat), *_detached((q, k, v, bias, ak, av)), True
    )


def _forward_fake(q, k, v, bias, ak, av, *flat):
    shape = tuple(q.shape[:-1])
    out = q.new_empty(shape + tuple(v.shape[-1:]))
    return out, q.new_empty(shape, dtype=_accumulator(q.dtype))


def _forward_save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.flat = inputs[6:]
    ctx.set_materialize_grads(False)


def _forward_gradient(ctx, grad_out, grad_lse):
    *inputs, out, lse = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    gradients = ops.backward(*inputs, out, lse, grad_out, grad_lse, *ctx.flat)
    return (*_given(gradients, inputs), *[None] * _PARAM_COUNT)


def _backward(q, k, v, bias, ak, av, out, lse, grad_out, grad_lse, *flat):
    tensors = _detached((q, k, v, bias, ak, av, out, lse, grad_out, grad_lse))
    return _or_empty(arrays._backward_arrays(_params(flat), *tensors), q)


def _backward_fake(q, k, v, bias, ak, av, out, lse, grad_out, grad_lse, *flat):
    return tuple(_shaped(x, q) for x in (q, k, v, bias, ak, av))


# _functional orders the gradients query, key, value, bias, extras: as the inputs here.


def _qk(q, k, bias, ak, *flat):
    return arrays._qk_arrays(_params(flat), *_detached((q, k, bias, ak)))


def _qk_fake(q, k, bias, ak, *flat):
    slots = math.prod(flat[1]) + (0 if ak is None else ak.shape[1])
    return q.new_empty((*q.shape[:-1], slots))


def _qk_save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.flat = inputs[4:]


def _qk_gradient(ctx, grad_attn):
    inputs = ctx.saved_tensors
    gradients = ops.qk_backward(*inputs, grad_attn, *ctx.flat)
    return (*_given(gradients, inputs), *[None] * _PARAM_COUNT)


def _qk_backward(q, k, bias, ak, grad_attn, *flat):
    tensors = _detached((q, k, bias, ak, grad_attn))
    return _or_empty(arrays._qk_backward_arrays(_params(flat), *tensors), q)


def _qk_backward_fake(q, k, bias, ak, grad_attn, *flat):
    return tuple(_shaped(x, q) for x in (q, k, bias, ak))


def _av(attn, v, av, *flat):
    return arrays._av_arrays(_params(flat), *_detached((attn, v, av)))


def _av_fake(attn, v, av, *flat):
    return attn.new_empty((*attn.shape[:-1], v.shape[-1]))


def _av_save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.flat = inputs[3:]


def _av_gradient(ctx, grad_out):
    inputs = ctx.saved_tensors
    gradients = ops.av_backward(*inputs, grad_out, *ctx.flat)
    return (*_given(gradients, inputs), *[None] * _PARAM_COUNT)


def _av_backward(attn, v, av, grad_out, *flat):
    tensors = _detached((attn, v, av, grad_out))
    return _or_empty(arrays._av_backward_arrays(_params(flat), *tensors), attn)


def _av_backward_fake(attn, v, av, grad_out, *flat):
    return tuple(_shaped(x, attn) for x in (attn, v, av))


def _merge(outputs, lses):
    return arrays._merge_arrays(_detached(outputs), _detached(lses))


def _merge_fake(outputs, lses):
    return outputs[0].new_empty(outputs[0].shape), lses[0].new_empty(lses[0].shape)


def _merge_save(ctx, inputs, output):
    outputs, lses = inputs
    ctx.save_for_backward(*outputs, *lses, *output)
    ctx.count = len(outputs)
    ctx.set_materialize_grads(False)


def _merge_gradient(ctx, grad_out, grad_lse):
    *parts, out, lse = ctx.saved_tensors
    outputs, lses = list(parts[: ctx.count]), list(parts[ctx.count :])
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    gradients = ops.merge_backward(outputs, lses, out, lse, grad_out, grad_lse)
    return list(gradients[: ctx.count]), list(gradients[ctx.count :])


def _merge_backward(outputs, lses, out, lse, grad_out, grad_lse):
    grads, grad_lses = arrays._merge_backward_arrays(
        _detached(outputs), _detached(lses),
        *_detached((out, lse, grad_out, grad_lse)),
    )
    return [*grads, *grad_lses]


def _merge_backward_fake(outputs, lses, out, lse, grad_out, grad_lse):
    return [x.new_empty(x.shape) for x in (*outputs, *lses)]


class Operators:
    """All operators, made by `make`: by _registered, or by _function."""

    def __init__(self, make):
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


def forward(params, query, key, value, bias, additional_keys, additional_values):
    """(out, lse)."""
    (q, k, v, ak, av), (bias,) = _cast(
        (query, key, value, additional_keys, additional_values), (bias,)
    )
    return ops.forward(q, k, v, bias, ak, av, *_flat(params))


def plain_forward(params, *inputs_and_want):
    """(out, lse) in the inputs' own type, whatever autocast says: for a gradient, whose
    arrays have to agree."""
    *inputs, _ = inputs_and_want
    return ops.forward(*map(_tensor, inputs), *_flat(params))


def _explicit(operator, count, params, tensors):
    """A gradient that was asked for by name: one for each of the first `count`."""
    tensors = [_tensor(x) for x in tensors]
    return _given(operator(*tensors, *_flat(params)), tensors[:count])


def backward(params, *tensors):
    """query to additional_values, out, lse, grad_out, grad_lse -> six gradients."""
    return _explicit(ops.backward, 6, params, tensors)


def qk(params, query, key, bias, additional_keys):
    """attn."""
    (q, k, ak), (bias,) = _cast((query, key, additional_keys), (bias,))
    return ops.qk(q, k, bias, ak, *_flat(params))


def qk_backward(params, *tensors):
    """query, key, bias, additional_keys, grad_attn -> four gradients."""
    return _explicit(ops.qk_backward, 4, params, tensors)


def av(params, attn, value, additional_values):
    """out."""
    tensors, _ = _cast((attn, value, additional_values))
    return ops.av(*tensors, *_flat(params))


def av_backward(params, *tensors):
    """attn, value, additional_values, grad_out -> three gradients."""
    return _explicit(ops.av_backward, 3, params, tensors)


def merge(outputs, lse_tensors):
    """(out, lse)."""
    return ops.merge(
        [_tensor(x) for x in outputs], [_tensor(x) for x in lse_tensors]
    )


def merge_backward(outputs, lse_tensors, out, lse, grad_out, grad_lse):
    """A list of gradients for the outputs, and one for their lses."""
    gradients = ops.merge_backward(
        [_tensor(x) for x in outputs], [_tensor(x) for x in lse_tensors],
        *map(_tensor, (out, lse, grad_out, grad_lse)),
    )
    count = len(outputs)
    return list(gradients[:count]), list(gradients[count:])


# ---- operations counted --------------------------------------------------------------


def _count_flops():
    """Formulas for torch.utils.flop_counter: two per product and sum, windows full.

    A window is as long as the keys where it is the window of attention over fewer keys
    than queries.
    """
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    def rows(shape):
        return math.prod(shape[:-1])

    def slots(kernel, keys, extras):
        window = math.prod(map(min, kernel, keys[1:-2]))
        return window + (0 if extras is None else extras[1])

    def forward_flops(q, k, v, bias, ak, av, rank, kernel, *rest, **kw):
        return 2 * rows(q) * slots(kernel, k, ak) * (q[-1] + v[-1])

    def backward_flops(
        q, k, v, bias, ak, av, out, lse, go, gl, rank, kernel, *rest, **kw
    ):
        # S and dP again, dQ and dK, dV.
        return 2 * rows(q) * slots(kernel, k, ak) * (3 * q[-1] + 2 * v[-1])

    def qk_flops(q, k, bias, ak, rank, kernel, *rest, **kw):
        return 2 * rows(q) * slots(kernel, k, ak) * q[-1]

    def av_flops(attn, v, av, *rest, **kw):
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
        register_flop_formula(operator)(formula)
        # torch 2.4 notes the overload, and looks for the operator.
        if operator not in flop_registry:
            flop_registry[operator] = flop_registry[operator.default]


if _REGISTERED:
    _count_flops()
