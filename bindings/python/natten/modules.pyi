# SPDX-License-Identifier: MIT
"""The types of modules.py.  Constructors take three eras' arguments, so any."""

from typing import Any, Tuple

import torch  # type: ignore[import-not-found, unused-ignore]

class _NeighborhoodAttention(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    rank: int
    embed_dim: int
    dim: int
    num_heads: int
    head_dim: int
    scale: float
    kernel_size: Tuple[int, ...]
    stride: Tuple[int, ...]
    dilation: Tuple[int, ...]
    is_causal: Tuple[bool, ...]
    strict: bool
    qkv: torch.nn.Linear
    proj: torch.nn.Linear
    rpb: Any
    attn_drop: torch.nn.Dropout
    proj_drop: torch.nn.Dropout
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...

class NeighborhoodAttention1D(_NeighborhoodAttention): ...
class NeighborhoodAttention2D(_NeighborhoodAttention): ...
class NeighborhoodAttention3D(_NeighborhoodAttention): ...
class LegacyNeighborhoodAttention1D(_NeighborhoodAttention): ...
class LegacyNeighborhoodAttention2D(_NeighborhoodAttention): ...

NeighborhoodAttention = NeighborhoodAttention2D
LegacyNeighborhoodAttention = LegacyNeighborhoodAttention2D

__all__ = [
    "LegacyNeighborhoodAttention",
    "LegacyNeighborhoodAttention1D",
    "LegacyNeighborhoodAttention2D",
    "NeighborhoodAttention",
    "NeighborhoodAttention1D",
    "NeighborhoodAttention2D",
    "NeighborhoodAttention3D",
]
