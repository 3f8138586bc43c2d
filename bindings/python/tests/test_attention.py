# SPDX-License-Identifier: MIT
"""Every operation and every argument, against the brute force of oracle.py."""

import numpy as np
import pytest

import natten
from oracle import Attention, Grid, worst
from problem import element_type

# queries, options: each option alone and all together, on asymmetric prime shapes.
EVERYTHING = dict(kernel_size=(3, 4), stride=(1, 2), dilation=(2, 1), is_causal=(0, 1))
PART = dict(grid_length=(11, 13), query_begin=(3, 2), key_begin=(1, 4))
GRIDS = {
    "1d": ((13,), (13,), dict(kernel_size=5)),
    "1d even": ((13,), (13,), dict(kernel_size=4)),
    "1d stride": ((13,), (13,), dict(kernel_size=5, stride=3)),
    "1d dilation": ((13,), (13,), dict(kernel_size=3, dilation=4)),
    "1d causal": ((13,), (13,), dict(kernel_size=5, is_causal=True)),
    "1d window is the axis": ((7,), (7,), dict(kernel_size=7)),
    "1d one token": ((1,), (1,), dict(kernel_size=1)),
    "2d": ((7, 11), (7, 11), dict(kernel_size=(3, 5))),
    "2d everything": ((7, 11), (7, 11), EVERYTHING),
    "2d part": ((5, 7), (7, 8), {**EVERYTHING, **PART}),
    "2d part that misses keys": (
        (5, 7),
        (3, 2),
        dict(kernel_size=3, grid_length=(11, 13), key_begin=(7, 10)),
    ),
    "3d": ((3, 5, 7), (3, 5, 7), dict(kernel_size=(2, 3, 5))),
    "3d everything": (
        (5, 3, 7),
        (5, 3, 7),
        dict(
            kernel_size=(2, 3, 3),
            stride=(2, 1, 3),
            dilation=(2, 1, 2),
            is_causal=(1, 0, 0),
        ),
    ),
}
FEATURES = {
    "plain": dict(),
    "grouped heads": dict(heads_kv=2),
    "other value dim": dict(dim_v=3),
    "scale": dict(scale=-0.25),
    "scale 0": dict(scale=0.0),
    "bias": dict(bias=True),
    "extras": dict(extras=3),
    "all": dict(heads_kv=2, dim_v=3, scale=0.5, bias=True, extras=2),
}
DTYPES = ["float64", "float32", "float16", "bfloat16"]
# All grids with all features together, and all features alone on one grid.
COMBINATIONS = sorted(
    {(grid, "all") for grid in GRIDS}
    | {("2d everything", feature) for feature in FEATURES}
)


class Problem:
    """Random arrays for a grid and a set of features, and the oracle on them."""

    def __init__(self, random, grid, feature, dtype):
        queries, keys, self.window = GRIDS[grid]
        wanted = FEATURES[feature]
        self.dtype, self.random = dtype, random
        self.io = element_type(dtype)
        self.accumulator = np.float64 if dtype == "float64" else np.float32
        heads, heads_kv, dim = 4, wanted.get("heads_kv", 4), 5
        dim_v, extras = wanted.get("dim_v", 5), wanted.get("extras")
        self.query = self.normal(2, *queries, heads, dim)
        self.key = self.normal(2, *keys, heads_kv, dim)
        self.value = self.normal(2, *keys, heads_kv, dim_v)
        self.grid = Grid(queries, keys, **self.window)
        self.given = {"bias": None, "additional_keys": None, "additional_values": None}
        if wanted.get("bias"):
            sizes = [2 * w - 1 for w in self.grid.window]
            self.given["bias"] = random.normal(size=(heads, *sizes)).astype(
                self.accumulator
            )
        if extras:
            self.given["additional_keys"] = self.normal(2, extras, heads_kv, dim)
            self.given["additional_values"] = self.normal(2, extras, heads_kv, dim_v)
        self.scale = wanted.get("scale")
        self.grad_out = self.normal(2, *queries, heads, dim_v)
        self.grad_lse = random.normal(size=self.query.shape[:-1]).astype(
            self.accumulator
        )
        self.na = (natten.na1d, natten.na2d, natten.na3d)[len(queries) - 1]
        self.pair = {name: value for name, value in self.window.items()}

    def normal(self, *shape):
        return self.random.normal(size=shape).astype(self.io)

    def oracle(self, scale="own"):
        return Attention(
            self.grid,
            self.query,
            self.key,
            self.value,
            self.dtype,
            scale=self.scale if scale == "own" else scale,
            **self.given,
        )


@pytest.fixture(params=COMBINATIONS, ids=lambda c: f"{c[0]}, {c[1]}")
def combination(request):
    return request.param


