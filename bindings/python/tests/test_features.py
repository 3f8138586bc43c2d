# SPDX-License-Identifier: MIT
"""Every name that scripts of any era import, with every argument, on all arrays.

Each row of a table is an argument of a function and what to give it.  Giving it must
change the result, or, for the few that only say how, must leave it as it is; torch and
JAX must have NumPy's bits.  A name or an argument without a row fails.
"""

import inspect

import numpy as np
import pytest

import natten
from natten import functional

NEUTRAL = {
    "backend", "return_lse", "max_seqlen_Q", "max_seqlen_KV", "seqlens_KV",
    "cumulative_seqlen_KV", "out", "lse", "device",
}


def numbers(*shape, dtype="float32"):
    seed = sum(n * 7**i for i, n in enumerate(shape, 1))
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def of_grid(rank):
    """Grids of 6 tokens an axis, windows of 3."""
    return (6,) * rank


def fused_rows(rank):
    """Argument -> what is given beside query, key, value and kernel_size."""
    extras = {
        "additional_keys": numbers(1, 2, 2, 4),
        "additional_values": numbers(1, 2, 2, 5),
    }
    return {
        "kernel_size": dict(kernel_size=2), "stride": dict(stride=2),
        "dilation": dict(dilation=2), "is_causal": dict(is_causal=True),
        "scale": dict(scale=0.0), "additional_keys": extras,
        "additional_values": extras, "bias": dict(bias=numbers(2, *[5] * rank)),
        "grid_length": dict(grid_length=8),
        "query_begin": dict(grid_length=8, query_begin=1),
        "key_begin": dict(grid_length=8, key_begin=2), "backend": dict(backend="cpu"),
        "return_lse": dict(return_lse=True),
        "device": dict(device=None),  # a GPU's name: test_cuda.py
    }


def only(rows, *left_out):
    """The rows without some, and without some arguments in those that stay."""
    return {
        name: {k: v for k, v in row.items() if k not in left_out}
        for name, row in rows.items()
        if name not in left_out
    }


def na(rank):
    inputs = dict(
        query=numbers(1, *of_grid(rank), 2, 4),
        key=numbers(1, *of_grid(rank), 2, 4) + 1,
        value=numbers(1, *of_grid(rank), 2, 5), kernel_size=3,
    )
    return inputs, fused_rows(rank)


def table():
    """Name -> (a plain call's arguments, the rows)."""
    rows = {f"na{rank}d": na(rank) for rank in (1, 2, 3)}
    inputs, of_two = na(2)
    q, k, v = (inputs[n] for n in ("query", "key", "value"))
    out, lse = natten.na2d(q, k, v, 3, return_lse=True)
    both = dict(out=out, lse=lse)
    rows["na_backward"] = (
        {**inputs, "grad_out": numbers(*v.shape)},
        {**only(of_two, "return_lse"), "out": both, "lse": both,
         "grad_lse": dict(grad_lse=numbers(*lse.shape))},
    )
    attn = natten.na_qk(q, k, 3)
    no_values = only(of_two, "return_lse", "additional_values", "device")
    no_keys = only(of_two, "return_lse", "additional_keys", "bias", "scale", "device")
    wider = numbers(*attn.shape[:-1], 11)
    rows["na_qk"] = dict(query=q, key=k, kernel_size=3), no_values
    rows["na_qk_backward"] = (
        dict(query=q, key=k, grad_attn=attn, kernel_size=3),
        {**no_values, "kernel_size": dict(kernel_size=2, grad_attn=attn[..., :4]),
         "additional_keys": dict(of_two["additional_keys"], grad_attn=wider)},
    )
    rows["na_qk_backward"][1]["additional_keys"].pop("additional_values")
    narrow = dict(kernel_size=2, attn=attn[..., :4])
    extra = dict(
        attn=wider, additional_values=of_two["additional_values"]["additional_values"]
    )
    rows["na_av"] = (
        dict(attn=attn, value=v, kernel_size=3),
        {**no_keys, "kernel_size": narrow, "additional_values": extra},
    )
    rows["na_av_backward"] = (
        dict(attn=attn, value=v, grad_out=numbers(*v.shape), kernel_size=3),
        {**no_keys, "kernel_size": narrow, "additional_values": extra},
    )
    rows.update(attention_rows())
    parts = [numbers(1, 5, 2, 4), numbers(1, 5, 2, 4) + 1]
    lses = [numbers(1, 5, 2), numbers(1, 5, 2) + 1]
    rows["merge_attentions"] = dict(outputs=parts, lse_tensors=lses), {}
    merged = dict(zip(("out", "lse"), natten.merge_attentions(parts, lses)))
    rows["merge_attentions_backward"] = (
        dict(outputs=parts, lse_tensors=lses, grad_out=numbers(1, 5, 2, 4) - 1),
        {"out": merged, "lse": merged, "grad_lse": dict(grad_lse=numbers(1, 5, 2))},
    )
    return rows


