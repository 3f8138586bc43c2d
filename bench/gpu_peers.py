# SPDX-License-Identifier: MIT
"""Problems beside torch's own attention, on a GPU: windows beside its compiled
FlexAttention, dense ones beside FlashAttention-2's kernel and cuDNN's.

    python3 bench/gpu_peers.py [NUMBER]...    these problems of the list, or all

Both in one process, call by call in turn: the median between two events, the L2 cache
flushed before each call, and the stream kept busy until the host has launched it all,
so that no time of launching is in it.  FlexAttention gets its tokens row by row and in
tiles, and the better of the two counts.  Before anything is timed, its results are held
against the library's, so that both compute the same; which of them is right says
gpu_judge.  "In any order" is backward after natten.use_deterministic_algorithms(False);
times are those of backward without.  scripts/gpu-check bench runs this where torch is.
"""

import math
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import natten

REPEATS = 15
FLUSH_BYTES = 256 << 20  # more than the L2 cache of any GPU so far
BUSY_CYCLES = 4_000_000  # about 2 ms: longer than either takes to launch
TILES = {2: (8, 8), 3: (4, 4, 4)}
# Number in docs, batch, heads, head dim, grid, window, dilation, bias.
PROBLEMS = {
    3: (64, 4, 32, (56, 56), 7, 1, False),
    4: (64, 4, 32, (56, 56), 7, 1, True),
    5: (64, 4, 32, (56, 56), 7, 8, False),
    6: (4, 8, 64, (128, 128), 13, 1, False),
    10: (2, 16, 64, (16, 32, 32), 7, 1, False),
    # Dense, one axis: 13 and 14 are no numbers of docs.
    13: (1, 16, 64, (16384,), 16384, 1, False),
    14: (1, 16, 128, (16384,), 16384, 1, False),
}