def within_bounds(results, expected):
    assert set(results) == set(expected)
    ratios = {name: worst(results[name], expected[name]) for name in expected}
    assert max(ratios.values()) <= 1, ratios


def gradients(named):
    return {name: g for name, g in named._asdict().items() if g is not None}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_backward_follow_the_definition(
    random, combination, dtype, backend
):
    p = Problem(random, *combination, dtype)
    options = dict(p.window, scale=p.scale, backend=backend, **p.given)
    out, lse = p.na(p.query, p.key, p.value, return_lse=True, **options)
    assert out.dtype == p.io and lse.dtype == p.accumulator
    oracle = p.oracle()
    within_bounds({"out": out, "lse": lse}, oracle.forward())
    g = natten.na_backward(
        p.query,
        p.key,
        p.value,
        p.grad_out,
        out=out,
        lse=lse,
        grad_lse=p.grad_lse,
        **options,
    )
    within_bounds(gradients(g), oracle.backward(p.grad_out, p.grad_lse))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_unfused_pair_follows_the_definition(random, combination, dtype, backend):
    p = Problem(random, *combination, dtype)
    options = dict(p.window, backend=backend)
    extra_keys, extra_values = p.given["additional_keys"], p.given["additional_values"]
    # The scale of qk is 1 unless given.
    oracle = p.oracle(scale=1 if p.scale is None else p.scale)
    given = dict(
        scale=p.scale, bias=p.given["bias"], additional_keys=extra_keys, **options
    )
    attn = natten.na_qk(p.query, p.key, **given)
    within_bounds({"attn": attn}, oracle.qk())
    # What stands in empty slots is not read.
    grad_attn = p.normal(*attn.shape)
    grad_attn[np.isinf(attn.astype(np.float64))] = np.nan
    g = natten.na_qk_backward(p.query, p.key, grad_attn, **given)
    within_bounds(gradients(g), oracle.qk_backward(grad_attn))
    weights = grad_attn
    out = natten.na_av(weights, p.value, additional_values=extra_values, **options)
    within_bounds({"out": out}, oracle.av(weights))
    g = natten.na_av_backward(
        weights, p.value, p.grad_out, additional_values=extra_values, **options
    )
    within_bounds(gradients(g), oracle.av_backward(weights, p.grad_out))


def test_backward_computes_out_and_lse_when_they_are_not_given(random):
    p = Problem(random, "2d everything", "all", "float32")
    options = dict(p.window, scale=p.scale, **p.given)
    arrays = p.query, p.key, p.value, p.grad_out
    out, lse = p.na(p.query, p.key, p.value, return_lse=True, **options)
    given = natten.na_backward(*arrays, out=out, lse=lse, **options)
    computed = natten.na_backward(*arrays, **options)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(given, computed))
    for alone in ({"out": out}, {"lse": lse}):
        with pytest.raises(ValueError, match="out and lse: give both, or neither"):
            natten.na_backward(*arrays, **alone, **options)


def test_the_oracles_gradients_are_differences_of_its_forward(random):
    """The judge is judged: central differences, in extended precision."""
    p = Problem(random, "2d part", "all", "float64")

    def loss():
        result = p.oracle().forward()
        return (result["out"][0] * p.grad_out).sum() + (
            result["lse"][0] * p.grad_lse
        ).sum()

    expected = p.oracle().backward(p.grad_out, p.grad_lse)
    arrays = {"query": p.query, "key": p.key, "value": p.value, **p.given}
    for name, array in arrays.items():
        for at in random.integers(array.size, size=5):
            step, old = 2.0**-13, array.flat[at]
            array.flat[at] = old + step
            above = loss()
            array.flat[at] = old - step
            below = loss()
            array.flat[at] = old
            slope = (above - below) / (2 * step)
            wanted = expected["grad_" + name][0].flat[at]
            # Third derivatives of a softmax over these numbers stay below 100.
            assert abs(slope - wanted) < 100 * step**2, name


# ---- attention with its own numbers of queries and keys ------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n_query, n_key", [(7, 7), (5, 11), (11, 5), (1, 13), (13, 1)])
def test_attention_sees_all_keys(random, n_query, n_key, causal):
    q = random.normal(size=(2, n_query, 4, 5))
    k, v = random.normal(size=(2, n_key, 2, 5)), random.normal(size=(2, n_key, 2, 3))
    longest = max(n_query, n_key)
    bias = random.normal(size=(4, 2 * longest - 1))
    extra = dict(
        additional_keys=random.normal(size=(2, 2, 2, 5)),
        additional_values=random.normal(size=(2, 2, 2, 3)),
        bias=bias,
    )
    grid = Grid((n_query,), (n_key,), longest, is_causal=causal, grid_length=longest)
    visible = np.tril(np.ones((n_query, n_key), bool)) if causal else np.True_
    assert (grid.visible == visible).all()
    oracle = Attention(grid, q, k, v, "float64", scale=0.5, **extra)
    out, lse = natten.attention(q, k, v, causal, 0.5, return_lse=True, **extra)
    within_bounds({"out": out, "lse": lse}, oracle.forward())
    grad_out, grad_lse = random.normal(size=out.shape), random.normal(size=lse.shape)
    g = natten.attention_backward(
        q, k, v, grad_out, causal, 0.5, grad_lse=grad_lse, **extra
    )
    within_bounds(gradients(g), oracle.backward(grad_out, grad_lse))


