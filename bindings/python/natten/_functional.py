# SPDX-License-Identifier: MIT
"""The operations, as functions of arrays.

Each function does the same three things: put its arguments into a :class:`Params`, make
the arrays that the library fills, and call.  Which values are legal and what they mean
is the library's to say; so there is no arithmetic here and no condition on attention.
Arrays of a framework that differentiates and traces (torch, JAX) take the same way
through operators of that framework, which call the functions ``_..._arrays`` here.
The signatures with their exact result types stand in ``_functional.pyi``.

Length: a fifth of it is the functions' documentation, which users read with help();
they share their arguments' words, and what makes a Params of them.
"""

import contextlib
import operator
import re
import sys
from typing import Any, NamedTuple

import numpy as np

from . import _upstream, capi
from ._arrays import describe, maker_like, stream_of

__all__ = [
    "AVGradients",
    "Gradients",
    "QKGradients",
    "attention",
    "attention_backward",
    "merge_attentions",
    "merge_attentions_backward",
    "na1d",
    "na2d",
    "na3d",
    "na_av",
    "na_av_backward",
    "na_backward",
    "na_qk",
    "na_qk_backward",
    "plan",
]


class Params(NamedTuple):
    """natten_params, in the order in which params.h takes them.

    Per-axis values are None (the default), one integer, or one for each axis; backend
    is None or a word.
    """

    rank: int
    kernel_size: Any
    stride: Any = None
    dilation: Any = None
    is_causal: Any = None
    scale: Any = None
    grid_length: Any = None
    query_begin: Any = None
    key_begin: Any = None
    backend: Any = None
    flags: int = 0


_AXES = (
    "kernel_size", "stride", "dilation", "is_causal", "grid_length", "query_begin",
    "key_begin",
)


def listed(params):
    """Params for a framework that keeps them in a graph: per-axis values are lists, one
    integer for each axis and none for the default, and scale is a float or None.

    What is no integer or no number is refused as params.h refuses it.
    """
    values = []
    for name, value in zip(Params._fields, params):
        if name in _AXES:
            value = _integers(value, params.rank, name)
        elif name == "scale":
            value = _number(value)
        elif name == "backend" and not isinstance(value, (str, type(None))):
            raise ValueError(
                f"backend: {value!r} is not one of 'auto', 'cpu', 'cuda', 'reference'"
            )
        values.append(value)
    return Params(*values)


def _integers(value, rank, name):
    if value is None:
        return []
    # Tuples, lists, ranges and arrays of NumPy; what has no axes is one number.
    one = isinstance(value, (int, str, dict)) or not hasattr(value, "__len__")
    if one or not hasattr(value, "__getitem__") or getattr(value, "ndim", 1) == 0:
        return [_integer(value, name)] * rank
    if len(value) != rank:
        # No values at all would be the default, to an operator.
        axes = "axis" if rank == 1 else "axes"
        raise ValueError(f"{name}: {len(value)} values for {rank} {axes}")
    return [_integer(v, name) for v in value]


def _integer(value, name):
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    # torch traces lengths that vary as SymInt; as numbers they would be constants.
    if not isinstance(value, int) and type(value).__name__ != "SymInt":
        try:
            value = operator.index(value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"{name}: an integer is wanted, not {kind}") from None
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: {value} does not fit in 64 bits")
    return value


def _listed_integers(values, name):
    """Lengths of sequences: a list, or an array of one axis."""
    try:
        items = None if isinstance(values, (str, bytes, set, dict)) else list(values)
    except TypeError:
        items = None
    if items is None:
        kind = type(values).__name__
        raise TypeError(f"{name}: a list of integers is wanted, not {kind}")
    return [_integer(n, name) for n in items]


def _number(value, name="scale"):
    if value is None:
        return None
    kind = type(value).__name__
    # float() reads text too.
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{name}: a number or None is wanted, not {kind}")
    try:
        return float(value)
    except TypeError:
        raise TypeError(f"{name}: a number or None is wanted, not {kind}") from None
    except OverflowError:
        raise ValueError(f"{name}: an integer that no float holds") from None


