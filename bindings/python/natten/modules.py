# SPDX-License-Identifier: MIT
"""Neighborhood attention as modules of torch, for models of every era of NATTEN.

One class per number of axes takes three constructors; :func:`_arguments` tells them
apart, and is the only place that does.  ``Legacy...`` are the same modules in plain
torch operations, by unfolding: a second opinion, and a baseline for memory and time.

Input and output are [batch, axes..., dim].  state_dict holds qkv.weight [3 dim, dim],
qkv.bias, proj.weight, proj.bias, and rpb [heads, 2 kernel_size - 1 per axis] where
there is a relative position bias.
"""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor, nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import (  # type: ignore[import-not-found, unused-ignore]
    functional as F,
)

from . import _upstream
from ._functional import (
    _integer, _integers, _number, na1d, na2d, na3d, na_av, na_qk,
)

__all__ = [
    "LegacyNeighborhoodAttention",
    "LegacyNeighborhoodAttention1D",
    "LegacyNeighborhoodAttention2D",
    "NeighborhoodAttention",
    "NeighborhoodAttention1D",
    "NeighborhoodAttention2D",
    "NeighborhoodAttention3D",
]

# What follows the first three positions, era by era.
_Names = Tuple[str, ...]
_ORIGINAL: _Names = "qkv_bias", "qk_scale", "attn_drop", "proj_drop", "dilation"
_EARLIER: _Names = (
    "dilation", "bias", "qkv_bias", "qk_scale", "attn_drop", "proj_drop",
)
_MIDDLE: _Names = (
    "dilation", "is_causal", "rel_pos_bias", "qkv_bias", "qk_scale", "attn_drop",
    "proj_drop",
)
_TODAY: _Names = (
    "stride", "dilation", "is_causal", "qkv_bias", "qk_scale", "proj_drop",
)
_KEYWORDS = {
    "dim", "embed_dim", "num_heads", "kernel_size", "strict", *_ORIGINAL, *_EARLIER,
    *_MIDDLE, *_TODAY,
}


