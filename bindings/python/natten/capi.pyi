# SPDX-License-Identifier: MIT
"""Types of the generated layer: none.

SWIG writes capi.py from natten.h, a function per function of C; their documentation is the
header's.  Naming them here again would be a second copy to keep.
"""

from typing import Any

def __getattr__(name: str) -> Any: ...