def attention_rows():
    q, k, v = numbers(1, 6, 2, 4), numbers(1, 5, 2, 4), numbers(1, 5, 2, 5)
    rows = only(
        fused_rows(1), "kernel_size", "stride", "dilation", "grid_length",
        "query_begin", "key_begin", "device",
    )
    rows["bias"] = dict(bias=numbers(2, 11))
    packed = dict(seqlens_Q=[2, 4], seqlens_KV=[3, 2])
    sums = dict(cumulative_seqlen_Q=[0, 2, 6], cumulative_seqlen_KV=[0, 3, 5])
    longest = {**sums, "max_seqlen_Q": 4, "max_seqlen_KV": 3}
    out, lse = natten.attention(q, k, v, return_lse=True)
    both = dict(out=out, lse=lse)
    plain = dict(query=q, key=k, value=v)
    return {
        "attention": (
            plain,
            {**rows, "seqlens_Q": packed, "seqlens_KV": packed,
             "cumulative_seqlen_Q": sums, "cumulative_seqlen_KV": sums,
             "max_seqlen_Q": longest, "max_seqlen_KV": longest},
        ),
        "attention_backward": (
            {**plain, "grad_out": numbers(*out.shape)},
            {**only(rows, "return_lse"), "out": both, "lse": both,
             "grad_lse": dict(grad_lse=numbers(*lse.shape))},
        ),
    }


def older_table():
    """Heads first."""
    rows = {}
    for rank in (1, 2, 3):
        grid = of_grid(rank)
        q, v = numbers(1, 2, *grid, 4), numbers(1, 2, *grid, 5)
        k = q + 1
        rpb, slots = numbers(2, *[5] * rank), 3**rank
        attn = numbers(1, 2, *grid, slots)
        window = {"dilation": dict(dilation=2), "is_causal": dict(is_causal=True)}
        qk = dict(query=q, key=k, kernel_size=3), {
            **window, "kernel_size": dict(kernel_size=2), "rpb": dict(rpb=rpb),
            "additional_keys": dict(additional_keys=numbers(1, 2, 3, 4)),
        }
        av = dict(attn=attn, value=v, kernel_size=3), {
            **window, "kernel_size": dict(kernel_size=2, attn=attn[..., : 2**rank]),
            "additional_values": dict(
                attn=numbers(1, 2, *grid, slots + 3),
                additional_values=numbers(1, 2, 3, 5),
            ),
        }
        rows[f"na{rank}d_qk"] = rows[f"natten{rank}dqk"] = qk
        rows[f"na{rank}d_av"] = rows[f"natten{rank}dav"] = av
        rows[f"natten{rank}dqkrpb"] = dict(query=q, key=k, rpb=rpb, kernel_size=3), {
            "dilation": dict(dilation=2), "rpb": dict(rpb=None),
            "kernel_size": dict(kernel_size=2, rpb=numbers(2, *[3] * rank)),
        }
    return rows


