# SPDX-License-Identifier: MIT
"""Which arrays come out: of the kind that went in.

Inputs are lent to the library as they are, by ``natten.capi``.  Outputs are made here,
next to the first input: a torch tensor for a torch tensor, an array of CuPy for one of
CuPy's, else a NumPy array.  torch and CuPy are looked up among the modules that are
loaded already, never imported; a further kind of array is one more entry in
:data:`_KINDS`.
"""

import sys
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import capi

__all__ = ["Described", "Maker", "describe", "maker_like", "stream_of"]

#: Makes an uninitialised array of a shape and an element type ("float32").
Maker = Callable[[Sequence[int], str], Any]


class Described(NamedTuple):
    """What there is to know of an array before another one is made."""

    shape: Tuple[int, ...]
    dtype: str

    @property
    def accumulator(self) -> str:
        """Element type of lse and bias: float64 for float64, else float32."""
        return "float64" if self.dtype == "float64" else "float32"


def describe(array: Any, name: str) -> Described:
    """Shape and element type of anything with the buffer protocol or DLPack.

    Raises TypeError or ValueError that begin with `name` when the library can't be lent
    the array.
    """
    shape, dtype = capi.describe(array, name)
    return Described(shape, dtype)


def _numpy_maker(example: Any) -> Optional[Maker]:
    if not isinstance(example, np.ndarray) and _is_on_gpu(example):
        kind = type(example).__name__
        raise TypeError(
            f"{kind}: natten makes results on a GPU for torch and CuPy; give it a view "
            "of theirs"
        )

    def make(shape: Sequence[int], dtype: str) -> Any:
        return np.empty(shape, _numpy_dtype(dtype))

    return make


def _numpy_dtype(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("NumPy arrays of bfloat16 need the package ml_dtypes") from None
    return ml_dtypes.bfloat16


def _torch_maker(example: Any) -> Optional[Maker]:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(example, torch.Tensor):
        return None

    def make(shape: Sequence[int], dtype: str) -> Any:
        return torch.empty(
            tuple(shape), dtype=getattr(torch, dtype), device=example.device
        )

    return make


def _cupy_maker(example: Any) -> Optional[Maker]:
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(example, cupy.ndarray):
        return None

    def make(shape: Sequence[int], dtype: str) -> Any:
        with example.device:
            return cupy.empty(tuple(shape), _numpy_dtype(dtype))

    return make


def _is_on_gpu(array: Any) -> bool:
    """By its own word; only torch and CuPy have arrays there that are known here."""
    device = getattr(array, "__dlpack_device__", None)
    return device is not None and int(device()[0]) == capi.NATTEN_CUDA


# Asked in this order; NumPy's answers for everything that is left.
_KINDS: List[Callable[[Any], Optional[Maker]]] = [
    _torch_maker, _cupy_maker, _numpy_maker,
]


def maker_like(example: Any) -> Maker:
    """The maker of arrays of the same kind, on the same device, as `example`."""
    return next(make for kind in _KINDS if (make := kind(example)) is not None)


def stream_of(example: Any) -> Optional[int]:
    """The stream that a call on arrays like `example` belongs on: the current one of
    torch or CuPy on the array's GPU; None for memory of the host."""
    torch, cupy = (sys.modules.get(name) for name in ("torch", "cupy"))
    if torch is not None and isinstance(example, torch.Tensor) and example.is_cuda:
        return int(torch.cuda.current_stream(example.device).cuda_stream)
    if cupy is not None and isinstance(example, cupy.ndarray):
        with example.device:
            return int(cupy.cuda.get_current_stream().ptr)
    return None
