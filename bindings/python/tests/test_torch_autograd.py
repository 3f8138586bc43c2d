# SPDX-License-Identifier: MIT
"""torch's machinery on the operations: gradients, compile, autocast, opcheck, vmap."""

import functools

import pytest

import natten

torch = pytest.importorskip("torch")

from natten import _torch, capi  # noqa: E402

MODERN = hasattr(torch.library, "custom_op")
needs_operators = pytest.mark.skipif(not MODERN, reason="torch before 2.4")
EVERYTHING = dict(stride=2, dilation=(1, 2), is_causal=(False, True), scale=0.3)
INPUTS = "query", "key", "value", "bias", "additional_keys", "additional_values"
KERNEL = (3, 4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(20220414)
    # Thousands of calls too small to share out: threads would only wait for each other.
    natten.set_num_threads(1)


def tensors(dtype=torch.float64, grad=True):
    """Grouped heads, another head_dim of values, bias and extras, on 4 x 8 tokens."""
    own = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = dict(
        query=(1, 4, 8, 2, 2), key=(1, 4, 8, 1, 2), value=(1, 4, 8, 1, 3),
        bias=(2, 5, 7), additional_keys=(1, 2, 1, 2), additional_values=(1, 2, 1, 3),
    )
    return {
        name: torch.randn(
            shape, dtype=own if name == "bias" else dtype, requires_grad=grad
        )
        for name, shape in shapes.items()
    }


def fused(query, key, value, bias, additional_keys, additional_values, **options):
    return natten.na2d(
        query, key, value, KERNEL, bias=bias, additional_keys=additional_keys,
        additional_values=additional_values, return_lse=True,
        **{**EVERYTHING, **options},
    )


# ---- gradients -----------------------------------------------------------------------


def test_gradcheck_of_all_inputs_through_out_and_lse():
    given = tensors()
    assert torch.autograd.gradcheck(fused, tuple(given.values()))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradcheck_of_every_rank(rank):
    na = (natten.na1d, natten.na2d, natten.na3d)[rank - 1]
    shape = (1, *(5, 3, 4)[:rank], 2, 3)
    qkv = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3)
    ]
    assert torch.autograd.gradcheck(lambda *a: na(*a, 2, is_causal=True), qkv)


def test_gradcheck_of_the_unfused_pair():
    given = tensors()
    options = {k: v for k, v in EVERYTHING.items() if k != "scale"}

    def pair(query, key, value, bias, additional_keys, additional_values):
        attn = natten.na_qk(
            query, key, KERNEL, scale=0.3, additional_keys=additional_keys, bias=bias,
            **options,
        ).softmax(-1)
        return natten.na_av(
            attn, value, KERNEL, additional_values=additional_values, **options
        )

    assert torch.autograd.gradcheck(pair, tuple(given.values()))
    torch.testing.assert_close(pair(**given), fused(**given)[0])


