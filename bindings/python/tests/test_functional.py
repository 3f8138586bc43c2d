# SPDX-License-Identifier: MIT
"""natten.functional: heads-first names of older releases, and the probes."""

import numpy as np
import pytest

import natten
from natten import capi, functional

GRIDS = {1: (7,), 2: (5, 7), 3: (3, 4, 5)}


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("rank", GRIDS)
def test_the_pair_is_the_fused_operation_with_heads_first(random, rank):
    k, options = 3 if rank < 3 else 2, dict(dilation=1, is_causal=True)
    q, key, v = random.normal(size=(3, 2, 4, *GRIDS[rank], 6))
    ak, av = random.normal(size=(2, 2, 4, 3, 6))
    rpb = random.normal(size=(4, *[2 * k - 1] * rank))
    qk_function = getattr(functional, f"na{rank}d_qk")
    av_function = getattr(functional, f"na{rank}d_av")
    attn = qk_function(q, key, k, additional_keys=ak, rpb=rpb, **options)
    assert attn.shape == (2, 4, *GRIDS[rank], k**rank + 3)
    out = av_function(softmax(attn), v, k, additional_values=av, **options)
    last = [np.moveaxis(x, 1, -2) for x in (q, key, v, ak, av)]
    expected = getattr(natten, f"na{rank}d")(
        *last[:3], k, scale=1.0, bias=rpb, additional_keys=last[3],
        additional_values=last[4], **options,
    )
    # Sums of at most 14 products of order 1 in fp64.
    np.testing.assert_allclose(np.moveaxis(out, 1, -2), expected, atol=1e-12)


@pytest.mark.parametrize("rank", GRIDS)
def test_the_first_names_are_the_same_functions(random, rank):
    q, key, v = random.normal(size=(3, 1, 2, *GRIDS[rank], 4))
    rpb = random.normal(size=(2, *[3] * rank))

    def get(name):
        return getattr(functional, name)

    attn = get(f"natten{rank}dqkrpb")(q, key, rpb, 2, 1)
    assert (attn == get(f"na{rank}d_qk")(q, key, 2, rpb=rpb)).all()
    plain = get(f"natten{rank}dqk")(q, key, 2, 1)
    assert (plain == get(f"natten{rank}dqkrpb")(q, key, None, 2)).all()
    out = get(f"natten{rank}dav")(softmax(attn), v, 2, 1)
    assert out.shape == v.shape
    with pytest.raises(ValueError, match="query"):
        get(f"na{rank}d_qk")(q[0], key[0], 2)


def test_probes_and_modes():
    assert natten.HAS_LIBNATTEN and natten.has_half() and natten.has_bfloat()
    assert natten.has_fna() and isinstance(natten.has_cuda(), bool)
    assert natten.has_gemm() == natten.has_cuda()
    assert natten.are_deterministic_algorithms_enabled()
    natten.use_deterministic_algorithms(False)
    assert not functional.are_deterministic_algorithms_enabled()
    natten.use_deterministic_algorithms(True)


def test_gradients_are_asked_for_with_the_mode(backward_flags, random):
    q = random.normal(size=(1, 5, 2, 3))
    for mode in (True, False):
        natten.use_deterministic_algorithms(mode)
        natten.na_backward(q, q, q, q, 3)
    natten.use_deterministic_algorithms(True)
    assert backward_flags == [0, capi.NATTEN_FLAG_ALLOW_NONDETERMINISTIC]


def test_bias_has_its_old_name_too(random):
    q, bias = random.normal(size=(1, 5, 2, 3)), random.normal(size=(2, 5))
    got = natten.na1d(q, q, q, kernel_size=3, dilation=1, is_causal=True, rpb=bias)
    assert (got == natten.na1d(q, q, q, 3, is_causal=True, bias=bias)).all()
    assert (natten.na1d(q, q, q, 3, rpb=None) == natten.na1d(q, q, q, 3)).all()
    with pytest.raises(TypeError, match="bias and rpb"):
        natten.na1d(q, q, q, 3, rpb=bias, bias=bias)


def test_switches_of_other_kernels_do_nothing_and_say_so_once(monkeypatch):
    monkeypatch.setattr(natten._upstream, "_warned", False)
    with pytest.warns(UserWarning, match=r"use_fused_na\(\)") as seen:
        natten.use_fused_na(True, kv_parallel=True)
        for name in natten._upstream.SWITCHES:
            assert getattr(natten, name)() is None
            assert name not in natten.__all__
    assert len(seen) == 1


def test_tf32_is_permitted_where_it_is_asked_for(monkeypatch, random):
    flags = []

    def watched(name):
        plain = getattr(capi, name)

        def call(params, *arrays):
            flags.append(params.flags)
            return plain(params, *arrays)

        monkeypatch.setattr(capi, name, call)

    watched("natten_forward")
    watched("natten_backward")
    q = random.normal(size=(1, 5, 2, 3)).astype(np.float32)
    for switch in (lambda: None, natten.enable_tf32, natten.disable_tf32,
                   natten.use_tf32_in_gemm_na):
        switch()
        natten.na_backward(q, q, q, q, 3)
    assert "tf32" in natten.plan(q, q, q, kernel_size=3)
    natten.disable_tf32()
    tf32 = capi.NATTEN_FLAG_ALLOW_TF32
    assert flags == [0, 0, tf32, tf32, 0, 0, tf32, tf32]


def test_there_is_no_other_attribute():
    with pytest.raises(AttributeError, match="nothing"):
        natten.nothing
