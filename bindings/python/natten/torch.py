# SPDX-License-Identifier: MIT
"""natten.torch: the modules, and torch's operators registered; imports torch.

Importing this makes ``torch.ops.natten`` exist, for programs that load exported graphs.
"""

from . import _torch, modules
from .modules import *  # noqa: F403

__all__ = list(modules.__all__)
operators = _torch.ops