def test_gradcheck_of_attention_and_packed_sequences():
    q = torch.randn(1, 7, 2, 3, dtype=torch.float64, requires_grad=True)
    k, v = (
        torch.randn(1, 5, 2, 3, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )

    def plain(*qkv):
        return natten.attention(*qkv, is_causal=True, return_lse=True)

    def packed(*qkv):
        return natten.attention(*qkv, seqlens_Q=[3, 4], seqlens_KV=[4, 1])

    assert torch.autograd.gradcheck(plain, (q, k, v))
    assert torch.autograd.gradcheck(packed, (q, k, v))


def test_packed_sequences_are_calls_of_their_own():
    q = torch.randn(1, 9, 2, 4)
    k, v = (torch.randn(1, 6, 2, 4) for _ in range(2))
    out, lse = natten.attention(
        q, k, v, cumulative_seqlen_Q=torch.tensor([0, 4, 7, 9]),
        cumulative_seqlen_KV=[0, 4, 4, 6], return_lse=True,
    )
    first = natten.attention(q[:, :4], k[:, :4], v[:, :4])
    assert torch.equal(out[:, :4], first)
    assert torch.equal(out[:, 7:], natten.attention(q[:, 7:], k[:, 4:], v[:, 4:]))
    assert not out[:, 4:7].any() and (lse[:, 4:7] == -float("inf")).all()
    from_numpy = natten.attention(
        q.numpy(), k.numpy(), v.numpy(), seqlens_Q=[4, 3, 2], seqlens_KV=[4, 0, 2]
    )
    assert (from_numpy == out.numpy()).all()
    nothing = natten.attention(q[:, :0], k, v, seqlens_Q=[0, 0], seqlens_KV=[2, 4])
    assert nothing.shape == (1, 0, 2, 4)
    with pytest.raises(ValueError, match="running sums"):
        natten.attention(q, k, v, seqlens_Q=[4, 3], seqlens_KV=[4, 2])


def test_gradcheck_of_merging():
    outs = [torch.randn(1, 5, 2, 3, dtype=torch.float64) for _ in range(3)]
    lses = [torch.randn(1, 5, 2, dtype=torch.float64) for _ in range(3)]
    inputs = [x.requires_grad_() for x in (*outs, *lses)]
    assert torch.autograd.gradcheck(
        lambda *x: natten.merge_attentions(x[:3], x[3:]), inputs
    )


def test_gradients_are_those_of_na_backward():
    given = tensors(torch.float32)
    out, lse = fused(**given)
    grads = torch.randn_like(out), torch.randn_like(lse)
    torch.autograd.backward([out, lse], grads)
    plain = {name: x.detach() for name, x in given.items()}
    q, k, v = (plain.pop(name) for name in INPUTS[:3])
    expected = natten.na_backward(
        q, k, v, grads[0], KERNEL, out=out.detach(), lse=lse.detach(),
        grad_lse=grads[1], **EVERYTHING, **plain,
    )
    for x, gradient in zip(given.values(), expected):
        assert torch.equal(x.grad, gradient)


def test_gradients_by_name_take_tensors_that_want_gradients():
    q, k, v, bias, ak, av = tensors(torch.float32).values()
    window = {name: EVERYTHING[name] for name in ("stride", "dilation", "is_causal")}
    grad = torch.randn(1, 4, 8, 2, 3)
    named = natten.na_backward(q, k, v, grad, KERNEL, bias=bias, **window)
    out = natten.na2d(q, k, v, KERNEL, bias=bias, **window)
    for got, wanted in zip(named, torch.autograd.grad(out, (q, k, v, bias), grad)):
        assert torch.equal(got, wanted)
    assert named.grad_additional_keys is None
    attn = natten.na_qk(q, k, KERNEL, **window)
    grad_attn = (attn > -float("inf")).to(attn.dtype)
    by_name = natten.na_qk_backward(q, k, grad_attn, KERNEL, **window)
    expected = torch.autograd.grad(attn, (q, k), grad_attn)
    assert all(map(torch.equal, by_name[:2], expected))
    weights = torch.rand_like(grad_attn).requires_grad_()
    by_name = natten.na_av_backward(weights, v, grad, KERNEL, **window)
    product = natten.na_av(weights, v, KERNEL, **window)
    expected = torch.autograd.grad(product, (weights, v), grad)
    assert all(map(torch.equal, by_name[:2], expected))
    with pytest.raises(NotImplementedError, match="gradients of gradients"):
        named.grad_query.sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = natten.na_backward(q, k, v, grad, KERNEL, bias=bias, **window)
    assert torch.equal(again.grad_key, named.grad_key)
    assert "bwd fp32" in natten.plan(q, k, v, KERNEL, operation="backward")


@pytest.mark.parametrize("options", [
    dict(kernel_size=3.7), dict(kernel_size="3"), dict(kernel_size=[3.0]),
    dict(kernel_size=2**70), dict(kernel_size={3}), dict(kernel_size={3: 3}),
    dict(kernel_size=3, stride=[]), dict(kernel_size=3, stride={1: 2}.keys()),
    dict(kernel_size=3, grid_length=()), dict(kernel_size=3, stride=(1, 1)),
    dict(kernel_size=3, dilation=None, scale="1"), dict(kernel_size=3, scale=b"1"),
    dict(kernel_size=3, scale=1j), dict(kernel_size=3, scale=[1]),
    dict(kernel_size=3, scale=10**400), dict(kernel_size=3, backend=3),
    dict(kernel_size=3, backend=["cpu"]), dict(kernel_size=3, backend=b"cpu"),
], ids=lambda options: " ".join(f"{k}={v!r:.16}" for k, v in options.items()))
def test_what_is_no_number_is_refused_as_for_numpy(options):
    (name,) = set(options) - {"kernel_size", "dilation"} or {"kernel_size"}
    q = torch.randn(1, 5, 1, 2)
    x = q.numpy()
    with pytest.raises((TypeError, ValueError), match=name) as numpys:
        natten.na1d(x, x, x, **options)
    with pytest.raises((TypeError, ValueError)) as ours:
        natten.na1d(q, q, q, **options)
    assert ours.type is numpys.type and str(ours.value) == str(numpys.value)


def test_only_lse_or_only_one_input_may_want_a_gradient():
    given = tensors(grad=False)
    given["key"].requires_grad_()
    fused(**given)[1].sum().backward()
    assert given["key"].grad.abs().sum() > 0 and given["query"].grad is None


def test_gradients_of_gradients_are_refused_in_words():
    q = torch.randn(1, 5, 1, 2, requires_grad=True)
    out = natten.na1d(q, q, q, 3)
    (first,) = torch.autograd.grad(out.sum(), q, create_graph=True)
    with pytest.raises((NotImplementedError, RuntimeError), match="not implemented"):
        first.sum().backward()


def forward_mode():
    """Operations, of one tensor [batch, length, heads, head_dim]."""
    attn = torch.randn(1, 5, 2, 3)
    return {
        "na1d": lambda x: natten.na1d(x, x, x, 3),
        "attention": lambda x: natten.attention(x, x, x),
        "na_qk": lambda x: natten.na_qk(x, x, 3),
        "na_av": lambda x: natten.na_av(attn, x, 3),
        "merging": lambda x: natten.merge_attentions([x, x], [x[..., 0]] * 2)[0],
        "backward": lambda x: natten.na_backward(x, x, x, x, 3).grad_query,
    }


@pytest.mark.parametrize("older", [False, True], ids=["today", "older"])
@pytest.mark.parametrize("name", forward_mode())
def test_forward_mode_is_refused_and_not_zero(name, older, monkeypatch):
    if older:
        monkeypatch.setattr(_torch, "ops", _torch.Operators(_torch._function))
    f = forward_mode()[name]
    x, tangent = torch.randn(2, 1, 5, 2, 4)
    refused = pytest.raises(NotImplementedError, match="forward-mode")
    for wants in (False, True):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(
                x.clone().requires_grad_(wants), tangent
            )
            with refused:
                f(dual)
            f(x)  # what has no tangent is as it was
    with refused:
        torch.func.jvp(f, (x,), (tangent,))
    with refused:
        torch.func.jacfwd(f)(x)


@needs_operators
def test_forward_mode_is_refused_inside_and_outside_of_vmap():
    f = forward_mode()["na1d"]
    x, tangent = torch.randn(2, 3, 1, 5, 2, 4)
    refused = pytest.raises(NotImplementedError, match="forward-mode")
    with refused:
        torch.func.jvp(torch.vmap(f), (x,), (tangent,))
    with refused:
        torch.vmap(lambda *pair: torch.func.jvp(f, pair[:1], pair[1:]))(x, tangent)
    # A constant beside what is differentiated is none of its business.
    _, same = torch.func.jvp(lambda y: y + torch.vmap(f)(x), (x,), (tangent,))
    assert torch.equal(same, tangent)


def test_the_way_of_older_torch_has_the_same_bits(monkeypatch):
    given = tensors()

    def everything():
        out, lse = fused(**given)
        attn = natten.na_qk(given["query"], given["key"], 3)
        out2 = natten.na_av(attn.softmax(-1), given["value"], 3)
        merged, _ = natten.merge_attentions([out, out2], [lse, lse * 2])
        return merged, *torch.autograd.grad(merged.square().sum(), given.values())

    expected = everything()
    monkeypatch.setattr(_torch, "ops", _torch.Operators(_torch._function))
    for got, wanted in zip(everything(), expected):
        assert torch.equal(got, wanted)
    assert torch.autograd.gradcheck(fused, tuple(given.values()))


# ---- layouts, modes, types -----------------------------------------------------------


def test_tensors_that_are_not_contiguous():
    qkv = torch.randn(2, 7, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: natten.na1d(*x.unbind(2), 3).transpose(1, 2), (qkv,)
    )


def test_autocast_computes_in_its_type_and_gradients_come_in_the_inputs():
    given = tensors(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, lse = fused(**given)
        attn = natten.na_qk(given["query"], given["key"], 3)
    assert out.dtype == attn.dtype == torch.bfloat16 and lse.dtype == torch.float32
    out.sum().backward()
    assert all(x.grad.dtype == torch.float32 for x in given.values())


def test_deterministic_algorithms_are_what_there_is():
    given = tensors(torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for threads in (1, 2):
            natten.set_num_threads(threads)
            out, lse = fused(**given)
            runs.append(torch.autograd.grad(out.sum() + lse.sum(), given.values()))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*runs))


@pytest.mark.parametrize("by_torch", [False, True])
def test_the_mode_of_torch_wins(backward_flags, by_torch):
    given = tensors(torch.float32)
    torch.use_deterministic_algorithms(by_torch)
    natten.use_deterministic_algorithms(False)
    try:
        fused(**given)[0].sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
        natten.use_deterministic_algorithms(True)
    asked = 0 if by_torch else capi.NATTEN_FLAG_ALLOW_NONDETERMINISTIC
    assert backward_flags == [asked]


def test_names_of_other_backends_are_ignored_with_one_warning(monkeypatch):
    monkeypatch.setattr(natten._upstream, "_warned", False)
    q = torch.randn(1, 5, 1, 2)
    expected = natten.na1d(q, q, q, 3)
    with pytest.warns(UserWarning, match="q_tile_shape.*cutlass-fna") as seen:
        for _ in range(2):
            got = natten.na1d(
                q, q, q, 3, backend="cutlass-fna", q_tile_shape=(64,),
                backward_kv_splits=2,
            )
    assert torch.equal(got, expected) and len(seen) == 1
    assert torch.equal(natten.na1d(q, q, q, 3, q_tile_shape=None), expected)
    with pytest.raises(TypeError, match="kernel"):
        natten.na1d(q, q, q, 3, kernel=3)
    with pytest.raises(ValueError, match="backend"):
        natten.na1d(q, q, q, 3, backend="no such")


# ---- operators -----------------------------------------------------------------------


@needs_operators
def test_opcheck_of_every_operator():
    given = tensors()
    flat = _torch._flat(
        natten._functional.Params(2, KERNEL, 2, (1, 2), (False, True), 0.3)
    )
    inputs = tuple(given.values())
    detached = tuple(x.detach() for x in inputs)
    q, k, v, bias, ak, av = detached
    out, lse = (x.detach() for x in fused(**given))
    natten_ops = torch.ops.natten
    check = torch.library.opcheck
    check(natten_ops.forward, (*inputs, *flat))
    check(natten_ops.forward, (*inputs[:3], None, None, None, *flat))
    check(natten_ops.backward, (*detached, out, lse, out, lse, *flat))
    check(natten_ops.backward, (q, k, v, None, None, None, out, lse, out, None, *flat))
    check(natten_ops.qk, (inputs[0], inputs[1], inputs[3], inputs[4], *flat))
    attn = natten_ops.qk(q, k, bias, ak, *flat)
    check(natten_ops.qk_backward, (q, k, bias, ak, attn, *flat))
    attn = torch.rand_like(attn)
    check(natten_ops.av, (attn.requires_grad_(), inputs[2], inputs[5], *flat))
    check(natten_ops.av_backward, (attn.detach(), v, av, out, *flat))
    pair = [out.clone().requires_grad_(), out.clone()], [lse.clone(), lse.clone()]
    check(natten_ops.merge, pair)
    plain = [[x.detach() for x in part] for part in pair]
    check(natten_ops.merge_backward, (*plain, out, lse, out, lse))


@needs_operators
def test_compiled_without_a_graph_break_equals_eager(check_compiled):
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = torch.nn.Linear(8, 24)
            self.bias = torch.nn.Parameter(torch.randn(2, 5, 5))

        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).unbind(-3)
            out, lse = natten.na2d(
                q, k, v, 3, bias=self.bias, return_lse=True, backend="cutlass-fna",
                q_tile_shape=(8, 8),
            )
            return x + out.flatten(-2) * lse.mean(-1, keepdim=True).sigmoid()

    model = torch.nn.Sequential(Layer(), Layer())
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(2, 5, 6, 8)
    check_compiled(model, compiled, x)