class Gradients(NamedTuple):
    """One gradient per argument, of its shape and type; None for what was not given."""

    grad_query: object
    grad_key: object
    grad_value: object
    grad_bias: object
    grad_additional_keys: object
    grad_additional_values: object


class QKGradients(NamedTuple):
    """The same for :func:`na_qk`."""

    grad_query: object
    grad_key: object
    grad_bias: object
    grad_additional_keys: object


class AVGradients(NamedTuple):
    """The same for :func:`na_av`."""

    grad_attn: object
    grad_value: object
    grad_additional_values: object


_OPERATIONS = {
    "forward": capi.NATTEN_FORWARD,
    "backward": capi.NATTEN_BACKWARD,
    "qk": capi.NATTEN_QK,
    "qk_backward": capi.NATTEN_QK_BACKWARD,
    "av": capi.NATTEN_AV,
    "av_backward": capi.NATTEN_AV_BACKWARD,
}


def _framework(array):
    """The module of operators for arrays of torch or JAX; None for all other arrays.

    torch and JAX are looked up among the modules that are loaded already: an array of
    theirs can't come from elsewhere.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        from . import _torch

        return _torch
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(array, jax.Array):
        from . import _jax

        return _jax
    return None


# What functional.use_deterministic_algorithms() was last told.
deterministic = True


def _with_modes(params):
    """Params that allow what the modes of the process do when a call is made.

    torch's own mode of determinism, where torch is loaded, wins.
    """
    params = _upstream.with_tf32(params)
    torch = sys.modules.get("torch")
    asked = getattr(torch, "are_deterministic_algorithms_enabled", None)
    if deterministic or (asked is not None and asked()):
        return params
    return params._replace(
        flags=params.flags | capi.NATTEN_FLAG_ALLOW_NONDETERMINISTIC
    )


def _shape_of(array, name):
    """Shape of an array, of a traced one too."""
    if _framework(array) is not None:
        return tuple(array.shape)
    return describe(array, name).shape


def _rank_of(array, name):
    """Axes of the grid of an array [batch, axes..., heads, head_dim].

    An array with too few or too many axes gets the nearest rank, so that the library
    can say what is wrong with the array itself.
    """
    ndim = len(_shape_of(array, name))
    return min(max(ndim - 3, 1), capi.NATTEN_MAX_RANK)


def _like(make, array, name):
    """An uninitialised array of the shape and type of `array`, or None for None."""
    return None if array is None else make(*describe(array, name))


def _zeros_like(make, array, name):
    """The same, filled: a batch of nothing leaves a sum over the batch untouched."""
    result = _like(make, array, name)
    if result is not None:
        result[...] = 0
    return result


def _each_like(arrays, name):
    """The same for each array of a sequence."""
    return [_like(maker_like(x), x, f"{name}[{i}]") for i, x in enumerate(arrays)]


def _neither(out, lse):
    """Whether they have to be computed.  One alone could be of another call than the
    other that would be computed for it, merged from parts, say: that is refused."""
    if (out is None) != (lse is None):
        raise ValueError("out and lse: give both, or neither")
    return out is None


def _gpu(device):
    """Number of the GPU that arrays of the host are sent to; None if to none."""
    if device is None:
        return None
    if not isinstance(device, str):
        raise TypeError(f"device: a name is wanted, not {type(device).__name__}")
    kind, number = capi.natten_device_from_name(device)
    return number if kind == capi.NATTEN_CUDA else None


def _refuse_device(device):
    """A framework has its own way to move arrays, that its gradients know of."""
    if device is not None:
        raise ValueError(
            "device: torch's tensors and JAX's arrays are computed on where they are; "
            "move them there first"
        )


def _forward(
    params, query, key, value, bias, additional_keys, additional_values, want_lse,
    device=None,
):
    """out, or (out, lse) if lse is wanted."""
    inputs = query, key, value, bias, additional_keys, additional_values
    framework = _framework(query)
    if framework is None:
        out, lse = _forward_arrays(params, *inputs, want_lse, device)
    else:
        _refuse_device(device)
        out, lse = framework.forward(params, *inputs)
    return (out, lse) if want_lse else out


def _forward_arrays(
    params, query, key, value, bias, additional_keys, additional_values, want_lse,
    device=None,
):
    """(out, lse), lse None if not wanted."""
    params = _upstream.with_tf32(params)
    gpu = _gpu(device)
    q = describe(query, "query")
    v = describe(value, "value")
    make = maker_like(query)
    out = make(q.shape[:-1] + v.shape[-1:], q.dtype)
    lse = make(q.shape[:-1], q.accumulator) if want_lse else None
    arrays = query, key, value, bias, additional_keys, additional_values, out, lse
    if gpu is None:
        capi.natten_forward(params, *arrays, stream_of(query))
    else:
        capi.natten_forward_host(params, *arrays, gpu)
    return out, lse


def _backward(
    params, query, key, value, grad_out, additional_keys, additional_values, bias, out,
    lse, grad_lse, device=None,
):
    """All gradients; out and lse are computed when they are not given."""
    inputs = query, key, value, bias, additional_keys, additional_values
    gradients = grad_out, grad_lse
    framework = _framework(query)
    if framework is None:
        if _neither(out, lse):
            out, lse = _forward_arrays(params, *inputs, True, device)
        return _backward_arrays(params, *inputs, out, lse, *gradients, device)
    _refuse_device(device)
    if _neither(out, lse):
        out, lse = framework.plain_forward(params, *inputs, True)
    return Gradients(*framework.backward(params, *inputs, out, lse, *gradients))


def _backward_arrays(
    params, query, key, value, bias, additional_keys, additional_values, out, lse,
    grad_out, grad_lse, device=None,
):
    """The gradients of what was given."""
    params = _with_modes(params)
    gpu = _gpu(device)
    make = maker_like(query)
    gradients = Gradients(
        _like(make, query, "query"),
        _like(make, key, "key"),
        _like(make, value, "value"),
        _zeros_like(make, bias, "bias"),
        _like(make, additional_keys, "additional_keys"),
        _like(make, additional_values, "additional_values"),
    )
    inputs = query, key, value, bias, additional_keys, additional_values
    arrays = *inputs, out, lse, grad_out, grad_lse, *gradients
    if gpu is None:
        capi.natten_backward(params, *arrays, stream_of(query))
    else:
        capi.natten_backward_host(params, *arrays, gpu)
    return gradients


def _na(rank):
    """na1d, na2d or na3d: the same function, for a grid of `rank` axes."""

    def na(
        query,
        key,
        value,
        kernel_size,
        stride=1,
        dilation=1,
        is_causal=False,
        scale=None,
        additional_keys=None,
        additional_values=None,
        *,
        bias=None,
        return_lse=False,
        grid_length=None,
        query_begin=None,
        key_begin=None,
        backend=None,
        device=None,
        **ignored,
    ):
        bias = _upstream.bias_of(bias, ignored)
        backend = _upstream.backend_of(backend, ignored)
        params = Params(
            rank, kernel_size, stride, dilation, is_causal, scale,
            grid_length, query_begin, key_begin, backend,
        )
        return _forward(
            params, query, key, value, bias, additional_keys, additional_values,
            return_lse, device,
        )

    axes = ("length", "height, width", "depth, height, width")[rank - 1]
    na.__name__ = na.__qualname__ = f"na{rank}d"
    na.__doc__ = f"""Neighborhood attention on a {rank}-D grid.

    out = softmax(scale query key^T + bias) value, for each query over the window around
    it. At a border the window is shifted inward, so that it always holds kernel_size
    keys; on a causal axis it ends at the query and may hold fewer.

    Parameters
    ----------
    query : array [batch, {axes}, heads, head_dim]
    key : array [batch, {axes}, heads_kv, head_dim]
        heads is a multiple of heads_kv.
    value : array [batch, {axes}, heads_kv, head_dim_v]
    kernel_size : window in tokens; 1 <= kernel_size, kernel_size * dilation <= length
    stride : queries that share a window, 1 to kernel_size
    dilation : step between the keys of a window, in tokens
    is_causal : no key after the query, on this axis
    scale : factor of the logits; None means head_dim ** -0.5, 0 means 0
    additional_keys : array [batch, extras, heads_kv, head_dim], or None
        Tokens that every query sees, in the same softmax.
    additional_values : array [batch, extras, heads_kv, head_dim_v], or None
    bias : array [heads, 2 kernel_size - 1 per axis], or None
        Added to the scaled logits, by position of the key relative to the query.
    return_lse : return (out, lse) instead of out
    grid_length, query_begin, key_begin : parts of a grid
        Length of the whole grid, and the tokens of it that query and key start at; by
        default query and key are the whole.
    backend : "auto" (None), "cpu", "cuda" or "reference"
    device : "cuda", or "cuda:1" and so on: the GPU that arrays of the host are sent to,
        computed on, and fetched from; None, or "cpu", computes where the arrays are
    ignored : names of NATTEN's own backends, and its keywords for tiles and schedules,
        are accepted and ignored, with one warning; rpb, its old name of bias, is taken

    Values for the axes ({axes}) are one integer for all, or one for each.

    Returns
    -------
    out : array [batch, {axes}, heads, head_dim_v], of query's kind and element type
    lse : array [batch, {axes}, heads]
        Natural log of the sum of exp(logit); -inf where a query sees nothing. float64
        for float64, else float32, as bias is.

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, sections 3 to 6 and 13; A. Hassani et al., "Neighborhood
    Attention Transformer", CVPR 2023.
    """
    return na


na1d = _na(1)
na2d = _na(2)
na3d = _na(3)


def na_backward(
    query,
    key,
    value,
    grad_out,
    kernel_size,
    stride=1,
    dilation=1,
    is_causal=False,
    scale=None,
    additional_keys=None,
    additional_values=None,
    *,
    bias=None,
    out=None,
    lse=None,
    grad_lse=None,
    grid_length=None,
    query_begin=None,
    key_begin=None,
    backend=None,
    device=None,
):
    """Gradients of na1d, na2d or na3d; which one says query's number of axes.

    The same call gives the same bits, whatever the number of threads, unless
    natten.use_deterministic_algorithms(False) was said.

    Parameters
    ----------
    grad_out : array [batch, axes..., heads, head_dim_v], the gradient by out
    out, lse : what forward returned, or the merged results of several parts of the keys
        Both or neither; computed first when not given.
    grad_lse : array [batch, axes..., heads], or None
        The gradient by lse; None means that lse was not used.

    The others are those of :func:`na2d`.

    Returns
    -------
    Gradients : named tuple of arrays, each of the shape and type of what it belongs to:
        grad_query, grad_key, grad_value, grad_bias, grad_additional_keys,
        grad_additional_values; None for arguments that were not given.

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, section 7.
    """
    params = Params(
        _rank_of(query, "query"), kernel_size, stride, dilation, is_causal, scale,
        grid_length, query_begin, key_begin, backend,
    )
    return _backward(
        params, query, key, value, grad_out, additional_keys, additional_values, bias,
        out, lse, grad_lse, device,
    )


def _attention_params(query, key, is_causal, scale, backend):
    """Attention is a part of a 1-D grid whose window is the whole grid.

    Of one token where there are no queries and no keys: a grid is never empty.
    """
    lengths = _shape_of(query, "query")[1:2] + _shape_of(key, "key")[1:2]
    # natten_attention_length() written out: torch.compile keeps lengths as symbols,
    # and could not trace a call into C without fixing them.
    longest = max((1, *lengths))
    return Params(
        rank=1,
        kernel_size=longest,
        is_causal=is_causal,
        scale=scale,
        grid_length=longest,
        backend=backend,
    )


def attention(
    query,
    key,
    value,
    is_causal=False,
    scale=None,
    *,
    additional_keys=None,
    additional_values=None,
    bias=None,
    seqlens_Q=None,
    seqlens_KV=None,
    cumulative_seqlen_Q=None,
    cumulative_seqlen_KV=None,
    max_seqlen_Q=None,
    max_seqlen_KV=None,
    return_lse=False,
    backend=None,
    **ignored,
):
    """Attention of each query to all keys, of which there may be another number.

    Parameters
    ----------
    query : array [batch, length, heads, head_dim]
    key : array [batch, length_kv, heads_kv, head_dim]
    value : array [batch, length_kv, heads_kv, head_dim_v]
    is_causal : query i sees keys 0 to i, aligned at the first of both
    bias : array [heads, 2 max(length, length_kv) - 1], or None
    seqlens_Q, seqlens_KV : lengths of sequences that are packed one after the other
        Both or neither, of a batch of 1; each sequence attends to itself alone. A
        sequence without keys gives out 0 and lse -inf. Not together with bias or
        additional tokens.
    cumulative_seqlen_Q, cumulative_seqlen_KV : the same as running sums, 0 first; where
        both forms are given they have to agree
    max_seqlen_Q, max_seqlen_KV : not used, since the sums say it

    The others are as for :func:`na1d`. Compiled programs want lengths of sequences as
    lists of integers, which are constants of the program: an array of them breaks the
    graph of torch.compile, and jax.jit refuses to trace it.

    Returns
    -------
    out : array [batch, length, heads, head_dim_v], of query's kind and element type
    lse : array [batch, length, heads], as of :func:`na1d`

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, section 8b.
    """
    backend = _upstream.backend_of(backend, ignored)
    packed = _packing(
        cumulative_seqlen_Q, cumulative_seqlen_KV, seqlens_Q, seqlens_KV, query, key
    )
    if packed is None:
        return _forward(
            _attention_params(query, key, is_causal, scale, backend), query, key, value,
            bias, additional_keys, additional_values, return_lse,
        )
    for name, given in (
        ("bias", bias), ("additional_keys", additional_keys),
        ("additional_values", additional_values),
    ):
        if given is not None:
            raise ValueError(
                f"{name}: packed sequences take no bias and no additional tokens"
            )
    lengths, wanted = _shape_of(value, "value")[1:2], _shape_of(key, "key")[1:2]
    if lengths != wanted:
        # Slices of it could be as long as those of key.
        raise ValueError(f"value: length {lengths[0]}, {wanted[0]} as key is wanted")
    pieces = [
        (query[:, q0:q1], key[:, k0:k1], value[:, k0:k1])
        for (q0, q1), (k0, k1) in packed
        if q0 < q1
    ]
    results = [
        _forward(
            _attention_params(q, k, is_causal, scale, backend), q, k, v, None, None,
            None, True,
        )
        for q, k, v in pieces or [(query, key, value)]
    ]
    out, lse = (_joined(part) for part in zip(*results))
    return (out, lse) if return_lse else out


def _packing(cumulative_q, cumulative_kv, lengths_q, lengths_kv, query, key):
    """The ranges [begin, end) of queries and of keys, sequence by sequence, or None."""
    def sums(cumulative, lengths, array, name, side):
        if cumulative is None and lengths is None:
            return None
        shape = _shape_of(array, name)
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(
                f"{name}: shape {shape}, packed sequences want [1, length, heads, "
                "head_dim]"
            )
        total, given = [0], f"seqlens_{side}"
        if lengths is not None:
            for n in _listed_integers(lengths, given):
                total.append(total[-1] + n)
        if cumulative is not None:
            running, given = total, f"cumulative_seqlen_{side}"
            total = _listed_integers(cumulative, given)
            if lengths is not None and total != running:
                raise ValueError(
                    f"{given}: {total}, and seqlens_{side} says {running}: give one"
                )
        if total[:1] != [0] or total != sorted(total) or total[-1] != shape[1]:
            raise ValueError(
                f"{given}: the sequences of {name} end at {total}; running sums from "
                f"0 to its length, {shape[1]}, are wanted"
            )
        return list(zip(total, total[1:]))

    queries = sums(cumulative_q, lengths_q, query, "query", "Q")
    keys = sums(cumulative_kv, lengths_kv, key, "key", "KV")
    if (queries is None) != (keys is None) or len(queries or ()) != len(keys or ()):
        raise ValueError(
            "seqlens_Q and seqlens_KV: lengths of as many sequences for query as for "
            "key are wanted"
        )
    return None if queries is None else list(zip(queries, keys))


def _joined(arrays):
    """Arrays one after the other along their second axis."""
    framework = _framework(arrays[0])
    if framework is not None:
        return framework.joined(arrays)
    return np.concatenate(arrays, axis=1)


def attention_backward(
    query,
    key,
    value,
    grad_out,
    is_causal=False,
    scale=None,
    *,
    additional_keys=None,
    additional_values=None,
    bias=None,
    out=None,
    lse=None,
    grad_lse=None,
    backend=None,
):
    """Gradients of :func:`attention`.

    Parameters
    ----------
    query, key, value, is_causal, scale, additional_keys, additional_values, bias,
    backend : as for :func:`attention`; sequences that are not packed
    grad_out : array [batch, length, heads, head_dim_v], the gradient by out
    out, lse, grad_lse : as for :func:`na_backward`

    Returns
    -------
    Gradients : as :func:`na_backward` gives them

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, sections 7 and 8b.
    """
    return _backward(
        _attention_params(query, key, is_causal, scale, backend), query, key, value,
        grad_out, additional_keys, additional_values, bias, out, lse, grad_lse,
    )


# ---- the unfused pair ----------------------------------------------------------------


def na_qk(
    query,
    key,
    kernel_size,
    stride=1,
    dilation=1,
    is_causal=False,
    scale=None,
    additional_keys=None,
    *,
    bias=None,
    grid_length=None,
    query_begin=None,
    key_begin=None,
    backend=None,
):
    """The logits alone, on a grid of 1, 2 or 3 axes: for a softmax of one's own.

    Slot t of a query belongs to its t-th visible key, in row-major order of the window;
    additional tokens come last.  Slots that a causal axis or a part of a grid leaves
    empty hold -inf.

    Parameters
    ----------
    scale : factor of the logits; None means 1, unlike in the fused functions

    The others are those of :func:`na2d`.

    Returns
    -------
    attn : array [batch, axes..., heads, product of kernel_size (+ extras)]

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, section 8.
    """
    params = Params(
        _rank_of(query, "query"), kernel_size, stride, dilation, is_causal, scale,
        grid_length, query_begin, key_begin, backend,
    )
    framework = _framework(query)
    if framework is not None:
        return framework.qk(params, query, key, bias, additional_keys)
    return _qk_arrays(params, query, key, bias, additional_keys)


def _qk_arrays(params, query, key, bias, additional_keys):
    q = describe(query, "query")
    # Before an array is made whose size an illegal kernel_size would decide.
    capi.natten_supported(params, capi.NATTEN_QK, query, key, None, additional_keys)
    slots = capi.natten_attn_slots(params, additional_keys)
    attn = maker_like(query)((*q.shape[:-1], slots), q.dtype)
    capi.natten_qk(
        params, query, key, bias, additional_keys, attn, stream_of(query)
    )
    return attn


def na_qk_backward(
    query,
    key,
    grad_attn,
    kernel_size,
    stride=1,
    dilation=1,
    is_causal=False,
    scale=None,
    additional_keys=None,
    *,
    bias=None,
    grid_length=None,
    query_begin=None,
    key_begin=None,
    backend=None,
):
    """Gradients of :func:`na_qk` by query, key, bias and additional_keys.

    Parameters
    ----------
    grad_attn : array [batch, axes..., heads, product of kernel_size (+ extras)]
        The gradient by attn; its empty slots are not read.
    bias : array [heads, 2 kernel_size - 1 per axis], or None
        Only its shape is used.

    The others are those of :func:`na_qk`.

    Returns
    -------
    QKGradients : named tuple grad_query, grad_key, grad_bias, grad_additional_keys of
        arrays as those they belong to; None for what was not given

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, section 8.
    """
    params = Params(
        _rank_of(query, "query"), kernel_size, stride, dilation, is_causal, scale,
        grid_length, query_begin, key_begin, backend,
    )
    framework = _framework(query)
    backward = _qk_backward_arrays if framework is None else framework.qk_backward
    return QKGradients(*backward(params, query, key, bias, additional_keys, grad_attn))


def _qk_backward_arrays(params, query, key, bias, additional_keys, grad_attn):
    make = maker_like(query)
    gradients = QKGradients(
        grad_query=_like(make, query, "query"),
        grad_key=_like(make, key, "key"),
        grad_bias=_zeros_like(make, bias, "bias"),
        grad_additional_keys=_like(make, additional_keys, "additional_keys"),
    )
    capi.natten_qk_backward(
        params, query, key, additional_keys, grad_attn, gradients.grad_query,
        gradients.grad_key, gradients.grad_bias, gradients.grad_additional_keys,
        stream_of(query),
    )
    return gradients


def na_av(
    attn,
    value,
    kernel_size,
    stride=1,
    dilation=1,
    is_causal=False,
    additional_values=None,
    *,
    grid_length=None,
    query_begin=None,
    key_begin=None,
    backend=None,
):
    """Weights times values, on a grid of 1, 2 or 3 axes: the second half of the pair.

    Parameters
    ----------
    attn : array [batch, axes..., heads, product of kernel_size (+ extras)]
        Weights in the slots of :func:`na_qk`; those in empty slots are not read.
    value : array [batch, axes..., heads_kv, head_dim_v]

    The others are those of :func:`na2d`.

    Returns
    -------
    out : array [batch, axes..., heads, head_dim_v]

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, section 8.
    """
    params = Params(
        _rank_of(attn, "attn"), kernel_size, stride, dilation, is_causal, None,
        grid_length, query_begin, key_begin, backend,
    )
    framework = _framework(attn)
    if framework is not None:
        return framework.av(params, attn, value, additional_values)
    return _av_arrays(params, attn, value, additional_values)


def _av_arrays(params, attn, value, additional_values):
    a = describe(attn, "attn")
    v = describe(value, "value")
    out = maker_like(attn)(a.shape[:-1] + v.shape[-1:], a.dtype)
    capi.natten_av(params, attn, value, additional_values, out, stream_of(attn))
    return out


def na_av_backward(
    attn,
    value,
    grad_out,
    kernel_size,
    stride=1,
    dilation=1,
    is_causal=False,
    additional_values=None,
    *,
    grid_length=None,
    query_begin=None,
    key_begin=None,
    backend=None,
):
    """Gradients of :func:`na_av` by attn, value and additional_values.

    Parameters
    ----------
    grad_out : array [batch, axes..., heads, head_dim_v], the gradient by out

    The others are those of :func:`na_av`.

    Returns
    -------
    AVGradients : named tuple grad_attn, grad_value, grad_additional_values of arrays as
        those they belong to; None for what was not given; grad_attn is 0 in empty slots

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it and the
    range.

    Source: definition.md, section 8.
    """
    params = Params(
        _rank_of(attn, "attn"), kernel_size, stride, dilation, is_causal, None,
        grid_length, query_begin, key_begin, backend,
    )
    framework = _framework(attn)
    backward = _av_backward_arrays if framework is None else framework.av_backward
    return AVGradients(*backward(params, attn, value, additional_values, grad_out))


def _av_backward_arrays(params, attn, value, additional_values, grad_out):
    make = maker_like(attn)
    gradients = AVGradients(
        grad_attn=_like(make, attn, "attn"),
        grad_value=_like(make, value, "value"),
        grad_additional_values=_like(make, additional_values, "additional_values"),
    )
    capi.natten_av_backward(
        params, attn, value, additional_values, grad_out, gradients.grad_attn,
        gradients.grad_value, gradients.grad_additional_values, stream_of(attn),
    )
    return gradients


# ---- merging -------------------------------------------------------------------------


def merge_attentions(outputs, lse_tensors, **ignored):
    """Attention over several disjoint sets of keys, from the attention over each.

    Parameters
    ----------
    outputs : sequence of arrays [batch, axes..., heads, head_dim_v]
    lse_tensors : sequence of arrays [batch, axes..., heads], as many
        -inf where a query saw nothing of that set.

    Returns
    -------
    (out, lse) : arrays of the same shapes, of the kind of the first output

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it.

    Source: definition.md, section 9.
    """
    _upstream.backend_of(None, ignored)
    outputs, lse_tensors = tuple(outputs), tuple(lse_tensors)
    if not outputs:
        raise ValueError("outputs: at least one array is wanted")
    framework = _framework(outputs[0])
    if framework is not None:
        return framework.merge(outputs, lse_tensors)
    return _merge_arrays(outputs, lse_tensors)


def _merge_arrays(outputs, lse_tensors):
    first = describe(outputs[0], "outputs[0]")
    make = maker_like(outputs[0])
    out = make(first.shape, first.dtype)
    lse = make(first.shape[:-1], first.accumulator)
    with _our_words():
        capi.natten_merge(outputs, lse_tensors, out, lse, stream_of(out))
    return out, lse


@contextlib.contextmanager
def _our_words():
    """Sentences about C's `lses` name the keyword of Python, lse_tensors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(re.sub(r"\blses\b", "lse_tensors", str(error))) from None