def _is_flag(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(isinstance(v, bool) for v in value)
    return isinstance(value, bool)


def _heads_come_second(dim: int, second: Any, third: Any) -> bool:
    """Whether (dim, second, third) is (dim, num_heads, kernel_size).

    Decided by what can't be a number of heads: a tuple, or what does not divide dim.
    Two equal numbers are told apart too, because the first releases had a bias there.
    """
    def heads(value: Any) -> bool:
        return isinstance(value, int) and value > 0 and dim % value == 0

    if heads(second) != heads(third):
        return heads(second)
    if not heads(second):
        raise ValueError(f"neither {second} nor {third} heads divide dim {dim}")
    raise TypeError(
        f"({dim}, {second}, {third}) may be (dim, kernel_size, num_heads), as in the "
        "first releases of NATTEN, or (dim, num_heads, kernel_size), as in later ones: "
        "give kernel_size= and num_heads= by name"
    )


def _names_are_original(names: Dict[str, Any]) -> bool:
    """Whether (dim, kernel_size=, num_heads=, ...) has the names of the first releases.

    All releases take that much, and only the first had a bias there unasked.  Today's
    have no attn_drop and refuse None as dilation; the first ones had neither stride nor
    is_causal.
    """
    if {"stride", "is_causal"} & set(names):
        return False
    return "attn_drop" in names or names.get("dilation", 1) is None


def _later_names(rest: Sequence[Any]) -> _Names:
    """What positions after (dim, num_heads, kernel_size) mean.

    A flag in the second place is of one of two releases: the earlier one had bias and
    qkv_bias there, and then a number; the later one is_causal, which alone may be of
    several axes, and two flags more.
    """
    if len(rest) == 1:
        raise TypeError(
            f"{rest[0]} after kernel_size may be stride, as today, or dilation, as "
            "before: give it by name"
        )
    if not rest or not _is_flag(rest[1]):
        return _TODAY
    if not isinstance(rest[1], bool):
        return _MIDDLE
    if len(rest) > 3:
        return _MIDDLE if isinstance(rest[3], bool) else _EARLIER
    if len(rest) == 2 and not rest[1]:
        return _MIDDLE  # no bias and not causal, in both
    raise TypeError(
        f"{rest[1]} after dilation may be bias, or is_causal as in later releases of "
        "NATTEN: give it by name"
    )


def _at_least(least: int, value: Any, name: str) -> int:
    number = _integer(value, name)
    if number < least:
        raise ValueError(f"{name}={number} is less than {least}")
    return number


def _arguments(positions: Sequence[Any], names: Dict[str, Any]) -> Dict[str, Any]:
    """The arguments of any era by name, `bias` saying whether there is an rpb."""
    given = dict(names)
    if given.pop("use_experimental_ops", False):
        _upstream.ignore("use_experimental_ops")
    for name in given:
        if name not in _KEYWORDS:
            raise TypeError(f"unexpected keyword argument {name!r}")

    def put(name: str, value: Any) -> None:
        if name in given:
            raise TypeError(f"{name} is given twice")
        given[name] = value

    args = list(positions)
    original = "dim" in given
    if "dim" in given:
        put("embed_dim", given.pop("dim"))
    elif args:
        put("embed_dim", args.pop(0))
    if "embed_dim" in given:
        name = "embed_dim" if "embed_dim" in names else "dim"
        given["embed_dim"] = _at_least(1, given["embed_dim"], name)
    if args and ("num_heads" in given or "kernel_size" in given):
        missing = {"num_heads", "kernel_size"} - set(given)
        if len(args) > 1 or not missing:
            raise TypeError(
                "positions after kernel_size and num_heads mean one thing in one "
                "release of NATTEN and another in the next: give them by name"
            )
        (name,) = missing
        put(name, args.pop())
        # Only the first releases had kernel_size there.
        original |= name == "kernel_size"
    elif len(args) == 1:
        raise TypeError(
            f"({given['embed_dim']}, {args[0]}): num_heads or kernel_size? give both "
            "by name"
        )
    elif positions and not args:
        original |= _names_are_original(given)
    elif args:
        second, third, *rest = args
        either = second == third and {"bias", "rel_pos_bias"} & set(given)
        if either or _heads_come_second(given["embed_dim"], second, third):
            put("num_heads", second)
            put("kernel_size", third)
            rest_names = _later_names(rest)
        else:
            put("kernel_size", second)
            put("num_heads", third)
            rest_names, original = _ORIGINAL, True
        if len(rest) > len(rest_names):
            raise TypeError("too many arguments")
        for name, value in zip(rest_names, rest):
            put(name, value)
    for name in ("embed_dim", "num_heads", "kernel_size"):
        if name not in given:
            raise TypeError(f"{name} is missing")
    flags = [given.pop(n) for n in ("rel_pos_bias", "bias") if n in given]
    if len(flags) == 2 and flags[0] != flags[1]:
        raise TypeError("rel_pos_bias and bias are the same thing, and disagree")
    given["bias"] = bool(flags[0]) if flags else original
    return given


def _per_axis(
    value: Any, rank: int, name: str, most: Optional[Sequence[int]] = None
) -> Tuple[int, ...]:
    """Positive integers, one for each axis, none above `most`."""
    if value is None:
        raise TypeError(f"{name}: an integer or one for each axis is wanted, not None")
    values = tuple(_at_least(1, v, name) for v in _integers(value, rank, name))
    for v, limit in zip(values, most or ()):
        if v > limit:
            raise ValueError(f"{name}={v} not in [1, {limit}] (kernel_size {limit})")
    return values


def _causal(value: Any, rank: int) -> Tuple[bool, ...]:
    values = _integers(value, rank, "is_causal") or [0] * rank
    for v in values:
        if v not in (0, 1):
            raise ValueError(f"is_causal={v} not in [0, 1]")
    return tuple(map(bool, values))


def _scale(qk_scale: Any, head_dim: int) -> float:
    scale = _number(qk_scale, "qk_scale")
    if scale is None:
        return float(head_dim**-0.5)
    if not math.isfinite(scale):
        raise ValueError(f"qk_scale={scale}: a finite number or None is wanted")
    return scale


class _NeighborhoodAttention(nn.Module):  # type: ignore[misc, unused-ignore]
    """qkv projection, neighborhood attention, output projection."""

    rank: int
    kernel_size: Tuple[int, ...]
    stride: Tuple[int, ...]
    dilation: Tuple[int, ...]
    is_causal: Tuple[bool, ...]
    rpb: Optional[nn.Parameter]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._construct(**_arguments(args, kwargs))

    def _construct(
        self, embed_dim: int, num_heads: int, kernel_size: Any, bias: bool,
        stride: Any = 1, dilation: Any = 1, is_causal: Any = False,
        qkv_bias: bool = True, qk_scale: Optional[float] = None,
        attn_drop: float = 0.0, proj_drop: float = 0.0, strict: bool = False,
    ) -> None:
        num_heads = _at_least(1, num_heads, "num_heads")
        if embed_dim % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide dim {embed_dim}")
        self.embed_dim = self.dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.scale = _scale(qk_scale, self.head_dim)
        rank = self.rank
        self.kernel_size = _per_axis(kernel_size, rank, "kernel_size")
        self.stride = _per_axis(stride, rank, "stride", self.kernel_size)
        self.dilation = _per_axis(1 if dilation is None else dilation, rank, "dilation")
        self.is_causal = _causal(is_causal, rank)
        self.strict = strict
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        if bias:
            self.rpb = self._new_rpb()
            nn.init.trunc_normal_(self.rpb, std=0.02, mean=0.0, a=-2.0, b=2.0)
        else:
            self.register_parameter("rpb", None)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def _new_rpb(self) -> nn.Parameter:
        sizes = [2 * k - 1 for k in self.kernel_size]
        return nn.Parameter(self.qkv.weight.new_zeros(self.num_heads, *sizes))

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        # A checkpoint decides whether there is a bias: models of all eras load as they
        # are.  Optimizers have to be made after loading.
        given = state_dict.get(prefix + "rpb")
        if given is not None and self.rpb is None:
            self.rpb = self._new_rpb()
        elif given is None and prefix + "qkv.weight" in state_dict:
            self.rpb = None
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != self.rank + 2:
            raise ValueError(
                f"input {tuple(x.shape)}: [batch, {self.rank} axes, dim] is wanted"
            )
        lengths = x.shape[1:-1]
        # Windows longer than the grid: zeros to the right, before the projection, which
        # makes real tokens of them, as the first releases had it.
        missing = [
            max(0, k * d - length)
            for k, d, length in zip(self.kernel_size, self.dilation, lengths)
        ]
        if any(missing):
            if self.strict:
                raise ValueError(
                    f"kernel_size {self.kernel_size} with dilation {self.dilation} is "
                    f"longer than the grid, {tuple(lengths)}, and strict is set"
                )
            pads = [p for m in reversed(missing) for p in (0, m)]
            x = F.pad(x, (0, 0, *pads))
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.unbind(-3)
        x = self._attend(q, k, v, self._bias(q)).flatten(-2)
        if any(missing):
            for axis, length in enumerate(lengths, 1):
                x = x.narrow(axis, 0, length)
        result: Tensor = self.proj_drop(self.proj(x))
        return result

    def _bias(self, query: Tensor) -> Optional[Tensor]:
        """rpb in the type that the operations take it in."""
        if self.rpb is None:
            return None
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        return self.rpb.to(wide)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Optional[Tensor]
    ) -> Tensor:
        window = (self.kernel_size, self.stride, self.dilation, self.is_causal)
        if self.training and self.attn_drop.p > 0:
            attn = na_qk(q, k, *window, scale=self.scale, bias=bias)
            weights = self.attn_drop(attn.softmax(-1).to(q.dtype))
            out: Tensor = na_av(weights, v, *window)
            return out
        na: Any = (na1d, na2d, na3d)[self.rank - 1]
        out = na(q, k, v, *window, scale=self.scale, bias=bias)
        return out

    def extra_repr(self) -> str:
        return (
            f"head_dim={self.head_dim}, num_heads={self.num_heads}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"dilation={self.dilation}, is_causal={self.is_causal}, "
            f"rel_pos_bias={self.rpb is not None}"
        )