def order_of(grid, tile):
    """Token of the grid, row by row, at each place of an order that goes by tiles."""
    tokens = torch.arange(math.prod(grid)).view(grid)
    shape = [n for length, t in zip(grid, tile) for n in (length // t, t)]
    outer, inner = range(0, 2 * len(grid), 2), range(1, 2 * len(grid), 2)
    return tokens.view(shape).permute(*outer, *inner).flatten()


def coordinates(order, grid):
    found = []
    for length in reversed(grid):
        found.append((order % length).to("cuda", torch.int32))
        order = order // length
    return found[::-1]


def dense(backend):
    """Attention of all tokens by a kernel of torch's."""

    def attention(q, k, v):
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v)

    return attention


def flex(problem, order, bias):
    """FlexAttention of tokens in this order, [batch, heads, tokens, head_dim]."""
    _, _, _, grid, window, dilation, _ = problem
    at = coordinates(order, grid)

    def visible(b, h, query, key):
        seen = query >= 0
        for c, length in zip(at, grid):
            q, k = c[query], c[key]
            position, count = q // dilation, (length - 1 - q % dilation) // dilation + 1
            first = torch.clamp(position - window // 2, min=0)
            first = torch.minimum(first, count - window)
            seen = seen & (q % dilation == k % dilation)
            seen = seen & (k // dilation >= first) & (k // dilation < first + window)
        return seen

    def score(value, b, h, query, key):
        # Invisible pairs are masked afterwards; their offsets only have to exist.
        offsets = [
            torch.clamp(c[key] - c[query] + window - 1, 0, 2 * window - 2) for c in at
        ]
        return value + bias[(h, *offsets)]

    tokens = math.prod(grid)
    mask = create_block_mask(visible, None, None, tokens, tokens, _compile=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    score_mod = None if bias is None else score
    return lambda q, k, v: compiled(q, k, v, score_mod=score_mod, block_mask=mask)


class Peer:
    """Forward and backward by torch's attention, of the library's own tensors: by a
    kernel of all tokens, or else FlexAttention."""

    def __init__(self, problem, order, tensors, bias, backend):
        order = order.cuda()
        self.back = torch.argsort(order)
        self.q, self.k, self.v, self.g = (
            t.flatten(1, -3)[:, order].transpose(1, 2).contiguous() for t in tensors
        )
        self.inputs = [self.q, self.k, self.v]
        if bias is not None:
            bias = bias.clone()
            self.inputs.append(bias)
        for t in self.inputs:
            t.requires_grad_()
        self.attention = (
            flex(problem, order.cpu(), bias) if backend is None else dense(backend)
        )
        self.out = self.forward()

    def forward(self):
        return self.attention(self.q, self.k, self.v)

    def backward(self):
        return torch.autograd.grad(self.out, self.inputs, self.g, retain_graph=True)

    def results(self, shape):
        """(out, grad_query, grad_key, grad_value) as the library lays them out."""
        found = (self.out, *self.backward()[:3])
        return [x.transpose(1, 2)[:, self.back].reshape(shape) for x in found]


def median_times(calls):
    """Milliseconds of each call."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    times = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, kept in zip(calls, times):
            flush.zero_()
            torch.cuda._sleep(BUSY_CYCLES)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            kept.append(begin.elapsed_time(end))
    return [statistics.median(kept) for kept in times]


def measure(number):
    problem = PROBLEMS[number]
    batch, heads, dim, grid, window, dilation, with_bias = problem
    shape = (batch, *grid, heads, dim)
    tensors = [torch.randn(shape, device="cuda").bfloat16() for _ in range(4)]
    bias = None
    if with_bias:
        bias = torch.randn(heads, *[2 * window - 1 for _ in grid], device="cuda")
    q, k, v, g = tensors
    options = dict(dilation=dilation, bias=bias)
    operation = {1: natten.na1d, 2: natten.na2d, 3: natten.na3d}[len(grid)]

    def forward():
        return operation(q, k, v, window, return_lse=True, **options)

    out, lse = forward()

    def backward():
        return natten.na_backward(q, k, v, g, window, out=out, lse=lse, **options)

    def backward_in_any_order():
        natten.use_deterministic_algorithms(False)
        backward()
        natten.use_deterministic_algorithms(True)

    expected = [out, *backward()[:3]]
    text = f"{batch} x {heads}, D {dim}, {'x'.join(map(str, grid))}, w{window}"
    text += f", dilation {dilation}" * (dilation > 1) + ", trained bias" * with_bias
    for name, orders, backend in rivals(grid, window):
        best = [math.inf, math.inf]
        for order in orders:
            peer = Peer(problem, order, tensors, bias, backend)
            for ours, theirs in zip(expected, peer.results(shape)):
                error = (ours.float() - theirs.float()).abs().max().item()
                assert error < 0.03 * ours.float().abs().max().item(), error
            with torch.no_grad():
                f, pf = median_times([forward, peer.forward])
            b, any_order, pb = median_times(
                [backward, backward_in_any_order, peer.backward]
            )
            best = [min(best[0], pf), min(best[1], pb)]
        print(
            f"| {number} | {text} | {name} | {f:.3f} | {best[0]:.3f} "
            f"| {best[0] / f:.2f} | {b:.3f} | {any_order:.3f} | {best[1]:.3f} "
            f"| {best[1] / b:.2f} |",
            flush=True,
        )


def rivals(grid, window):
    """Who computes the same: name, orders of tokens to try, torch's kernel."""
    orders = [torch.arange(math.prod(grid))]
    if grid == (window,):
        return [
            ("FlashAttention-2", orders, SDPBackend.FLASH_ATTENTION),
            ("cuDNN", orders, SDPBackend.CUDNN_ATTENTION),
        ]
    if len(grid) in TILES:
        orders.append(order_of(grid, TILES[len(grid)]))
    return [("FlexAttention", orders, None)]


def main(numbers):
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16, ms")
    print(
        "| # | problem | torch's | forward | theirs | times | backward | in any order "
        "| theirs | times |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    torch.manual_seed(0)
    torch._dynamo.config.cache_size_limit = 64
    for number in numbers or PROBLEMS:
        measure(number)


if __name__ == "__main__":
    main([int(x) for x in sys.argv[1:]])