def merge_attentions_backward(
    outputs, lse_tensors, grad_out, *, out=None, lse=None, grad_lse=None
):
    """Gradients of :func:`merge_attentions`.

    Parameters
    ----------
    outputs, lse_tensors : as for :func:`merge_attentions`
    grad_out : array [batch, axes..., heads, head_dim_v], the gradient by out
    out, lse : what it returned
        Both or neither; computed first when not given.
    grad_lse : array [batch, axes..., heads], or None
        The gradient by lse; None means that lse was not used.

    Returns
    -------
    (grad_outputs, grad_lse_tensors) : a list of arrays for each of the two sequences

    Raises
    ------
    ValueError, TypeError : an argument is not legal; the sentence names it.

    Source: definition.md, section 9.
    """
    outputs, lse_tensors = tuple(outputs), tuple(lse_tensors)
    if _neither(out, lse):
        out, lse = merge_attentions(outputs, lse_tensors)
    framework = _framework(outputs[0]) if outputs else None
    backward = (
        _merge_backward_arrays if framework is None else framework.merge_backward
    )
    return backward(outputs, lse_tensors, out, lse, grad_out, grad_lse)


def _merge_backward_arrays(outputs, lse_tensors, out, lse, grad_out, grad_lse):
    grad_outputs = _each_like(outputs, "outputs")
    grad_lses = _each_like(lse_tensors, "lse_tensors")
    with _our_words():
        capi.natten_merge_backward(
            outputs, lse_tensors, out, lse, grad_out, grad_lse, grad_outputs, grad_lses,
            stream_of(grad_out),
        )
    return grad_outputs, grad_lses


