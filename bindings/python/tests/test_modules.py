# SPDX-License-Identifier: MIT
"""The modules: constructors of three eras, checkpoints, and the Legacy modules."""

import copy
import subprocess
import sys

import numpy as np
import pytest

import natten

torch = pytest.importorskip("torch")
nn = torch.nn

NA1, NA2, NA3 = (getattr(natten, f"NeighborhoodAttention{r}D") for r in (1, 2, 3))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(20220414)


# ---- constructors --------------------------------------------------------------------


def made(*args, **kwargs):
    m = NA2(*args, **kwargs)
    return m.kernel_size[0], m.num_heads, m.dilation[0], m.rpb is not None


@pytest.mark.parametrize(
    "args, kwargs, wanted",
    [
        # (kernel_size, heads, dilation, bias)
        ((), dict(dim=32, kernel_size=7, num_heads=4), (7, 4, 1, True)),
        ((), dict(embed_dim=32, kernel_size=7, num_heads=4), (7, 4, 1, False)),
        ((), dict(dim=32, kernel_size=7, num_heads=4, bias=False), (7, 4, 1, False)),
        ((), dict(embed_dim=32, kernel_size=7, num_heads=4, rel_pos_bias=True),
         (7, 4, 1, True)),
        ((32, 7, 4), {}, (7, 4, 1, True)),
        ((32, 7, 4, True, None, 0.1, 0.1, 2), {}, (7, 4, 2, True)),
        ((32, 4, 7), {}, (7, 4, 1, False)),
        ((32, 4, 7, 2, 3), {}, (7, 4, 3, False)),
        ((32, 4, 7, 2, True, True), {}, (7, 4, 2, True)),
        ((32, 4, (7, 7)), {}, (7, 4, 1, False)),
        ((32, (7, 7), 4), dict(dilation=None), (7, 4, 1, True)),
        ((32, 4), dict(kernel_size=7), (7, 4, 1, False)),
        ((32, 8, 8), dict(bias=True), (8, 8, 1, True)),
        ((np.int64(32), np.int32(4)), dict(kernel_size=np.int64(7)), (7, 4, 1, False)),
        ((32, 7), dict(num_heads=4), (7, 4, 1, False)),
    ],
)
def test_constructors_of_three_eras(args, kwargs, wanted):
    assert made(*args, **kwargs) == wanted


