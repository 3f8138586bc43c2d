# SPDX-License-Identifier: MIT
"""What gradcheck1d and gradcheck2d share: finite differences of each operation.

A line "... Gradients Ok" per operation; exit status 1 if a gradient is wrong, 3 without
torch.
"""

import argparse
import sys
from typing import Any, Callable, Dict, List, Optional

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
    parser.add_argument("-x", type=int, default=9, help="length of the first axis")
    if rank > 1:
        parser.add_argument("-y", type=int, default=9, help="length of the second axis")
    parser.add_argument("-d", "--dim", type=int, default=4, help="head_dim")
    parser.add_argument("-k", "--kernel-size", type=int, default=3)
    parser.add_argument("--dilation", type=int, default=1)
    parser.add_argument(
        "--slow", action="store_true", help="every element, not a random projection"
    )
    return parser.parse_args(arguments)


def _operations(rank: int, options: argparse.Namespace) -> Dict[str, Any]:
    """Name -> (function, inputs)."""
    import torch  # type: ignore[import-not-found, unused-ignore]

    from . import _functional, functional

    axes = (options.x, options.y)[:rank] if rank > 1 else (options.x,)
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
    return {
        f"NATTEN{rank}DQK+RPB": (
            lambda q, key, r: qkrpb(q, key, r, k, dilation), [*first[:2], rpb]
        ),
        f"NATTEN{rank}DQK": (lambda q, key: qk(q, key, k, dilation), first[:2]),
        f"NATTEN{rank}DAV": (lambda a, v: av(a, v, k, dilation), [attn, first[2]]),
        f"NA{rank}D": (
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