@needs_operators
def test_lengths_that_vary_are_compiled_once():
    compiled_for = []

    def backend(graph, examples):
        compiled_for.append(examples)
        return graph.forward

    both = torch.compile(
        natten.attention, fullgraph=True, dynamic=True, backend=backend
    )
    for length in (5, 6, 9, 12):
        q, k = torch.randn(1, length, 2, 4), torch.randn(1, length + 2, 2, 4)
        assert torch.equal(both(q, k, k), natten.attention(q, k, k))
    assert len(compiled_for) == 1


@needs_operators
def test_packed_sequences_of_listed_lengths_are_compiled_whole():
    q, k = torch.randn(1, 9, 2, 4), torch.randn(1, 7, 2, 4)
    lists = dict(cumulative_seqlen_Q=[0, 4, 9], cumulative_seqlen_KV=[0, 3, 7])
    tensors = {name: torch.tensor(x, dtype=torch.int32) for name, x in lists.items()}
    expected = natten.attention(q, k, k, is_causal=True, **tensors)
    compiled = torch.compile(natten.attention, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, k, k, is_causal=True, **lists), expected)


@needs_operators
def test_vmap_is_a_loop_over_slices():
    q = torch.randn(3, 1, 5, 2, 4)
    k = torch.randn(1, 5, 2, 4)
    f = functools.partial(natten.na1d, kernel_size=3)
    got = torch.vmap(f, in_dims=(0, None, None))(q, k, k)
    assert torch.equal(got, torch.stack([f(x, k, k) for x in q]))


@needs_operators
def test_operations_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    q = torch.randn(2, 5, 6, 3, 4, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        natten.na2d(q, q, q, 3).sum().backward()
    pairs = 2 * 5 * 6 * 3 * 9
    assert counter.get_total_flops() == 2 * pairs * (2 * 4 + 5 * 4)
    with FlopCounterMode(display=False) as counter:
        natten.attention(torch.randn(1, 9, 2, 4), *torch.randn(2, 1, 5, 2, 4))
    assert counter.get_total_flops() == 2 * (9 * 2 * 5) * (2 * 4)


@needs_operators
def test_tensors_without_memory_have_shapes():
    q = torch.empty(2, 5, 6, 3, 4, dtype=torch.bfloat16, device="meta")
    out, lse = natten.na2d(q, q, q, 3, return_lse=True)
    assert out.shape == q.shape and out.dtype == q.dtype
    assert lse.shape == q.shape[:-1] and lse.dtype == torch.float32
