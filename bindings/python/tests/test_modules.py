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
        # 0.14.5 to 0.15: dilation, bias, qkv_bias, qk_scale; then, until 0.17,
        # dilation, is_causal, rel_pos_bias, qkv_bias.
        ((32, 4, 7, 2, True, True, None), {}, (7, 4, 2, True)),
        ((32, 4, 7, 2, False, True, 0.5), {}, (7, 4, 2, False)),
        ((32, 4, 7, 2, True, True, True), {}, (7, 4, 2, True)),
        ((32, 4, 7, 2, (True, False), True), {}, (7, 4, 2, True)),
        ((32, 4, 7, 2, False), {}, (7, 4, 2, False)),
        ((32, 4, (7, 7)), {}, (7, 4, 1, False)),
        ((32, (7, 7), 4), dict(dilation=None), (7, 4, 1, True)),
        ((32, 4), dict(kernel_size=7), (7, 4, 1, False)),
        ((32, 8, 8), dict(bias=True), (8, 8, 1, True)),
        ((np.int64(32), np.int32(4)), dict(kernel_size=np.int64(7)), (7, 4, 1, False)),
        ((32, 7), dict(num_heads=4), (7, 4, 1, True)),
        ((32, 7), dict(num_heads=4, rel_pos_bias=False), (7, 4, 1, False)),
        # As NAT and DiNAT of 2022 had it; as all eras could have it; as today's could.
        ((32,), dict(kernel_size=7, num_heads=4, dilation=None, qkv_bias=True,
                     qk_scale=None, attn_drop=0.0, proj_drop=0.0), (7, 4, 1, True)),
        ((32,), dict(kernel_size=7, dilation=2, num_heads=4, attn_drop=0.0),
         (7, 4, 2, True)),
        ((32,), dict(kernel_size=7, num_heads=4, dilation=None), (7, 4, 1, True)),
        ((32,), dict(kernel_size=7, num_heads=4, dilation=None, bias=False),
         (7, 4, 1, False)),
        ((32,), dict(kernel_size=7, num_heads=4), (7, 4, 1, False)),
        ((32,), dict(kernel_size=7, num_heads=4, dilation=2, qkv_bias=True,
                     qk_scale=None, proj_drop=0.0), (7, 4, 2, False)),
        ((32,), dict(kernel_size=7, num_heads=4, attn_drop=0.0, is_causal=False),
         (7, 4, 1, False)),
        ((), dict(embed_dim=32, kernel_size=7, num_heads=4, attn_drop=0.0),
         (7, 4, 1, False)),
    ],
)
def test_constructors_of_three_eras(args, kwargs, wanted):
    assert made(*args, **kwargs) == wanted