@pytest.mark.parametrize(
    "args, kwargs, sentence",
    [
        ((32, 4, 8), {}, "by name"),
        ((32, 8, 8), {}, "by name"),
        ((), dict(dim=32, kernel_size=7, num_heads=0), "does not divide"),
        ((), dict(dim=32, kernel_size=3.5, num_heads=4), "an integer is wanted"),
        ((32, 4), {}, "by name"),
        ((32, 4, 7, 2), {}, "stride.*dilation"),
        ((32, 5, 7), {}, "divide"),
        ((32, 4, 7), dict(num_heads=4), "one release"),
        ((32,), dict(kernel_size=7), "num_heads is missing"),
        ((), dict(dim=32, kernel_size=7, num_heads=4, heads=4), "'heads'"),
        ((), dict(dim=32, kernel_size=7, num_heads=5), "does not divide"),
        ((), dict(dim=32, kernel_size=(7, 7, 7), num_heads=4), "kernel_size"),
    ],
)
def test_what_may_mean_two_things_is_refused(args, kwargs, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        made(*args, **kwargs)


def test_scale_0_is_0_and_none_is_the_default():
    assert NA1(embed_dim=8, num_heads=2, kernel_size=3, qk_scale=0.0).scale == 0
    assert NA1(embed_dim=8, num_heads=2, kernel_size=3).scale == 0.5


def test_deprecated_spellings_are_2d():
    assert natten.NeighborhoodAttention is NA2
    assert natten.LegacyNeighborhoodAttention is natten.LegacyNeighborhoodAttention2D
    from natten import torch as ours

    assert ours.NeighborhoodAttention2D is NA2


# ---- against Legacy ------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype, bound", [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("rank, kernel", [(1, 5), (1, 4), (2, 3), (2, (4, 3))])
def test_modules_equal_legacy(rank, kernel, dilation, bias, dtype, bound):
    given = dict(dim=12, num_heads=3, kernel_size=kernel, dilation=dilation, bias=bias)
    fused = getattr(natten, f"NeighborhoodAttention{rank}D")(**given).to(dtype)
    legacy = getattr(natten, f"LegacyNeighborhoodAttention{rank}D")(**given).to(dtype)
    legacy.load_state_dict(fused.state_dict())
    x = torch.randn(2, *(13, 9)[:rank], 12, dtype=dtype)
    results = []
    for module in (fused, legacy):
        y = x.clone().requires_grad_()
        out = module(y)
        out.square().mean().backward()
        results.append([out, y.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*results):
        assert (a - b).abs().max() <= bound


@pytest.mark.skipif(
    not hasattr(torch.library, "custom_op"), reason="torch before 2.4"
)
def test_modules_are_compiled_whole(check_compiled):
    model = nn.Sequential(
        NA2(dim=12, num_heads=3, kernel_size=7),
        NA2(embed_dim=12, num_heads=2, kernel_size=3),
    )
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 9, 6, 12)  # padded: shorter than the window
    check_compiled(model, compiled, x)


def test_three_axes_and_stride_and_causal_are_the_operation():
    module = NA3(
        embed_dim=8, num_heads=2, kernel_size=(2, 3, 3), stride=(1, 2, 1),
        is_causal=(True, False, False),
    )
    x = torch.randn(1, 4, 5, 6, 8)
    q, k, v = module.qkv(x).unflatten(-1, (3, 2, 4)).unbind(-3)
    out = natten.na3d(q, k, v, (2, 3, 3), (1, 2, 1), is_causal=(True, False, False))
    assert torch.equal(module(x), module.proj(out.flatten(-2)))
    assert "kernel_size=(2, 3, 3)" in repr(module)


def test_small_inputs_are_padded_before_the_projection_and_cropped():
    module = NA2(dim=8, kernel_size=5, num_heads=2, dilation=2)
    x = torch.randn(2, 6, 12, 8)
    padded = torch.zeros(2, 10, 12, 8)
    padded[:, :6] = x
    assert torch.equal(module(x), module(padded)[:, :6])
    strict = NA2(dim=8, kernel_size=5, num_heads=2, dilation=2, strict=True)
    with pytest.raises(ValueError, match="kernel_size"):
        strict(x)
    with pytest.raises(ValueError, match="axes"):
        module(x[0])


def test_attention_dropout():
    module = NA1(dim=8, kernel_size=3, num_heads=2, attn_drop=0.5)
    x = torch.randn(1, 7, 8)
    assert torch.equal(module.eval()(x), module(x))
    assert not torch.equal(module.train()(x), module(x))
    # Without chance the unfused way is the fused one.
    module.attn_drop.forward = lambda attn: attn
    assert (module(x) - module.eval()(x)).abs().max() < 1e-6


# ---- checkpoints ---------------------------------------------------------------------


class Layer(nn.Module):
    """A layer of NAT, with the original's names."""

    def __init__(self, dim, heads, dilation):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = NA2(dim, kernel_size=7, num_heads=heads, dilation=dilation,
                        rel_pos_bias=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(),
                                 nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def backbone():
    return nn.Sequential(Layer(16, 2, 1), Layer(16, 2, 2))


def test_a_backbone_round_trips_with_the_originals_names(tmp_path):
    model = backbone()
    names = set(model.state_dict())
    for name in ("qkv.weight", "qkv.bias", "rpb", "proj.weight", "proj.bias"):
        assert f"0.attn.{name}" in names
    assert model[0].attn.rpb.shape == (2, 13, 13)
    torch.save(model.state_dict(), tmp_path / "nat.pth")
    other = backbone()
    other.load_state_dict(torch.load(tmp_path / "nat.pth"))
    x = torch.randn(1, 15, 14, 16)
    assert torch.equal(model(x), other(x))
    other(x).sum().backward()
    assert other[0].attn.rpb.grad.abs().sum() > 0


def test_a_checkpoint_decides_whether_there_is_a_bias():
    with_bias = NA2(dim=8, kernel_size=3, num_heads=2)
    without = NA2(embed_dim=8, kernel_size=3, num_heads=2)
    x = torch.randn(1, 5, 5, 8)
    loaded = copy.deepcopy(without)
    loaded.load_state_dict(with_bias.state_dict())
    assert torch.equal(loaded(x), with_bias(x)) and loaded.rpb.requires_grad
    loaded.load_state_dict(without.state_dict())
    assert torch.equal(loaded(x), without(x)) and loaded.rpb is None
    wide = NA2(dim=8, kernel_size=5, num_heads=2)
    with pytest.raises(RuntimeError, match="size mismatch for rpb"):
        without.load_state_dict(wide.state_dict())
    half = NA2(dim=8, kernel_size=3, num_heads=2).half()
    loaded.load_state_dict(half.state_dict())
    assert loaded.rpb.dtype == torch.float32


@pytest.mark.skipif(not hasattr(torch.library, "custom_op"), reason="torch before 2.4")
def test_a_step_under_autocast_trains_every_parameter():
    model = backbone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.randn(1, 14, 14, 16)).float().square().mean()
    loss.backward()
    for p in model.parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all()


# ---- programs ------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2])
def test_gradcheck_programs_say_ok(rank):
    flags = ["-b", "1", "-n", "2", "-x", "7", "-d", "3", "-k", "3", "--dilation", "2"]
    flags += ["-y", "6"] if rank == 2 else ["--slow"]
    result = subprocess.run(
        [sys.executable, "-m", f"natten.gradcheck{rank}d", *flags],
        capture_output=True, text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 4 and all(line.endswith(" Gradients Ok") for line in lines)


def test_gradcheck_finds_a_wrong_gradient(monkeypatch, capsys):
    from natten import _gradcheck, functional

    monkeypatch.setattr(
        functional, "na1d_qk", lambda q, k, *rest: q.detach() * 2 + (q - q.detach())
    )
    assert _gradcheck.run(1, ["-x", "5"]) == 1
    assert "NATTEN1DQK Gradients WRONG" in capsys.readouterr().out
