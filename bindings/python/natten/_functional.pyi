# SPDX-License-Identifier: MIT
"""The types of _functional.py: what each function takes, and what comes out when.

A test holds these signatures against the real ones.

Length: an overload for each kind of result, and an argument a line; a stub goes with
the whole of its module.
"""

from typing import (
    Any,
    Iterable,
    List,
    Literal,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
    overload,
)

# A NumPy array, a torch tensor, or anything with the buffer protocol or DLPack; results
# are of query's kind.
_Array = Any
# One value for all axes, or one for each.
_PerAxis = Union[int, Sequence[int]]

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

deterministic: bool

class Params(NamedTuple):
    rank: int
    kernel_size: Any
    stride: Any = ...
    dilation: Any = ...
    is_causal: Any = ...
    scale: Any = ...
    grid_length: Any = ...
    query_begin: Any = ...
    key_begin: Any = ...
    backend: Any = ...
    flags: int = ...

class Gradients(NamedTuple):
    grad_query: _Array
    grad_key: _Array
    grad_value: _Array
    grad_bias: _Array
    grad_additional_keys: _Array
    grad_additional_values: _Array

class QKGradients(NamedTuple):
    grad_query: _Array
    grad_key: _Array
    grad_bias: _Array
    grad_additional_keys: _Array

class AVGradients(NamedTuple):
    grad_attn: _Array
    grad_value: _Array
    grad_additional_values: _Array

@overload
def na1d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: Literal[False] = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> _Array: ...
@overload
def na1d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: Literal[True],
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> Tuple[_Array, _Array]: ...
@overload
def na1d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: bool,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> Union[_Array, Tuple[_Array, _Array]]: ...
@overload
def na2d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: Literal[False] = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> _Array: ...
@overload
def na2d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: Literal[True],
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> Tuple[_Array, _Array]: ...
@overload
def na2d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: bool,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> Union[_Array, Tuple[_Array, _Array]]: ...
@overload
def na3d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: Literal[False] = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> _Array: ...
@overload
def na3d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: Literal[True],
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> Tuple[_Array, _Array]: ...
@overload
def na3d(
    query: _Array,
    key: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    return_lse: bool,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
    **ignored: Any,
) -> Union[_Array, Tuple[_Array, _Array]]: ...
def na_backward(
    query: _Array,
    key: _Array,
    value: _Array,
    grad_out: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    out: Optional[_Array] = ...,
    lse: Optional[_Array] = ...,
    grad_lse: Optional[_Array] = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
    device: Optional[str] = ...,
) -> Gradients: ...
@overload
def attention(
    query: _Array,
    key: _Array,
    value: _Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    bias: Optional[_Array] = ...,
    seqlens_Q: Optional[Iterable[Any]] = ...,
    seqlens_KV: Optional[Iterable[Any]] = ...,
    cumulative_seqlen_Q: Optional[Iterable[Any]] = ...,
    cumulative_seqlen_KV: Optional[Iterable[Any]] = ...,
    max_seqlen_Q: Optional[int] = ...,
    max_seqlen_KV: Optional[int] = ...,
    return_lse: Literal[False] = ...,
    backend: Optional[str] = ...,
    **ignored: Any,
) -> _Array: ...
@overload
def attention(
    query: _Array,
    key: _Array,
    value: _Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    bias: Optional[_Array] = ...,
    seqlens_Q: Optional[Iterable[Any]] = ...,
    seqlens_KV: Optional[Iterable[Any]] = ...,
    cumulative_seqlen_Q: Optional[Iterable[Any]] = ...,
    cumulative_seqlen_KV: Optional[Iterable[Any]] = ...,
    max_seqlen_Q: Optional[int] = ...,
    max_seqlen_KV: Optional[int] = ...,
    return_lse: Literal[True],
    backend: Optional[str] = ...,
    **ignored: Any,
) -> Tuple[_Array, _Array]: ...
@overload
def attention(
    query: _Array,
    key: _Array,
    value: _Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    bias: Optional[_Array] = ...,
    seqlens_Q: Optional[Iterable[Any]] = ...,
    seqlens_KV: Optional[Iterable[Any]] = ...,
    cumulative_seqlen_Q: Optional[Iterable[Any]] = ...,
    cumulative_seqlen_KV: Optional[Iterable[Any]] = ...,
    max_seqlen_Q: Optional[int] = ...,
    max_seqlen_KV: Optional[int] = ...,
    return_lse: bool,
    backend: Optional[str] = ...,
    **ignored: Any,
) -> Union[_Array, Tuple[_Array, _Array]]: ...
def attention_backward(
    query: _Array,
    key: _Array,
    value: _Array,
    grad_out: _Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[_Array] = ...,
    additional_values: Optional[_Array] = ...,
    bias: Optional[_Array] = ...,
    out: Optional[_Array] = ...,
    lse: Optional[_Array] = ...,
    grad_lse: Optional[_Array] = ...,
    backend: Optional[str] = ...,
) -> Gradients: ...
def na_qk(
    query: _Array,
    key: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
) -> _Array: ...
def na_qk_backward(
    query: _Array,
    key: _Array,
    grad_attn: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    *,
    bias: Optional[_Array] = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
) -> QKGradients: ...
def na_av(
    attn: _Array,
    value: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    additional_values: Optional[_Array] = ...,
    *,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
) -> _Array: ...
def na_av_backward(
    attn: _Array,
    value: _Array,
    grad_out: _Array,
    kernel_size: _PerAxis,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    additional_values: Optional[_Array] = ...,
    *,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
) -> AVGradients: ...
def merge_attentions(
    outputs: Sequence[_Array], lse_tensors: Sequence[_Array], **ignored: Any
) -> Tuple[_Array, _Array]: ...
def merge_attentions_backward(
    outputs: Sequence[_Array],
    lse_tensors: Sequence[_Array],
    grad_out: _Array,
    *,
    out: Optional[_Array] = ...,
    lse: Optional[_Array] = ...,
    grad_lse: Optional[_Array] = ...,
) -> Tuple[List[_Array], List[_Array]]: ...
def plan(
    query: _Array,
    key: _Array,
    value: Optional[_Array] = ...,
    kernel_size: Optional[_PerAxis] = ...,
    stride: _PerAxis = ...,
    dilation: _PerAxis = ...,
    is_causal: _PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[_Array] = ...,
    *,
    operation: str = ...,
    grid_length: Optional[_PerAxis] = ...,
    query_begin: Optional[_PerAxis] = ...,
    key_begin: Optional[_PerAxis] = ...,
    backend: Optional[str] = ...,
) -> str: ...