@pytest.mark.parametrize("n_query, n_key", [(3, 0), (0, 3), (0, 0)])
def test_attention_takes_sequences_of_length_zero(n_query, n_key):
    q, k = np.ones((2, n_query, 4, 5)), np.ones((2, n_key, 2, 5))
    out, lse = natten.attention(q, k, k, return_lse=True)
    assert out.shape == q.shape and lse.shape == q.shape[:-1]
    assert (out == 0).all() and (lse == -np.inf).all()
    gradients = natten.attention_backward(q, k, k, out, out=out, lse=lse)
    for gradient, of in zip(gradients[:3], (q, k, k)):
        assert gradient.shape == of.shape and (gradient == 0).all()
    merged, merged_lse = natten.merge_attentions([out, out], [lse, lse])
    assert (merged == 0).all() and (merged_lse == -np.inf).all()
    assert merged.shape == out.shape


# ---- merging -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_merging_is_the_weighted_sum_of_the_partials(random, dtype):
    io = element_type(dtype)
    accumulator = np.float64 if dtype == "float64" else np.float32
    outputs = [random.normal(size=(2, 7, 3, 5)).astype(io) for _ in range(3)]
    lses = [random.normal(size=(2, 7, 3)).astype(accumulator) for _ in range(3)]
    lses[1][0] = -np.inf
    for lse in lses:
        lse[1, 2] = -np.inf  # nobody saw anything
    out, lse = natten.merge_attentions(outputs, lses)
    assert out.dtype == io and lse.dtype == accumulator
    stack = np.array([o.astype(np.longdouble) for o in outputs])
    logs = np.array(lses, np.longdouble)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(logs).sum(0))
    weights = np.exp(logs - np.where(np.isinf(total), 0, total))
    expected = (weights[..., None] * stack).sum(0)
    u = 2.0**-53 if dtype == "float64" else 2.0**-24
    unit = {
        "float64": 2.0**-53,
        "float32": 2.0**-24,
        "float16": 2.0**-11,
        "bfloat16": 2.0**-8,
    }[dtype]
    # A weight: an exponential of a difference of logs, each log rounded; three terms.
    size = (weights[..., None] * np.abs(stack)).sum(0)
    spread = 4 + np.abs(np.where(np.isinf(logs), 0, logs)).max()
    bound = 8 * u * spread * size + unit * np.abs(expected) + 2.0**-24
    assert worst(out, (expected, bound)) <= 1
    assert (
        worst(lse, (total, 8 * u * (1 + np.abs(np.where(np.isinf(total), 0, total)))))
        <= 1
    )
    assert (out[1, 2] == 0).all() and np.isneginf(lse[1, 2]).all()


def test_merging_back_gives_the_gradients_of_merging(random):
    """Central differences of the library's own merge, in double."""
    outputs = [random.normal(size=(1, 5, 2, 3)) for _ in range(3)]
    lses = [random.normal(size=(1, 5, 2)) for _ in range(3)]
    grad_out, grad_lse = random.normal(size=(1, 5, 2, 3)), random.normal(size=(1, 5, 2))
    g_outputs, g_lses = natten.merge_attentions_backward(
        outputs, lses, grad_out, grad_lse=grad_lse
    )

    def loss():
        out, lse = natten.merge_attentions(outputs, lses)
        return (out * grad_out).sum() + (lse * grad_lse).sum()

    for arrays, grads in ((outputs, g_outputs), (lses, g_lses)):
        for array, gradient in zip(arrays, grads):
            assert gradient.shape == array.shape
            for at in random.integers(array.size, size=6):
                old, values = array.flat[at], []
                for step in (2.0**-16, -(2.0**-16)):
                    array.flat[at] = old + step
                    values.append(loss())
                array.flat[at] = old
                # Truncation is below 2^-32 times a third derivative below 10; rounding
                # of sums of about 30 numbers of size 3 below 2^-45, over 2^-15.
                assert (
                    abs((values[0] - values[1]) * 2.0**15 - gradient.flat[at])
                    < 2.0**-28
                )