TABLE = {**table(), **older_table()}
MODULES = {
    "LegacyNeighborhoodAttention", "LegacyNeighborhoodAttention1D",
    "LegacyNeighborhoodAttention2D", "NeighborhoodAttention", "NeighborhoodAttention1D",
    "NeighborhoodAttention2D", "NeighborhoodAttention3D",
}
# Exercised by tests of their own; none computes with arrays.
ELSEWHERE = {
    "HAS_LIBNATTEN", "__version__", "are_deterministic_algorithms_enabled",
    "build_info", "cpu_variants", "disable_tf32", "enable_tf32", "get_num_threads",
    "has_bfloat", "has_cuda", "has_fna", "has_gemm", "has_half", "plan",
    "set_cpu_variant", "set_num_threads", "use_deterministic_algorithms",
    "use_tf32_in_gemm_na", "Gradients", "QKGradients", "AVGradients",
}


def function_of(name):
    return getattr(natten, name, None) or getattr(functional, name)


def test_no_name_is_missing_from_the_tables():
    public = {*natten.__all__, *functional.__all__}
    assert public - ELSEWHERE == set(TABLE)
    torch = pytest.importorskip("torch")
    assert all(issubclass(getattr(natten, name), torch.nn.Module) for name in MODULES)


@pytest.mark.parametrize("name", TABLE)
def test_no_argument_is_missing_from_the_tables(name):
    plain, rows = TABLE[name]
    wanted = set(inspect.signature(function_of(name)).parameters) - {"ignored"}
    assert wanted == {*plain, *rows}


def leaves(result):
    """All arrays of a result, in order."""
    if result is None:
        return []
    if isinstance(result, (tuple, list)):
        return [x for part in result for x in leaves(part)]
    return [result]


def bits(result):
    return [(x.shape, np.asarray(x).tobytes()) for x in leaves(result)]


def lent(value, kind):
    """Arrays of NumPy, and sequences of them, as arrays of a kind."""
    if isinstance(value, np.ndarray):
        return kind(value)
    if isinstance(value, list) and isinstance(value[0], np.ndarray):
        return [kind(x) for x in value]
    return value


@pytest.mark.parametrize("name", TABLE)
def test_every_argument_says_something(name):
    plain, rows = TABLE[name]
    function = function_of(name)
    usual = bits(function(**plain))
    for argument, row in rows.items():
        got = bits(function(**{**plain, **row}))
        if argument not in NEUTRAL:
            assert got != usual, argument
    for argument, row in rows.items():
        # Of a pair, the one that only says how stands beside the one that says what.
        if argument in NEUTRAL and set(row) <= NEUTRAL:
            assert bits(function(**{**plain, **row}))[: len(usual)] == usual, argument


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("name", TABLE)
def test_all_kinds_of_arrays_have_the_same_bits(name, framework):
    module = pytest.importorskip(framework)
    kind = module.from_numpy if framework == "torch" else module.numpy.asarray
    plain, rows = TABLE[name]
    function = function_of(name)
    for row in ({}, *rows.values()):
        given = {**plain, **row}
        got = function(**{k: lent(v, kind) for k, v in given.items()})
        assert bits(got) == bits(function(**given)), row


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_argument_of_a_module_says_something(name):
    torch = pytest.importorskip("torch")
    module = getattr(natten, name)
    legacy = name.startswith("Legacy")
    rows = dict(
        kernel_size=5, dilation=2, qkv_bias=False, qk_scale=0.0, bias=True,
        rel_pos_bias=True, attn_drop=0.5, proj_drop=0.5, num_heads=4,
    )
    if not legacy:
        rows.update(stride=2, is_causal=True)
    torch.manual_seed(1)
    x = torch.randn(1, *[10] * module.rank, 8)

    def computed(**given):
        torch.manual_seed(3)
        return module(**{**dict(embed_dim=8, num_heads=2, kernel_size=3), **given})(x)

    usual = computed()
    assert torch.equal(usual, computed())
    for argument, value in rows.items():
        assert not torch.equal(usual, computed(**{argument: value})), argument
    named = module(dim=8, num_heads=2, kernel_size=3)
    assert named.rpb is not None and named(x).shape == x.shape
    with pytest.raises(ValueError, match="kernel_size"):
        computed(kernel_size=11, strict=True)
    assert computed(kernel_size=11, strict=False).shape == x.shape
    from natten.modules import _KEYWORDS

    covered = {*rows, "dim", "embed_dim", "strict", "stride", "is_causal"}
    assert covered == _KEYWORDS
