# SPDX-License-Identifier: MIT
"""What calls written for NATTEN say of its own backends: accepted, and ignored.

A tile shape, a schedule or a backend of another library means nothing here; a script
that names one still runs, and is told so once per process.
"""

import sys
import warnings
from typing import Any, Dict, Optional

__all__ = ["backend_of"]

_BACKENDS = {
    f"{family}-{kind}"
    for family in ("cutlass", "hopper", "blackwell", "flex")
    for kind in ("fna", "fmha")
}
_KEYWORDS = {
    "attention_kwargs",
    "q_tile_shape",
    "kv_tile_shape",
    "backward_q_tile_shape",
    "backward_kv_tile_shape",
    "q_tile_size",
    "kv_tile_size",
    "backward_q_tile_size",
    "backward_kv_tile_size",
    "backward_kv_splits",
    "backward_use_pt_reduction",
    "run_persistent_kernel",
    "kernel_schedule",
    "torch_compile",
    "use_autograd_fix",
}
_warned = False


def backend_of(backend: Optional[str], keywords: Dict[str, Any]) -> Optional[str]:
    """The backend that the library is asked for; TypeError for unknown keywords."""
    foreign = backend is not None and backend in _BACKENDS
    if not keywords and not foreign:
        return backend
    for name in keywords:
        if name not in _KEYWORDS:
            raise TypeError(f"unexpected keyword argument {name!r}")
    said = [name for name, value in keywords.items() if value is not None]
    if foreign:
        said.append(f"backend={backend!r}")
    # A warning would break the graph of torch.compile, which traces this.
    if said and not _traced_by_torch():
        _warn_once(", ".join(said))
    return None if foreign else backend


def _traced_by_torch() -> bool:
    torch = sys.modules.get("torch")
    is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", None)
    return is_compiling is not None and bool(is_compiling())


def _warn_once(what: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"ignored, because they name backends or tiles of another library: {what} "
            "(said once)",
            stacklevel=4,
        )