# ---- what the operators of torch and JAX are made of ---------------------------------

def listed(params: Params) -> Params: ...
def _integers(value: Any, rank: int, name: str) -> List[int]: ...
def _integer(value: Any, name: str) -> int: ...
def _number(value: Any, name: str = ...) -> Optional[float]: ...
def _forward_arrays(
    params: Params,
    query: _Array,
    key: _Array,
    value: _Array,
    bias: _Array,
    additional_keys: _Array,
    additional_values: _Array,
    want_lse: bool,
    device: Optional[str] = ...,
) -> Tuple[_Array, _Array]: ...
def _backward_arrays(
    params: Params,
    query: _Array,
    key: _Array,
    value: _Array,
    bias: _Array,
    additional_keys: _Array,
    additional_values: _Array,
    out: _Array,
    lse: _Array,
    grad_out: _Array,
    grad_lse: _Array,
    device: Optional[str] = ...,
) -> Gradients: ...
def _qk_arrays(
    params: Params, query: _Array, key: _Array, bias: _Array, additional_keys: _Array
) -> _Array: ...
def _qk_backward_arrays(
    params: Params,
    query: _Array,
    key: _Array,
    bias: _Array,
    additional_keys: _Array,
    grad_attn: _Array,
) -> QKGradients: ...
def _av_arrays(
    params: Params, attn: _Array, value: _Array, additional_values: _Array
) -> _Array: ...
def _av_backward_arrays(
    params: Params,
    attn: _Array,
    value: _Array,
    additional_values: _Array,
    grad_out: _Array,
) -> AVGradients: ...
def _merge_arrays(
    outputs: Sequence[_Array], lse_tensors: Sequence[_Array]
) -> Tuple[_Array, _Array]: ...
def _merge_backward_arrays(
    outputs: Sequence[_Array],
    lse_tensors: Sequence[_Array],
    out: _Array,
    lse: _Array,
    grad_out: _Array,
    grad_lse: _Array,
) -> Tuple[List[_Array], List[_Array]]: ...
