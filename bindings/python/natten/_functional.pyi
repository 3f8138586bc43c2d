# SPDX-License-Identifier: MIT
"""The types of _functional.py: what each function takes, and what comes out when.

A test holds these signatures against the real ones.
"""

from typing import Any, List, Literal, NamedTuple, Optional, Sequence, Tuple, Union, overload

# A NumPy array, a torch tensor, or anything with the buffer protocol or DLPack; results
# are of query's kind.
Array = Any
# One value for all axes, or one for each.
PerAxis = Union[int, Sequence[int]]

__all__ = [
    "Gradients",
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
    rank: int
    kernel_size: object
    stride: object = ...
    dilation: object = ...
    is_causal: object = ...
    scale: object = ...
    grid_length: object = ...
    query_begin: object = ...
    key_begin: object = ...
    backend: object = ...
    flags: int = ...

class Gradients(NamedTuple):
    grad_query: Array = ...
    grad_key: Array = ...
    grad_value: Array = ...
    grad_bias: Array = ...
    grad_additional_keys: Array = ...
    grad_additional_values: Array = ...
    grad_attn: Array = ...

@overload
def na1d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: Literal[False] = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Array: ...
@overload
def na1d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: Literal[True],
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Tuple[Array, Array]: ...
@overload
def na1d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: bool,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Union[Array, Tuple[Array, Array]]: ...
@overload
def na2d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: Literal[False] = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Array: ...
@overload
def na2d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: Literal[True],
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Tuple[Array, Array]: ...
@overload
def na2d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: bool,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Union[Array, Tuple[Array, Array]]: ...
@overload
def na3d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: Literal[False] = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Array: ...
@overload
def na3d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: Literal[True],
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Tuple[Array, Array]: ...
@overload
def na3d(
    query: Array,
    key: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    return_lse: bool,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Union[Array, Tuple[Array, Array]]: ...
def na_backward(
    query: Array,
    key: Array,
    value: Array,
    grad_out: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    out: Optional[Array] = ...,
    lse: Optional[Array] = ...,
    grad_lse: Optional[Array] = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Gradients: ...
@overload
def attention(
    query: Array,
    key: Array,
    value: Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    bias: Optional[Array] = ...,
    return_lse: Literal[False] = ...,
    backend: Optional[str] = ...,
) -> Array: ...
@overload
def attention(
    query: Array,
    key: Array,
    value: Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    bias: Optional[Array] = ...,
    return_lse: Literal[True],
    backend: Optional[str] = ...,
) -> Tuple[Array, Array]: ...
@overload
def attention(
    query: Array,
    key: Array,
    value: Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    bias: Optional[Array] = ...,
    return_lse: bool,
    backend: Optional[str] = ...,
) -> Union[Array, Tuple[Array, Array]]: ...
def attention_backward(
    query: Array,
    key: Array,
    value: Array,
    grad_out: Array,
    is_causal: bool = ...,
    scale: Optional[float] = ...,
    *,
    additional_keys: Optional[Array] = ...,
    additional_values: Optional[Array] = ...,
    bias: Optional[Array] = ...,
    out: Optional[Array] = ...,
    lse: Optional[Array] = ...,
    grad_lse: Optional[Array] = ...,
    backend: Optional[str] = ...,
) -> Gradients: ...
def na_qk(
    query: Array,
    key: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Array: ...
def na_qk_backward(
    query: Array,
    key: Array,
    grad_attn: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    *,
    bias: Optional[Array] = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Gradients: ...
def na_av(
    attn: Array,
    value: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    additional_values: Optional[Array] = ...,
    *,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Array: ...
def na_av_backward(
    attn: Array,
    value: Array,
    grad_out: Array,
    kernel_size: PerAxis,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    additional_values: Optional[Array] = ...,
    *,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> Gradients: ...
def merge_attentions(
    outputs: Sequence[Array], lse_tensors: Sequence[Array]
) -> Tuple[Array, Array]: ...
def merge_attentions_backward(
    outputs: Sequence[Array],
    lse_tensors: Sequence[Array],
    grad_out: Array,
    *,
    out: Optional[Array] = ...,
    lse: Optional[Array] = ...,
    grad_lse: Optional[Array] = ...,
) -> Tuple[List[Array], List[Array]]: ...
def plan(
    query: Array,
    key: Array,
    value: Optional[Array] = ...,
    kernel_size: Optional[PerAxis] = ...,
    stride: PerAxis = ...,
    dilation: PerAxis = ...,
    is_causal: PerAxis = ...,
    scale: Optional[float] = ...,
    additional_keys: Optional[Array] = ...,
    *,
    operation: str = ...,
    grid_length: Optional[PerAxis] = ...,
    query_begin: Optional[PerAxis] = ...,
    key_begin: Optional[PerAxis] = ...,
    backend: Optional[str] = ...,
) -> str: ...
