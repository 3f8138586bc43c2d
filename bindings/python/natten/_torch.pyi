# SPDX-License-Identifier: MIT
"""Types of the operators of torch: none, so that checking natten needs no torch.

Users meet them through the functions of _functional.pyi.
"""

from typing import Any

def __getattr__(name: str) -> Any: ...
