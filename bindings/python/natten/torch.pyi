# SPDX-License-Identifier: MIT
"""The types of natten.torch: the modules'."""

from typing import Any

from .modules import LegacyNeighborhoodAttention as LegacyNeighborhoodAttention
from .modules import LegacyNeighborhoodAttention1D as LegacyNeighborhoodAttention1D
from .modules import LegacyNeighborhoodAttention2D as LegacyNeighborhoodAttention2D
from .modules import NeighborhoodAttention as NeighborhoodAttention
from .modules import NeighborhoodAttention1D as NeighborhoodAttention1D
from .modules import NeighborhoodAttention2D as NeighborhoodAttention2D
from .modules import NeighborhoodAttention3D as NeighborhoodAttention3D

operators: Any