def test_attention_over_two_halves_of_the_keys_merges_to_the_whole(random):
    q, k, v = (random.normal(size=(2, 7, 11, 2, 5)) for _ in range(3))
    whole = natten.na2d(q, k, v, (5, 3), return_lse=True)
    halves = [
        natten.na2d(
            q,
            k[:, part],
            v[:, part],
            (5, 3),
            return_lse=True,
            grid_length=(7, 11),
            key_begin=(part.start, 0),
        )
        for part in (slice(0, 4), slice(4, 7))
    ]
    merged = natten.merge_attentions(*zip(*halves))
    # Each of the three softmaxes is within (n + 8) u of its own; values are below 5.
    for got, wanted in zip(merged, whole):
        assert np.abs(got - wanted).max() < 5 * 3 * (15 + 8) * 2.0**-53


def test_backward_of_each_part_of_the_keys_gives_its_share(random):
    """With the merged out and lse, which are not those of the part itself."""
    q, k, v, grad_out = (random.normal(size=(2, 7, 11, 2, 5)) for _ in range(4))
    grad_lse = random.normal(size=(2, 7, 11, 2))
    out, lse = natten.na2d(q, k, v, (5, 3), return_lse=True)
    oracle = Attention(Grid((7, 11), (7, 11), (5, 3)), q, k, v, "float64")
    given = dict(out=out, lse=lse, grad_lse=grad_lse, grid_length=(7, 11))
    parts = [
        natten.na_backward(
            q,
            k[:, rows],
            v[:, rows],
            grad_out,
            (5, 3),
            key_begin=(rows.start, 0),
            **given,
        )
        for rows in (slice(0, 4), slice(4, 7))
    ]
    joined = {
        "grad_query": parts[0].grad_query + parts[1].grad_query,
        "grad_key": np.concatenate([g.grad_key for g in parts], axis=1),
        "grad_value": np.concatenate([g.grad_value for g in parts], axis=1),
    }
    within_bounds(joined, oracle.backward(grad_out, grad_lse))


def test_a_part_of_the_queries_has_the_wholes_rows(random):
    q, k, v = (random.normal(size=(1, 13, 11, 2, 5)) for _ in range(3))
    whole = natten.na2d(q, k, v, 5, stride=(2, 1), is_causal=(0, 1))
    # Rows 4 to 8 see rows 2 to 10 at most, shifted by the stride's leader.
    part = natten.na2d(
        q[:, 4:9],
        k[:, 1:12],
        v[:, 1:12],
        5,
        stride=(2, 1),
        is_causal=(0, 1),
        grid_length=(13, 11),
        query_begin=(4, 0),
        key_begin=(1, 0),
    )
    assert part.tobytes() == whole[:, 4:9].tobytes()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_axes_are_not_mixed_up(random, rank):
    """An asymmetric window on an asymmetric grid, one hot key, by hand."""
    shape, window = ((7,), (5, 11), (3, 5, 7))[rank - 1], ((3,), (3, 7), (1, 3, 5))[
        rank - 1
    ]
    q = np.zeros((1, *shape, 1, 1))
    value = np.zeros_like(q)
    hot = tuple(n // 2 for n in shape)
    value[(0, *hot, 0, 0)] = 1
    out = getattr(natten, f"na{rank}d")(q, q, value, window)[0, ..., 0, 0]
    seen = np.zeros(shape, bool)
    # The hot key is in the middle, so border windows that shift may still reach it.
    for at in np.ndindex(*shape):
        begins = [min(max(i - w // 2, 0), n - w) for i, w, n in zip(at, window, shape)]
        seen[at] = all(b <= h < b + w for b, h, w in zip(begins, hot, window))
    np.testing.assert_allclose(out, seen / np.prod(window), rtol=1e-15)


@pytest.mark.parametrize("lengths", [(5, 3), (3, 5), (4, 4), (0, 2), (2, 0), (0, 0)])
def test_attentions_grid_is_as_long_as_the_library_says(lengths):
    query, key = (np.zeros((1, n, 1, 2), np.float32) for n in lengths)
    params = natten._functional._attention_params(query, key, False, None, None)
    wanted = natten.capi.natten_attention_length(*lengths)
    assert (params.kernel_size, params.grid_length) == (wanted, wanted)


def test_a_batch_of_nothing_has_a_gradient_of_zero_for_the_bias():
    q, bias = np.ones((0, 5, 2, 3)), np.ones((2, 5))
    np.full(bias.shape, 7.0)  # leaves the memory that the gradient is likely to get
    assert not natten.na_backward(q, q, q, q, 3, bias=bias).grad_bias.any()
    attn = np.ones((0, 5, 2, 3))
    assert not natten.na_qk_backward(q, q, attn, 3, bias=bias).grad_bias.any()
