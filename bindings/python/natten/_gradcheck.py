# SPDX-License-Identifier: MIT
"""What gradcheck1d and gradcheck2d share: finite differences of each operation.

Options, defaults and lines are those of the first releases' programs, with two lines
more: a line "... Gradients Ok" per operation.  Exit status 1 if a gradient is wrong, 2
for a window that does not fit, 3 without torch.
"""

import argparse
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from . import _functional, capi, functional

__all__ = ["run"]

# Steps and bounds of the original programs.
_EPS, _ATOL, _RTOL = 1e-6, 1e-5, 1e-3


def _options(rank: int, arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"gradcheck{rank}d",
        description=f"Gradients of {rank}-D neighborhood attention against finite "
        "differences, in double precision.",
    )
    parser.add_argument("-b", "--batch-size", type=int, default=1)
    parser.add_argument("-n", "--heads", type=int, default=2)
    for letter, name in zip("xy", ("length",) if rank == 1 else ("height", "width")):
        parser.add_argument(
            f"-{letter}", f"--{name}", dest=letter, type=int, default=14, metavar="N"
        )
    parser.add_argument("-d", "--dim", type=int, default=8 if rank == 1 else 32)
    parser.add_argument("-k", "--kernel-size", type=int, default=7)
    parser.add_argument("--dilation", type=int, default=2)
    parser.add_argument(
        "--slow", action="store_true", help="every element, not a random projection"
    )
    options = parser.parse_args(arguments)
    try:
        _supported(rank, options)
    except ValueError as error:
        parser.error(str(error))
    return options


def _prefix(rank: int) -> str:
    """Two axes were the rule when these lines were first written."""
    return "1D " if rank == 1 else ""


def _axes(rank: int, options: argparse.Namespace) -> Tuple[int, ...]:
    return (options.x,) if rank == 1 else (options.x, options.y)


def _supported(rank: int, options: argparse.Namespace) -> None:
    """ValueError, in the library's words, for a call that it would refuse."""
    params = _functional.Params(rank, options.kernel_size, dilation=options.dilation)
    sizes = options.batch_size, *_axes(rank, options), options.heads, options.dim
    if min(sizes) < 1:
        raise ValueError("batch, heads, tokens and dim are at least 1")
    tokens = np.broadcast_to(np.zeros(()), sizes)
    capi.natten_supported(
        params, capi.NATTEN_BACKWARD, tokens, tokens, tokens, None
    )


def _operations(rank: int, options: argparse.Namespace) -> Dict[str, Any]:
    """Name -> (function, inputs)."""
    import torch  # type: ignore[import-not-found, unused-ignore]

    axes = _axes(rank, options)
    k, dilation = options.kernel_size, options.dilation

    def tensor(*shape: int) -> Any:
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    b, n, d = options.batch_size, options.heads, options.dim
    first = [tensor(b, n, *axes, d) for _ in range(3)]
    last = [tensor(b, *axes, n, d) for _ in range(3)]
    rpb = tensor(n, *[2 * k - 1] * rank)
    attn = tensor(b, n, *axes, k**rank)
    qkrpb: Callable[..., Any] = getattr(functional, f"natten{rank}dqkrpb")
    qk: Callable[..., Any] = getattr(functional, f"na{rank}d_qk")
    av: Callable[..., Any] = getattr(functional, f"na{rank}d_av")
    na: Callable[..., Any] = getattr(_functional, f"na{rank}d")
    prefix = _prefix(rank)
    return {
        f"{prefix}QK+RPB": (
            lambda q, key, r: qkrpb(q, key, r, k, dilation), [*first[:2], rpb]
        ),
        f"{prefix}QK": (lambda q, key: qk(q, key, k, dilation), first[:2]),
        f"{prefix}AV": (lambda a, v: av(a, v, k, dilation), [attn, first[2]]),
        f"{prefix}fused": (
            lambda q, key, v, r: na(
                q, key, v, k, dilation=dilation, bias=r, return_lse=True
            ),
            [*last, rpb],
        ),
    }


def run(rank: int, arguments: Optional[List[str]] = None) -> int:
    """The program; returns its exit status."""
    options = _options(rank, arguments)
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError as missing:
        print(f"gradcheck{rank}d needs torch: {missing}", file=sys.stderr)
        return 3
    torch.manual_seed(20220414)
    print(f"Verifying {_prefix(rank)}backward pass in DOUBLE PRECISION...")
    wrong = 0
    for name, (function, inputs) in _operations(rank, options).items():
        try:
            torch.autograd.gradcheck(
                function, inputs, eps=_EPS, atol=_ATOL, rtol=_RTOL,
                fast_mode=not options.slow,
            )
        except RuntimeError as error:
            wrong += 1
            print(f"{name} Gradients WRONG: {error}")
        else:
            print(f"{name} Gradients Ok")
    return 1 if wrong else 0
