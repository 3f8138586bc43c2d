# SPDX-License-Identifier: MIT
"""What calls written for NATTEN say of its own backends: accepted, and ignored.

A tile shape, a schedule or a backend of another library means nothing here, and neither
does a switch between its ways to compute; a script that names one still runs, and is
told so once per process.  One switch means something: that of tf32.
"""

import sys
import warnings
from typing import Any, Callable, Dict, Optional

from . import capi

__all__ = [
    "SWITCHES",
    "backend_of",
    "bias_of",
    "disable_tf32",
    "enable_tf32",
    "ignore",
    "switch",
    "use_tf32_in_gemm_na",
    "with_tf32",
]

_BACKENDS = {
    f"{family}-{kind}"
    for family in ("cutlass", "hopper", "blackwell", "flex")
    for kind in ("fna", "fmha")
}
_KEYWORDS = {
    "attention_kwargs",
    "xformers_kwargs",
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
#: Functions of NATTEN that choose among its own kernels, from 0.14 on.
SWITCHES = {
    "allow_flex_compile", "allow_flex_compile_backprop", "disable_autotuner",
    "disable_flex_compile", "disable_flex_compile_backprop", "disable_gemm_na",
    "disable_tiled_na", "enable_gemm_na", "enable_tiled_na", "force_flex_attention",
    "set_memory_usage_preference", "use_autotuner", "use_flex_attention", "use_fna",
    "use_fused_na", "use_gemm_na", "use_kv_parallelism_in_fused_na", "use_tiled_na",
}
_warned = False
_tf32 = False


def use_tf32_in_gemm_na(mode: bool = True) -> None:
    """Whether products of float32 arrays on a GPU may be in tf32: faster, with 11 bits.

    They are not until this is called, whatever torch says of its own matmul.
    """
    global _tf32
    _tf32 = bool(mode)


def enable_tf32() -> None:
    """The same as ``use_tf32_in_gemm_na(True)``."""
    use_tf32_in_gemm_na(True)


def disable_tf32() -> None:
    """The same as ``use_tf32_in_gemm_na(False)``."""
    use_tf32_in_gemm_na(False)


def with_tf32(params: Any) -> Any:
    """Params of a call that is made now."""
    if not _tf32:
        return params
    return params._replace(flags=params.flags | capi.NATTEN_FLAG_ALLOW_TF32)


def switch(name: str) -> Callable[..., None]:
    """One of SWITCHES: takes anything and does nothing."""

    def switched(*arguments: Any, **keywords: Any) -> None:
        ignore(f"{name}()")

    switched.__name__ = switched.__qualname__ = name
    switched.__doc__ = "Kept for scripts: there is nothing here that it could switch."
    return switched


def bias_of(bias: Any, keywords: Dict[str, Any]) -> Any:
    """bias, which NATTEN 0.17 called rpb; takes that out of the keywords."""
    rpb = keywords.pop("rpb", None)
    if bias is not None and rpb is not None:
        raise TypeError("bias and rpb are the same thing: give one")
    return rpb if bias is None else bias


def backend_of(backend: Optional[str], keywords: Dict[str, Any]) -> Optional[str]:
    """The backend that the library is asked for; TypeError for unknown keywords."""
    foreign = isinstance(backend, str) and backend in _BACKENDS
    if not keywords and not foreign:
        return backend
    for name in keywords:
        if name not in _KEYWORDS:
            raise TypeError(f"unexpected keyword argument {name!r}")
    said = [name for name, value in keywords.items() if value is not None]
    if foreign:
        said.append(f"backend={backend!r}")
    if said:
        ignore(", ".join(said))
    return None if foreign else backend


def _traced_by_torch() -> bool:
    torch = sys.modules.get("torch")
    is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", None)
    return is_compiling is not None and bool(is_compiling())


def ignore(what: str) -> None:
    """Say, the first time, that something is ignored."""
    global _warned
    # A warning would break the graph of torch.compile, which traces this.
    if not _traced_by_torch() and not _warned:
        _warned = True
        warnings.warn(
            f"ignored, because it is about kernels of another library: {what} "
            "(said once)",
            stacklevel=4,
        )
