# SPDX-License-Identifier: MIT
"""The functions of NATTEN's releases, old and new, under the names they had.

Today's (na1d, na2d, na3d, attention, merge_attentions) are those of ``natten``.  The
older ones are the unfused pair on heads-first arrays: tokens [batch, heads, axes...,
head_dim], weights [batch, heads, axes..., slots], additional tokens [batch, heads,
extras, head_dim]; they apply no scale.  They work on every kind of array that
``natten`` takes.
"""

from typing import Any, Callable, Sequence, Union

import numpy as np

from . import _functional, capi
from ._functional import attention, merge_attentions, na1d, na2d, na3d, na_av, na_qk

__all__ = [
    "are_deterministic_algorithms_enabled",
    "attention",
    "has_bfloat",
    "has_cuda",
    "has_fna",
    "has_gemm",
    "has_half",
    "merge_attentions",
    "na1d",
    "na1d_av",
    "na1d_qk",
    "na2d",
    "na2d_av",
    "na2d_qk",
    "na3d",
    "na3d_av",
    "na3d_qk",
    "natten1dav",
    "natten1dqk",
    "natten1dqkrpb",
    "natten2dav",
    "natten2dqk",
    "natten2dqkrpb",
    "natten3dav",
    "natten3dqk",
    "natten3dqkrpb",
    "use_deterministic_algorithms",
]

_PerAxis = Union[int, Sequence[int]]


def _moved(array: Any, source: int, target: int) -> Any:
    """A view with an axis elsewhere, of any kind of array."""
    if array is None:
        return None
    if hasattr(array, "movedim"):
        return array.movedim(source, target)
    if type(array).__module__.startswith("jax"):
        import jax  # type: ignore[import-not-found, unused-ignore]

        return jax.numpy.moveaxis(array, source, target)
    return np.moveaxis(array, source, target)


def _qk(rank: int) -> Callable[..., Any]:
    def qk(
        query: Any,
        key: Any,
        kernel_size: _PerAxis,
        dilation: _PerAxis = 1,
        additional_keys: Any = None,
        is_causal: _PerAxis = False,
        rpb: Any = None,
    ) -> Any:
        _of_rank(query, rank, "query")
        attn = na_qk(
            _moved(query, 1, -2),
            _moved(key, 1, -2),
            kernel_size,
            dilation=dilation,
            is_causal=is_causal,
            additional_keys=_moved(additional_keys, 1, 2),
            bias=rpb,
        )
        return _moved(attn, -2, 1)

    qk.__name__ = qk.__qualname__ = f"na{rank}d_qk"
    qk.__doc__ = f"""Logits of {rank}-D windows, heads first and without a scale.

    query, key [batch, heads, {rank} axes, head_dim] -> [batch, heads, {rank} axes,
    slots], slots in row-major order of the window, additional tokens last.
    additional_keys [batch, heads, extras, head_dim]; rpb [heads, 2 kernel_size - 1 per
    axis] is added. kernel_size and dilation are in tokens.

    Raises ValueError and TypeError as natten.na_qk, which also says what is computed.

    Source: definition.md, section 8.
    """
    return qk


def _av(rank: int) -> Callable[..., Any]:
    def av(
        attn: Any,
        value: Any,
        kernel_size: _PerAxis,
        dilation: _PerAxis = 1,
        additional_values: Any = None,
        is_causal: _PerAxis = False,
    ) -> Any:
        _of_rank(attn, rank, "attn")
        out = na_av(
            _moved(attn, 1, -2),
            _moved(value, 1, -2),
            kernel_size,
            dilation=dilation,
            is_causal=is_causal,
            additional_values=_moved(additional_values, 1, 2),
        )
        return _moved(out, -2, 1)

    av.__name__ = av.__qualname__ = f"na{rank}d_av"
    av.__doc__ = f"""Weights of {rank}-D windows times values, heads first.

    attn [batch, heads, {rank} axes, slots], value [batch, heads, {rank} axes,
    head_dim_v] -> [batch, heads, {rank} axes, head_dim_v]; additional_values [batch,
    heads, extras, head_dim_v]. kernel_size and dilation are in tokens.

    Raises ValueError and TypeError as natten.na_av, which also says what is computed.

    Source: definition.md, section 8.
    """
    return av


def _of_rank(array: Any, rank: int, name: str) -> None:
    if len(array.shape) != rank + 3:
        raise ValueError(
            f"{name}: shape {tuple(array.shape)}, [batch, heads, {rank} axes, .] wanted"
        )


def _qkrpb(rank: int, qk: Callable[..., Any]) -> Callable[..., Any]:
    def qkrpb(
        query: Any, key: Any, rpb: Any, kernel_size: _PerAxis, dilation: _PerAxis = 1
    ) -> Any:
        return qk(query, key, kernel_size, dilation, rpb=rpb)

    qkrpb.__name__ = qkrpb.__qualname__ = f"natten{rank}dqkrpb"
    qkrpb.__doc__ = f"na{rank}d_qk with rpb as the third argument; rpb may be None."
    return qkrpb


na1d_qk, na2d_qk, na3d_qk = _qk(1), _qk(2), _qk(3)
na1d_av, na2d_av, na3d_av = _av(1), _av(2), _av(3)
natten1dqk, natten2dqk, natten3dqk = na1d_qk, na2d_qk, na3d_qk
natten1dav, natten2dav, natten3dav = na1d_av, na2d_av, na3d_av
natten1dqkrpb = _qkrpb(1, na1d_qk)
natten2dqkrpb = _qkrpb(2, na2d_qk)
natten3dqkrpb = _qkrpb(3, na3d_qk)


# ---- probes and modes ----------------------------------------------------------------

def has_cuda() -> bool:
    """Whether a GPU can be used, by this build and on this machine."""
    return bool(capi.natten_device_count() > 0)


def has_half() -> bool:
    """Whether fp16 works: always."""
    return True


def has_bfloat() -> bool:
    """Whether bf16 works: always."""
    return True


def has_gemm() -> bool:
    """Whether the GPU's matrix units are used."""
    return has_cuda()


def has_fna() -> bool:
    """Whether fused operations exist: always."""
    return True


def use_deterministic_algorithms(mode: bool = True) -> None:
    """Whether the same call gives the same bits, as it does at first.

    False allows gradients on a GPU whose last bits differ from call to call where that
    is faster; torch.use_deterministic_algorithms(True) takes it back.
    """
    _functional.deterministic = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """What :func:`use_deterministic_algorithms` was last told; True at first."""
    return _functional.deterministic