@pytest.mark.parametrize(
    "args, kwargs, sentence",
    [
        ((32, 4, 8), {}, "by name"),
        ((32, 8, 8), {}, "by name"),
        ((), dict(dim=32, kernel_size=7, num_heads=0), "num_heads=0"),
        ((), dict(dim=32, kernel_size=3.5, num_heads=4), "an integer is wanted"),
        ((32, 4), {}, "by name"),
        ((32, 4, 7, 2), {}, "stride.*dilation"),
        ((32, 4, 7, 2, True), {}, "bias.*is_causal"),
        ((32, 4, 7, 2, True, True), {}, "bias.*is_causal"),
        ((32, 4, 7, 2, False, True), {}, "bias.*is_causal"),
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


@pytest.mark.parametrize("name", ["NeighborhoodAttention2D",
                                  "LegacyNeighborhoodAttention2D"])
@pytest.mark.parametrize(
    "change, exception, sentence",
    [
        (dict(kernel_size=0), ValueError, "kernel_size=0 is less than 1"),
        (dict(kernel_size=(3, -1)), ValueError, "kernel_size=-1"),
        (dict(kernel_size=None), TypeError, "kernel_size: an integer"),
        (dict(kernel_size=2**70), ValueError, "kernel_size: .* 64 bits"),
        (dict(dilation=0), ValueError, "dilation=0 is less than 1"),
        (dict(dilation={1, 2}), TypeError, "dilation: an integer.*set"),
        (dict(stride=0), ValueError, "stride=0 is less than 1"),
        (dict(stride=(3, 4)), ValueError, r"stride=4 not in \[1, 3\]"),
        (dict(stride=[]), ValueError, "stride: 0 values for 2 axes"),
        (dict(num_heads=-2), ValueError, "num_heads=-2 is less than 1"),
        (dict(num_heads=2.0), TypeError, "num_heads: an integer.*float"),
        (dict(dim=0), ValueError, "dim=0 is less than 1"),
        (dict(dim="8"), TypeError, "dim: an integer.*str"),
        (dict(qk_scale="1"), TypeError, "qk_scale: a number.*str"),
        (dict(qk_scale=1j), TypeError, "qk_scale: a number.*complex"),
        (dict(qk_scale=10**400), ValueError, "qk_scale: an integer that no float"),
        (dict(qk_scale=float("nan")), ValueError, "qk_scale=nan: a finite number"),
        (dict(is_causal=5), ValueError, r"is_causal=5 not in \[0, 1\]"),
        (dict(is_causal="no"), TypeError, "is_causal: an integer.*str"),
    ],
)
def test_illegal_values_are_refused_when_a_module_is_made(
    change, exception, sentence, name
):
    legal = dict(dim=8, num_heads=2, kernel_size=3)
    with pytest.raises(exception, match=sentence):
        getattr(natten, name)(**{**legal, **change})


def test_the_dim_of_a_refused_call_has_the_name_that_was_given():
    with pytest.raises(ValueError, match="embed_dim=0"):
        NA2(embed_dim=0, num_heads=2, kernel_size=3)
    for dim, exception in ((0, ValueError), ("8", TypeError), (None, TypeError)):
        with pytest.raises(exception, match="^dim"):
            NA2(dim, 2, 3)


def test_a_flag_after_the_dilation_is_of_the_release_that_its_followers_say():
    causal = NA2(32, 4, 7, 2, True, False, True)
    assert causal.is_causal == (True, True) and causal.rpb is None
    biased = NA2(32, 4, 7, 2, True, False, None, 0.1, 0.2)
    assert biased.is_causal == (False, False) and biased.rpb is not None
    assert biased.qkv.bias is None and biased.attn_drop.p == 0.1


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
        self.mlp = nn.Sequential()
        self.mlp.fc1, self.mlp.act = nn.Linear(dim, 2 * dim), nn.GELU()
        self.mlp.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Level(nn.Module):
    """Layers, and half the height and width with twice the channels."""

    def __init__(self, dim, heads, dilations, last):
        super().__init__()
        self.blocks = nn.ModuleList(Layer(dim, heads, d) for d in dilations)
        self.downsample = None if last else nn.Module()
        if not last:
            self.downsample.reduction = nn.Conv2d(dim, 2 * dim, 3, 2, 1, bias=False)
            self.downsample.norm = nn.LayerNorm(2 * dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        if self.downsample is None:
            return x
        x = self.downsample.reduction(x.movedim(-1, 1)).movedim(1, -1)
        return self.downsample.norm(x)


class Backbone(nn.Module):
    """A NAT, or with dilations a DiNAT, of two levels: images to classes."""

    def __init__(self, dilations):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 8, 3, 2, 1)
        self.patch_embed.norm = nn.LayerNorm(8)
        self.levels = nn.ModuleList(
            [Level(8, 2, dilations, False), Level(16, 4, dilations, True)]
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.patch_embed.norm(self.patch_embed.proj(x).movedim(1, -1))
        for level in self.levels:
            x = level(x)
        return self.head(self.norm(x).mean((1, 2)))


# What a checkpoint of the original holds for one module of attention.
ATTENTION = {
    "rpb": (2, 13, 13), "qkv.weight": (24, 8), "qkv.bias": (24,),
    "proj.weight": (8, 8), "proj.bias": (8,),
}


@pytest.mark.parametrize("dilations", [(1, 1), (1, 2)], ids=["NAT", "DiNAT"])
def test_a_backbone_round_trips_with_the_originals_names(tmp_path, dilations):
    model = Backbone(dilations)
    checkpoint = {
        name: torch.randn_like(x) for name, x in model.state_dict().items()
        if ".attn." not in name
    }
    for level in (0, 1):
        for block in (0, 1):
            for name, shape in ATTENTION.items():
                # Twice the channels and heads; a window is what it was.
                shape = [n if n == 13 else n << level for n in shape]
                checkpoint[f"levels.{level}.blocks.{block}.attn.{name}"] = (
                    torch.randn(shape) / 8
                )
    torch.save(checkpoint, tmp_path / "nat.pth")
    model.load_state_dict(torch.load(tmp_path / "nat.pth"), strict=True)
    assert all(torch.equal(x, checkpoint[n]) for n, x in model.state_dict().items())
    x = torch.randn(1, 3, 30, 28)
    other = Backbone(dilations)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(model(x), other(x))
    other(x).square().sum().backward()
    for name, p in other.named_parameters():
        assert p.grad.abs().sum() > 0, name
    legacy = Backbone(dilations)
    for level in legacy.levels:
        for block in level.blocks:
            old = block.attn
            block.attn = natten.LegacyNeighborhoodAttention2D(
                dim=old.dim, kernel_size=7, num_heads=old.num_heads,
                dilation=old.dilation,
            )
    legacy.load_state_dict(checkpoint, strict=True)
    torch.testing.assert_close(legacy(x), model(x))


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
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_scaled_step_under_autocast_trains_every_parameter(dtype):
    model = Backbone((1, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with torch.autocast("cpu", dtype=dtype):
        loss = model(torch.randn(1, 3, 30, 28)).float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all() and not torch.equal(p, before[name]), name


def test_what_only_other_kernels_know_is_ignored(monkeypatch):
    monkeypatch.setattr(natten._upstream, "_warned", False)
    with pytest.warns(UserWarning, match="use_experimental_ops"):
        NA2(dim=8, kernel_size=3, num_heads=2, use_experimental_ops=True)


# ---- programs ------------------------------------------------------------------------


def gradcheck(rank, *flags):
    return subprocess.run(
        [sys.executable, "-m", f"natten.gradcheck{rank}d", *flags],
        capture_output=True, text=True,
    )


SMALL = "-b 1 -n 2 -d 3 -k 3 --dilation 2".split()


@pytest.mark.parametrize("rank, prefix, flags", [
    (1, "1D ", ["-x", "7", "--slow"]), (1, "1D ", ["--length", "7"]),
    (2, "", ["-x", "7", "-y", "6"]), (2, "", ["--height", "7", "--width", "6"]),
])
def test_gradcheck_programs_say_what_the_first_ones_said(rank, prefix, flags):
    result = gradcheck(rank, *SMALL, *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"Verifying {prefix}backward pass in DOUBLE PRECISION...",
        *(f"{prefix}{x} Gradients Ok" for x in ("QK+RPB", "QK", "AV", "fused")),
    ]


def test_gradcheck_has_the_defaults_of_the_first_programs():
    from natten import _gradcheck

    given = [vars(_gradcheck._options(rank, [])) for rank in (1, 2)]
    both = dict(batch_size=1, heads=2, x=14, kernel_size=7, dilation=2, slow=False)
    assert given == [dict(both, dim=8), dict(both, y=14, dim=32)]


@pytest.mark.parametrize("flags", [["-x", "5"], ["-d", "0"], ["-k", "x"]])
def test_gradcheck_refuses_what_does_not_fit(flags):
    result = gradcheck(1, *SMALL, *flags)
    assert result.returncode == 2 and result.stdout == ""
    assert "Traceback" not in result.stderr


def test_gradcheck_finds_a_wrong_gradient(monkeypatch, capsys):
    from natten import _gradcheck, functional

    monkeypatch.setattr(
        functional, "na1d_qk", lambda q, k, *rest: q.detach() * 2 + (q - q.detach())
    )
    assert _gradcheck.run(1, [*SMALL, "-x", "7"]) == 1
    assert "1D QK Gradients WRONG" in capsys.readouterr().out
