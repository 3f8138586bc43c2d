# SPDX-License-Identifier: MIT
"""Types of the operators of JAX: none, so that checking natten needs no JAX.

Users meet them through the functions of _functional.pyi.
"""

from typing import Any

def __getattr__(name: str) -> Any: ...