_CONSTRUCTORS = """
    Takes the arguments of every era, by name:

    embed_dim or dim, num_heads, kernel_size, stride=1, dilation=1, is_causal=False,
    qkv_bias=True, qk_scale=None, attn_drop=0.0, proj_drop=0.0, rel_pos_bias or bias,
    strict=False

    By position, (dim, kernel_size, num_heads, ...) of the first releases and (dim,
    num_heads, kernel_size, ...) of the later ones are told apart by which number
    divides dim; where both do, and where a further position means two things,
    TypeError asks for names.

    There is a relative position bias if rel_pos_bias or bias says so. When neither is
    given, there is one if the call is of the first releases: if `dim` is named, if
    kernel_size is second by position, or if dim alone is by position and attn_drop or
    dilation=None named, which today's releases do not take, and neither stride nor
    is_causal; else there is none, as today. A state_dict that is loaded decides anew.
    qk_scale None means head_dim ** -0.5. Grids shorter than
    kernel_size * dilation are padded with zeros to the right and cropped, or refused if
    strict. attn_drop > 0 takes the unfused operations, in training.

    Shapes: [batch, {axes}, dim] in and out.

    Raises ValueError and TypeError that name the argument.

    Source: A. Hassani et al., "Neighborhood Attention Transformer", CVPR 2023; A.
    Hassani and H. Shi, "Dilated Neighborhood Attention Transformer", 2022.
    """


