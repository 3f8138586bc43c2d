# SPDX-License-Identifier: MIT
"""Time and memory of the Legacy module, which unfolds windows, and of the fused one.

    python3 examples/plots.py --out FOLDER [--device cuda]

One 2-D module, forward and backward, for feature maps of 7 x 7 to 224 x 224: a table,
and plots.png with time and memory over the size of the map, where there is Matplotlib.
The line to compare with is window attention: windows that do not overlap, cut out and
given to torch's scaled_dot_product_attention.  The module is judged against Legacy
before it is timed.  Needs torch.

On the CPU, in fp32, each number is of a process of its own, so that its peak of memory
is its own; times are the shortest of some runs, of the processor and on one thread, so
that other programs disturb them little.  Needs Linux.

On a GPU, in bf16, times are between two events of CUDA, the shortest of some runs:
small maps take what the launches take.  Memory is the peak of torch's allocator and
that of the device's pool, which the library takes its scratch from.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path

DIM, HEADS, KERNEL = 64, 2, 7
SIZES = 7, 14, 28, 56, 112, 224
NAMES = {"legacy": "Legacy (unfold)", "fused": "fused", "window": "window attention"}


def window_attention():
    """The same projections around torch's attention within windows of the kernel size.

    [batch, height, width, dim], where the kernel size divides height and width.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    class WindowAttention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = torch.nn.Linear(DIM, 3 * DIM)
            self.proj = torch.nn.Linear(DIM, DIM)

        def forward(self, x):
            batch, height, width, _ = x.shape
            rows, columns = height // KERNEL, width // KERNEL
            x = self.qkv(x).view(
                batch, rows, KERNEL, columns, KERNEL, 3, HEADS, DIM // HEADS
            )
            # [3, batch and windows, heads, tokens of a window, head_dim]
            x = x.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3).flatten(-3, -2)
            x = scaled_dot_product_attention(*x.unbind(0))
            x = x.view(batch, rows, columns, HEADS, KERNEL, KERNEL, DIM // HEADS)
            return self.proj(
                x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, DIM)
            )

    return WindowAttention()


def made(name):
    import natten

    given = dict(dim=DIM, num_heads=HEADS, kernel_size=KERNEL)
    if name == "legacy":
        return natten.LegacyNeighborhoodAttention2D(**given)
    return natten.NeighborhoodAttention2D(**given) if name == "fused" else (
        window_attention()
    )


def run(module, x):
    module.zero_grad()
    module(x).square().mean().backward()


def enough(times):
    return len(times) >= 3 and (sum(times) > 0.5 or len(times) >= 50)


# ---- on the CPU ----------------------------------------------------------------------


