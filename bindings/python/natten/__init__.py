# SPDX-License-Identifier: MIT
"""Neighborhood attention on 1-D, 2-D and 3-D grids, forward and backward.

Each token of a grid attends to the window around it.  What is computed, to the last
border, is docs/definition.md of libnatten; ``docs/python.md`` shows this package at
work.

    >>> import numpy as np, natten
    >>> q, k, v = (np.random.rand(1, 56, 56, 4, 32).astype("f4") for _ in range(3))
    >>> natten.na2d(q, k, v, kernel_size=7).shape
    (1, 56, 56, 4, 32)

Which axis is where (row-major, heads last):

    ========================================  ==========================================
    query, out, grad_query, grad_out          [batch, axes..., heads, head_dim]
    key, value and their gradients            [batch, axes..., heads_kv, head_dim]
    additional_keys, additional_values        [batch, extras, heads_kv, head_dim]
    lse, grad_lse                             [batch, axes..., heads]
    bias, grad_bias                           [heads, 2 kernel_size - 1 per axis]
    attn of na_qk and na_av                   [batch, axes..., heads, slots (+ extras)]
    kernel_size, stride, dilation, is_causal  one value for all axes, or one for each in
    grid_length, query_begin, key_begin       the order of axes...
    ========================================  ==========================================

``axes...`` is (length), (height, width) or (depth, height, width).  ``out`` and what
belongs to values may have another head_dim than queries and keys.

``natten.NeighborhoodAttention1D``, ``2D`` and ``3D`` are modules of torch
(:mod:`natten.modules`); ``natten.functional`` has the names of older releases of
NATTEN.

Arrays are NumPy arrays, tensors of torch, arrays of JAX or CuPy, or anything with the
buffer protocol or DLPack, of float64, float32, float16 or bfloat16 (in NumPy
ml_dtypes'), of any non-negative strides; none is copied.  They are computed on where
they lie, on the CPU or, in a build with CUDA, on a GPU; ``device="cuda"`` sends NumPy's
there.  Results are of query's kind.  bias, lse and their gradients are float64 for
float64 and float32 for all others.

An illegal call raises before anything is computed, with a sentence that names the
argument, its value and the legal range: ValueError for values, shapes and strides,
TypeError for element types, NotImplementedError or RuntimeError for what this build or
device can't do.  Long calls let other threads run and end within a fraction of a second
after Ctrl-C.
"""

from typing import Any

from . import _upstream, capi
from ._functional import (
    AVGradients,
    Gradients,
    QKGradients,
    attention,
    attention_backward,
    merge_attentions,
    merge_attentions_backward,
    na1d,
    na2d,
    na3d,
    na_av,
    na_av_backward,
    na_backward,
    na_qk,
    na_qk_backward,
    plan,
)
from ._runtime import (
    build_info,
    cpu_variants,
    get_num_threads,
    set_cpu_variant,
    set_num_threads,
)
from ._upstream import disable_tf32, enable_tf32, use_tf32_in_gemm_na
from .functional import (
    are_deterministic_algorithms_enabled,
    has_bfloat,
    has_cuda,
    has_fna,
    has_gemm,
    has_half,
    use_deterministic_algorithms,
)

if capi.natten_abi_version() != capi.NATTEN_ABI_VERSION:
    raise ImportError(
        f"natten was built for ABI {capi.NATTEN_ABI_VERSION} of libnatten, "
        f"and has found {capi.natten_abi_version()}"
    )

__version__: str = capi.natten_version()

#: Whether compiled operations are there; without them this package can't be imported.
HAS_LIBNATTEN = True

# These need torch, and import it when they are asked for.
_MODULES = {
    "LegacyNeighborhoodAttention",
    "LegacyNeighborhoodAttention1D",
    "LegacyNeighborhoodAttention2D",
    "NeighborhoodAttention",
    "NeighborhoodAttention1D",
    "NeighborhoodAttention2D",
    "NeighborhoodAttention3D",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from . import modules

        return getattr(modules, name)
    if name in _upstream.SWITCHES:
        return _upstream.switch(name)
    raise AttributeError(f"module 'natten' has no attribute {name!r}")


__all__ = [
    "AVGradients",
    "Gradients",
    "HAS_LIBNATTEN",
    "QKGradients",
    "__version__",
    "are_deterministic_algorithms_enabled",
    "attention",
    "attention_backward",
    "build_info",
    "cpu_variants",
    "disable_tf32",
    "enable_tf32",
    "get_num_threads",
    "has_bfloat",
    "has_cuda",
    "has_fna",
    "has_gemm",
    "has_half",
    "merge_attentions",
    "merge_attentions_backward",
    "na1d",
    "na2d",
    "na3d",
    "na_av",
    "na_av_backward",
    "na_backward",
    "na_qk",
    "na_qk_backward",
    "plan",
    "set_cpu_variant",
    "set_num_threads",
    "use_deterministic_algorithms",
    "use_tf32_in_gemm_na",
]