class NeighborhoodAttention1D(_NeighborhoodAttention):
    __doc__ = "Neighborhood attention on sequences.\n" + _CONSTRUCTORS.format(
        axes="length"
    )
    rank = 1


class NeighborhoodAttention2D(_NeighborhoodAttention):
    __doc__ = "Neighborhood attention on images.\n" + _CONSTRUCTORS.format(
        axes="height, width"
    )
    rank = 2


class NeighborhoodAttention3D(_NeighborhoodAttention):
    __doc__ = "Neighborhood attention on volumes and videos.\n" + _CONSTRUCTORS.format(
        axes="depth, height, width"
    )
    rank = 3


class _Legacy(_NeighborhoodAttention):
    """The same in operations of torch alone: every window is copied out."""

    def _construct(self, *args: Any, **kwargs: Any) -> None:
        super()._construct(*args, **kwargs)
        if set(self.stride) != {1} or any(self.is_causal):
            raise ValueError("Legacy modules know neither stride nor causal axes")

    def _starts(
        self, axis: int, length: int, device: torch.device
    ) -> Tuple[Tensor, Tensor]:
        """First token of each query's window, and its bias index."""
        k, d = self.kernel_size[axis], self.dilation[axis]
        tokens = torch.arange(length, device=device)
        position, residue = tokens // d, tokens % d
        longest = (length - residue + d - 1) // d
        begin = torch.minimum((position - k // 2).clamp(min=0), longest - k)
        return residue + begin * d, begin - position + k - 1

    def _windows(self, x: Tensor, starts: List[Tensor]) -> Tensor:
        """[batch, axes..., heads, head_dim, kernel_size...]."""
        for axis, start in enumerate(starts):
            k, d = self.kernel_size[axis], self.dilation[axis]
            full = x.unfold(axis + 1, (k - 1) * d + 1, 1)[..., ::d]
            # At a border, the nearest window that is whole.
            x = full.index_select(axis + 1, start)
        return x

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Optional[Tensor]
    ) -> Tensor:
        lengths = q.shape[1:-2]
        found = [self._starts(a, n, q.device) for a, n in enumerate(lengths)]
        starts = [start for start, _ in found]
        keys, values = (self._windows(x, starts).flatten(-self.rank) for x in (k, v))
        logits = torch.einsum("...d,...dt->...t", q * self.scale, keys)
        if bias is not None:
            logits = logits + self._bias_of(bias, [index for _, index in found])
        attn = self.attn_drop(logits.softmax(-1).to(values.dtype))
        return torch.einsum("...t,...dt->...d", attn, values)

    def _bias_of(self, bias: Tensor, first: List[Tensor]) -> Tensor:
        """The bias of each query's window, [axes..., heads, slots]."""
        index: List[Any] = [slice(None)]
        for axis, begin in enumerate(first):
            own = begin[:, None] + torch.arange(
                self.kernel_size[axis], device=begin.device
            )
            shape = [1] * (2 * self.rank)
            shape[axis], shape[axis + self.rank] = own.shape
            index.append(own.view(shape))
        picked = bias[tuple(index)]
        return picked.flatten(-self.rank).movedim(0, -2)


_LEGACY = """Neighborhood attention on {what} in plain torch, by unfolding.

    The arguments, state_dict, shapes, errors and source of NeighborhoodAttention{rank}D
    without stride and causal axes, which ValueError refuses. Memory grows with the
    tokens times the window.
    """


class LegacyNeighborhoodAttention1D(_Legacy):
    __doc__ = _LEGACY.format(what="sequences", rank=1)

    rank = 1


class LegacyNeighborhoodAttention2D(_Legacy):
    __doc__ = _LEGACY.format(what="images", rank=2)

    rank = 2


# Deprecated spellings, from when there were images alone.
NeighborhoodAttention = NeighborhoodAttention2D
LegacyNeighborhoodAttention = LegacyNeighborhoodAttention2D