def memory(line):
    """Bytes of memory of this process, by Linux: VmRSS now, VmHWM at most."""
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line + ":"):
            return int(text.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {line}")


def measure_cpu(name, size, batch):
    """Seconds of forward and backward, and bytes beyond what the process had before."""
    import torch

    import natten

    torch.set_num_threads(1)
    natten.set_num_threads(1)
    torch.manual_seed(20220414)
    module = made(name)
    run(module, torch.randn(1, KERNEL, KERNEL, DIM))
    Path("/proc/self/clear_refs").write_text("5")  # what was at most is now forgotten
    before = memory("VmRSS")
    x = torch.randn(batch, size, size, DIM)
    times = []
    while not enough(times):
        start = time.process_time()
        run(module, x)
        times.append(time.process_time() - start)
    return {"seconds": min(times), "bytes": memory("VmHWM") - before}


def measured(name, size, batch):
    """The same, in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, "--measure", name, str(size), "--batch", str(batch)],
        check=True, stdout=subprocess.PIPE,
    )
    return json.loads(result.stdout)


# ---- on a GPU ------------------------------------------------------------------------


class Pool:
    """The default memory pool of the current GPU, by the driver's API."""

    USED_HIGH = 8  # CU_MEMPOOL_ATTR_USED_MEM_HIGH

    def __init__(self, device):
        self.cuda, self.handle = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
        self.call("cuDeviceGetDefaultMemPool", ctypes.byref(self.handle), device)

    def call(self, name, *arguments):
        error = getattr(self.cuda, name)(*arguments)
        if error:
            raise OSError(f"{name}: error {error} of CUDA")

    def forget(self):
        """What was at most is now what is."""
        self.call("cuMemPoolSetAttribute", self.handle, self.USED_HIGH,
                  ctypes.byref(ctypes.c_uint64(0)))

    def most(self):
        used = ctypes.c_uint64()
        self.call("cuMemPoolGetAttribute", self.handle, self.USED_HIGH,
                  ctypes.byref(used))
        return used.value


def measure_cuda(name, size, batch):
    """Seconds between two events, and bytes beyond the module and its gradients."""
    import torch

    torch.manual_seed(20220414)
    module = made(name).to("cuda", torch.bfloat16)
    for _ in range(3):
        run(module, torch.randn(batch, size, size, DIM, device="cuda").bfloat16())
    torch.cuda.synchronize()
    pool = Pool(torch.cuda.current_device())
    pool.forget()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    x = torch.randn(batch, size, size, DIM, device="cuda").bfloat16()
    times = []
    while not enough(times):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run(module, x)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    most = torch.cuda.max_memory_allocated() - before + pool.most()
    return {"seconds": min(times), "bytes": most}


# ---- all of it -----------------------------------------------------------------------


def judged(device):
    """The two modules agree, forward and backward, in fp32; and in bf16 on a GPU."""
    import torch

    def results(module, x):
        module.zero_grad()
        out = module(x)
        out.square().mean().backward()
        return [out, *(p.grad for p in module.parameters())]

    torch.manual_seed(20220414)
    legacy, fused = made("legacy").to(device), made("fused").to(device)
    legacy.load_state_dict(fused.state_dict())
    x = torch.randn(1, 14, 14, DIM, device=device)
    wanted = [y.detach().clone() for y in results(legacy, x)]
    pairs = zip(results(fused, x), wanted)
    if not all(torch.allclose(a, b, atol=1e-5) for a, b in pairs):
        return False
    if device == "cpu":
        return True
    # A handful of roundings to 8 bits, each half a 256th of the larger numbers.
    low = results(fused.bfloat16(), x.bfloat16())
    return all((a.float() - b).norm() < 0.05 * b.norm() for a, b in zip(low, wanted))


def table(results, sizes):
    lines = [
        "| map | " + " | ".join(f"{n}, ms | MiB" for n in NAMES.values()) + " |",
        "|---" * (1 + 2 * len(NAMES)) + "|",
    ]
    for size in sizes:
        cells = [f"{size} x {size}"]
        for name in NAMES:
            one = results[name, size]
            cells.append(f"{1e3 * one['seconds']:.2f}")
            cells.append(f"{one['bytes'] / 2**20:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results, sizes, path, where):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    styles = {"legacy": "o-", "fused": "s-", "window": "^:"}
    for name, title in NAMES.items():
        of = [results[name, size] for size in sizes]
        left.plot(sizes, [1e3 * x["seconds"] for x in of], styles[name], label=title)
        # Less than a page or two is not seen from outside.
        mib = [x["bytes"] / 2**20 for x in of]
        large = [(size, m) for size, m in zip(sizes, mib) if m > 1]
        right.plot(*zip(*large or [(sizes[0], 1)]), styles[name], label=title)
    for panel, what in ((left, "time, ms"), (right, "memory, MiB")):
        panel.set(xscale="log", yscale="log", xlabel="height and width", ylabel=what)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    figure.suptitle(
        f"forward and backward, window {KERNEL} x {KERNEL}, dim {DIM}, {HEADS} heads, "
        + where
    )
    figure.savefig(path, dpi=90)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if any(size < KERNEL or size % KERNEL for size in options.sizes):
        parser.error(f"--sizes: multiples of the window, {KERNEL}, are wanted")
    if options.measure:
        name, size = options.measure
        print(json.dumps(measure_cpu(name, int(size), options.batch)))
        return None
    if not judged(options.device):
        sys.exit("plots: the fused module is not Legacy")
    measure = measured if options.device == "cpu" else measure_cuda
    results = {
        (name, size): measure(name, size, options.batch)
        for size in options.sizes for name in NAMES
    }
    where = "fp32, one thread"
    if options.device == "cuda":
        import torch

        where = f"batch {options.batch}, bf16, {torch.cuda.get_device_name()}"
        print(where)
    print(table(results, options.sizes))
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        draw(results, options.sizes, options.out / "plots.png", where)
    except ImportError as missing:
        print(f"plots: no picture: {missing}", file=sys.stderr)
    return results


if __name__ == "__main__":
    main()
