# SPDX-License-Identifier: MIT
"""torch's tensors on a GPU: without copies, on torch's stream, in captured graphs."""

import pytest

import natten
import natten.capi

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no GPU for torch", allow_module_level=True)
if natten.capi.natten_device_count() == 0:
    pytest.skip("this build has no CUDA kernels", allow_module_level=True)

SHAPE = (2, 13, 11, 4, 32)


@pytest.fixture
def tensors():
    torch.manual_seed(1)
    return [torch.randn(SHAPE, device="cuda", dtype=torch.bfloat16) for _ in range(4)]


def forward_and_backward(q, k, v, g):
    out, lse = natten.na2d(q, k, v, (5, 3), return_lse=True)
    gradients = natten.na_backward(q, k, v, g, (5, 3), out=out, lse=lse)
    return (out, lse, *gradients[:3])


def on_the_cpu(tensors):
    return forward_and_backward(*(t.cpu().double() for t in tensors))


def assert_close(results, expected):
    for got, want in zip(results, expected):
        assert got.is_cuda
        size = want.abs().max().item()
        assert (got.cpu().double() - want).abs().max().item() < 0.02 * size


def test_results_are_those_of_the_cpu(tensors):
    assert_close(forward_and_backward(*tensors), on_the_cpu(tensors))


def test_nothing_is_copied_or_changed(tensors):
    q, k, v, _ = tensors
    before = [t.clone() for t in tensors]
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    out, lse = natten.na2d(q, k, v, 3, return_lse=True)
    results = out.nbytes + lse.nbytes
    slack = 2 * 512  # torch's allocator rounds each up
    assert torch.cuda.max_memory_allocated() - held < results + slack
    torch.cuda.synchronize()
    assert all((a == b).all() for a, b in zip(tensors, before))


def test_strided_tensors(tensors):
    q, k, v, _ = tensors
    packed = torch.stack([q, k, v], dim=3)
    views = [packed[:, :, :, i] for i in range(3)]
    assert (natten.na2d(*views, 3) == natten.na2d(q, k, v, 3)).all()


def test_calls_follow_the_current_stream(tensors):
    q, k, v, _ = tensors
    expected = natten.na2d(q * 2, k, v, 3)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.empty_like(q)
        torch.cuda._sleep(50_000_000)
        late.copy_(q * 2)
        out = natten.na2d(late, k, v, 3)
    stream.synchronize()
    assert (out == expected).all()


def test_a_captured_graph_replays_the_same_bits(tensors):
    expected = forward_and_backward(*tensors)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = forward_and_backward(*tensors)
    for r in results:
        r.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert all((a == b).all() for a, b in zip(results, expected))


def test_merging(tensors):
    q, k, v, _ = tensors
    out, lse = natten.na2d(q, k, v, 3, return_lse=True)
    merged, merged_lse = natten.merge_attentions([out, out], [lse, lse])
    assert (merged == out).all() and merged.is_cuda
    assert torch.allclose(merged_lse, lse + torch.log(torch.tensor(2.0)).item())


def test_tensors_in_two_places_are_refused_by_name(tensors):
    q, k, v, _ = tensors
    with pytest.raises(RuntimeError, match="^natten_forward: key is on device 0"):
        natten.na2d(q, k.cpu(), v, 3)
    with pytest.raises(RuntimeError, match="computes on the CPU"):
        natten.na2d(q, k, v, 3, backend="cpu")


def test_arrays_of_the_host_have_the_bits_of_the_tensors(tensors):
    there = [x.float() for x in tensors]
    here = [x.cpu().numpy() for x in there]
    q, k, v, g = there
    # Small enough for the kernels without tensor cores, as all of the host's are.
    out, lse = natten.na2d(q, k, v, 3, return_lse=True)
    host_out, host_lse = natten.na2d(*here[:3], 3, return_lse=True, device="cuda:0")
    assert (host_out == out.cpu().numpy()).all()
    assert (host_lse == lse.cpu().numpy()).all()
    expected = natten.na_backward(q, k, v, g, 3, out=out, lse=lse)
    found = natten.na_backward(*here, 3, out=host_out, lse=host_lse, device="cuda")
    for x, y in zip(found, expected):
        assert (x is None and y is None) or (x == y.cpu().numpy()).all()


def test_arrays_of_the_host_are_close_to_the_tensors_on_tensor_cores(tensors):
    q, k, v, _ = (x.float() for x in tensors)
    out = natten.na2d(q, k, v, 7).cpu().numpy()
    host_out = natten.na2d(*(x.cpu().numpy() for x in (q, k, v)), 7, device="cuda:0")
    assert abs(host_out - out).max() <= 1e-5 * abs(out).max()


def two_layers():
    first = natten.NeighborhoodAttention2D(dim=64, num_heads=2, kernel_size=7)
    second = natten.NeighborhoodAttention2D(
        embed_dim=64, num_heads=2, kernel_size=5, dilation=2, stride=2
    )
    return torch.nn.Sequential(first, torch.nn.LayerNorm(64), second)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_modules_train_a_step_in_bf16_under_autocast(compiled):
    torch.manual_seed(2)
    here = two_layers()
    there = two_layers()
    there.load_state_dict(here.state_dict())
    there = there.cuda()
    x = torch.randn(2, 28, 20, 64)
    target = torch.randn(2, 28, 20, 64)
    run = torch.compile(there, fullgraph=True) if compiled else there
    before = {name: p.detach().clone() for name, p in there.named_parameters()}
    optimizer = torch.optim.SGD(there.parameters(), lr=0.01)
    with torch.autocast("cuda", torch.bfloat16):
        out = run(x.cuda())
        assert out.dtype == torch.bfloat16
        loss = (out.float() - target.cuda()).square().sum()
    loss.backward()
    expected = (here(x) - target).square().sum()
    expected.backward()
    assert abs(loss.item() - expected.item()) < 0.02 * expected.item()
    found, wanted = (
        torch.cat([p.grad.flatten().cpu() for p in model.parameters()])
        for model in (there, here)
    )
    assert (found - wanted).norm().item() < 0.05 * wanted.norm().item()
    optimizer.step()
    for name, p in there.named_parameters():
        assert p.isfinite().all()
        assert not torch.equal(p, before[name]), name