# ---- plans ---------------------------------------------------------------------------


def plan(
    query,
    key,
    value=None,
    kernel_size=None,
    stride=1,
    dilation=1,
    is_causal=False,
    scale=None,
    additional_keys=None,
    *,
    operation="forward",
    grid_length=None,
    query_begin=None,
    key_begin=None,
    backend=None,
):
    """How a call would be made, in words: problem, backend, instruction set, tiles.

    Parameters
    ----------
    operation : "forward", "backward", "qk", "qk_backward", "av" or "av_backward"
        For the last two, query is attn and key is value.

    The others are those of :func:`na2d`; nothing is computed.

    Returns
    -------
    str : a fact a line

    Raises
    ------
    ValueError, TypeError : the call would not be legal; the sentence says why.
    """
    params = Params(
        _rank_of(query, "query"), kernel_size, stride, dilation, is_causal, scale,
        grid_length, query_begin, key_begin, backend,
    )
    query, key, value, additional_keys = (
        x.detach() if hasattr(x, "detach") else x
        for x in (query, key, value, additional_keys)
    )
    if operation not in _OPERATIONS:
        words = ", ".join(map(repr, _OPERATIONS))
        raise ValueError(f"operation: {operation!r} is not one of {words}")
    return capi.natten_plan_text(
        _with_modes(params), _OPERATIONS[operation], query, key, value, additional_keys
    )
