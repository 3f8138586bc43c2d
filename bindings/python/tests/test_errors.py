# SPDX-License-Identifier: MIT
"""Every illegal argument: its exception, its sentence, and that nothing was written."""

from pathlib import Path

import numpy as np
import pytest

import natten
from natten import capi


def zeros(*shape, dtype="f8"):
    return np.zeros(shape, dtype)


# Legal: batch 2, height 5, width 7, 4 heads over 2, dim 3, value dim 6.
QUERY, KEY, VALUE = zeros(2, 5, 7, 4, 3), zeros(2, 5, 7, 2, 3), zeros(2, 5, 7, 2, 6)
EXTRA_KEYS, EXTRA_VALUES = zeros(2, 2, 2, 3), zeros(2, 2, 2, 6)
LEGAL = dict(
    query=QUERY,
    key=KEY,
    value=VALUE,
    kernel_size=(3, 5),
    stride=(1, 2),
    dilation=1,
    is_causal=False,
    bias=zeros(4, 5, 9),
    additional_keys=EXTRA_KEYS,
    additional_values=EXTRA_VALUES,
)

# what is changed, exception, what the sentence must say
ILLEGAL = [
    # values per axis: out of range, of the wrong number, of the wrong type
    (dict(kernel_size=0), ValueError, r"kernel_size\[height\]=0.*\[1, 5\]"),
    (dict(kernel_size=(3, 8)), ValueError, r"kernel_size\[width\]=8.*\[1, 7\]"),
    (dict(kernel_size=-1), ValueError, r"kernel_size\[height\]=-1"),
    (dict(dilation=(1, 2)), ValueError, r"kernel_size\[width\]=5.*dilation 2"),
    (dict(dilation=0), ValueError, r"dilation\[height\]=0"),
    (dict(stride=(1, 6)), ValueError, r"stride\[width\]=6.*\[1, 5\]"),
    (dict(stride=0), ValueError, r"stride\[height\]=0"),
    (dict(is_causal=2), ValueError, r"is_causal\[height\]=2"),
    (dict(grid_length=(5, 3)), ValueError, r"grid_length\[width\]=3"),
    (dict(grid_length=9, query_begin=5), ValueError, r"query_begin\[height\]=5"),
    (dict(grid_length=9, key_begin=(0, -1)), ValueError, r"key_begin\[width\]=-1"),
    (dict(kernel_size=(3, 3, 3)), ValueError, "kernel_size: 3 values for 2 axes"),
    (dict(stride=()), ValueError, "stride: 0 values for 2 axes"),
    (dict(is_causal=(True,)), ValueError, "is_causal: 1 values for 2 axes"),
    (dict(kernel_size=3.0), TypeError, "kernel_size: an integer is wanted, not float"),
    (dict(kernel_size=None), ValueError, r"kernel_size\[height\]=0"),
    (dict(dilation=(1, "2")), TypeError, "dilation: an integer is wanted, not str"),
    (dict(query_begin="ab"), TypeError, "query_begin: an integer is wanted, not str"),
    (dict(kernel_size=10**30), ValueError, "kernel_size: 10* does not fit in 64 bits"),
    # other values
    (dict(scale=float("nan")), ValueError, "scale=.*nan"),
    (dict(scale=float("inf")), ValueError, "scale=.*inf"),
    (dict(scale=10**400), ValueError, "scale: an integer that no float holds"),
    (dict(scale="1"), TypeError, "scale: a number or None is wanted, not str"),
    (dict(backend="gpu"), ValueError, "backend: 'gpu' is not one of 'auto', 'cpu'"),
    (dict(backend=1), ValueError, "backend: 1 is not one of"),
    # shapes
    (dict(query=zeros(2, 5, 4, 3)), ValueError, "query"),
    (dict(query=zeros(2, 3, 5, 7, 4, 3)), ValueError, "query"),
    (dict(query=zeros()), ValueError, "query"),
    (dict(query=np.float64(1)), ValueError, "query"),
    (dict(query=zeros(*(1,) * 9)), ValueError, "query: 9 axes are more than 8"),
    (dict(query=zeros(2, 5, 0, 4, 3)), ValueError, "query"),
    (dict(key=zeros(2, 5, 7, 3, 3)), ValueError, "(key|heads)"),
    (dict(key=zeros(2, 5, 7, 2, 4)), ValueError, "key"),
    (dict(key=zeros(1, 5, 7, 2, 3)), ValueError, "key"),
    (dict(value=zeros(2, 5, 6, 2, 6)), ValueError, "value"),
    (dict(value=zeros(2, 5, 7, 4, 6)), ValueError, "value"),
    (dict(bias=zeros(4, 5, 5)), ValueError, "bias"),
    (dict(bias=zeros(2, 5, 9)), ValueError, "bias"),
    (dict(additional_keys=zeros(2, 3, 2, 3)), ValueError, "additional_"),
    (dict(additional_keys=None), ValueError, "additional_keys"),
    (dict(additional_values=None), ValueError, "additional_values"),
    (dict(additional_values=zeros(2, 2, 2, 5)), ValueError, "additional_values"),
    # element types
    (dict(key=zeros(2, 5, 7, 2, 3, dtype="f4")), TypeError, "key"),
    (dict(value=zeros(2, 5, 7, 2, 6, dtype="f2")), TypeError, "value"),
    (dict(bias=zeros(4, 5, 9, dtype="f4")), TypeError, "bias"),
    (dict(additional_keys=zeros(2, 2, 2, 3, dtype="i8")), TypeError, "additional_keys"),
    # strides
    (dict(query=QUERY[:, ::-1]), ValueError, "query.*stride"),
]


def names(change):
    return ", ".join(f"{k}={getattr(v, 'shape', v)!r}" for k, v in change.items())


def test_the_legal_call_is_legal():
    assert natten.na2d(**LEGAL).shape == (2, 5, 7, 4, 6)
    natten.na_backward(grad_out=zeros(2, 5, 7, 4, 6), **LEGAL)


@pytest.mark.parametrize(
    "change, exception, words",
    ILLEGAL,
    ids=lambda x: (names(x) if isinstance(x, dict) else ""),
)
def test_illegal_arguments_of_forward(change, exception, words):
    with pytest.raises(exception, match=words):
        natten.na2d(**{**LEGAL, **change})


@pytest.mark.parametrize(
    "change, exception, words",
    ILLEGAL,
    ids=lambda x: (names(x) if isinstance(x, dict) else ""),
)
def test_illegal_arguments_of_backward(change, exception, words):
    # Its rank comes from query, so query's own errors are worded for that.
    if "query" in change:
        words = None
    given = dict(out=zeros(2, 5, 7, 4, 6), lse=zeros(2, 5, 7, 4))
    with pytest.raises(exception, match=words):
        natten.na_backward(grad_out=given["out"], **given, **{**LEGAL, **change})


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(grad_out=zeros(2, 5, 7, 4, 3)), "grad_out"),
        (dict(out=zeros(2, 5, 7, 4, 3)), "out"),
        (dict(lse=zeros(2, 5, 7, 2)), "lse"),
        (dict(grad_lse=zeros(2, 5, 7)), "grad_lse"),
    ],
)
def test_illegal_shapes_of_backwards_own_arguments(change, words):
    given = dict(
        grad_out=zeros(2, 5, 7, 4, 6),
        out=zeros(2, 5, 7, 4, 6),
        lse=zeros(2, 5, 7, 4),
        grad_lse=zeros(2, 5, 7, 4),
    )
    natten.na_backward(**LEGAL, **given)
    with pytest.raises(ValueError, match=f"natten_backward: {words}"):
        natten.na_backward(**LEGAL, **{**given, **change})


ATTN = zeros(2, 5, 7, 4, 15)
PAIR = {
    "kernel_size too large": (
        dict(kernel_size=(6, 5)),
        ValueError,
        r"kernel_size\[height\]=6",
    ),
    "kernel_size huge": (dict(kernel_size=2**62), ValueError, r"kernel_size\[height\]"),
    "stride": (dict(stride=9), ValueError, "stride"),
    "dilation": (dict(dilation=-1), ValueError, "dilation"),
    "part": (dict(query_begin=1), ValueError, "query_begin"),
    "backend": (dict(backend="x"), ValueError, "backend"),
}


@pytest.mark.parametrize("change, exception, words", PAIR.values(), ids=PAIR)
def test_illegal_arguments_of_the_pair(change, exception, words):
    window = {"kernel_size": (3, 5), **change}
    calls = [
        lambda: natten.na_qk(QUERY, KEY, **window),
        lambda: natten.na_qk_backward(QUERY, KEY, ATTN, **window),
        lambda: natten.na_av(ATTN, VALUE, **window),
        lambda: natten.na_av_backward(ATTN, VALUE, zeros(2, 5, 7, 4, 6), **window),
    ]
    for call in calls:
        with pytest.raises(exception, match=words):
            call()


def test_attn_must_have_a_slot_for_each_key_and_token():
    with pytest.raises(ValueError, match="attn"):
        natten.na_av(zeros(2, 5, 7, 4, 16), VALUE, (3, 5))
    with pytest.raises(ValueError, match="grad_attn"):
        natten.na_qk_backward(QUERY, KEY, zeros(2, 5, 7, 4, 14), (3, 5))


OUTPUT, LSE = zeros(1, 5, 2, 3), zeros(1, 5, 2)


@pytest.mark.parametrize(
    "outputs, lses, exception, words",
    [
        ([], [], ValueError, "(outputs: at least one|count=0)"),
        ([OUTPUT, OUTPUT], [LSE], ValueError, "lse_tensors: 1 arrays for 2 outputs"),
        ([OUTPUT, zeros(1, 5, 2, 4)], [LSE, LSE], ValueError, "outputs"),
        ([OUTPUT, OUTPUT], [LSE, zeros(1, 4, 2)], ValueError,
         r"natten_merge.*: lse_tensors\[2 of 2\]\[length\]=4 not in"),
        ([OUTPUT, OUTPUT], [LSE, zeros(1, 5, 2, dtype="f4")], TypeError, "lse_tensors"),
        ([OUTPUT, "b"], [LSE, LSE], TypeError, r"outputs\[1\]: str has neither"),
        ([OUTPUT, OUTPUT], [LSE, None], TypeError,
         r"lse_tensors\[1\]: NoneType has neither"),
    ],
)
def test_illegal_arguments_of_merging(outputs, lses, exception, words):
    with pytest.raises(exception, match=words):
        natten.merge_attentions(outputs, lses)
    with pytest.raises(exception, match=words):
        natten.merge_attentions_backward(outputs, lses, OUTPUT, out=OUTPUT, lse=LSE)


def test_illegal_arguments_of_attention():
    q, kv = zeros(1, 5, 2, 3), zeros(1, 7, 2, 3)
    for wrong in (zeros(1, 5, 2), zeros(1, 5, 6, 2, 3), zeros(3)):
        with pytest.raises(ValueError, match="query"):
            natten.attention(wrong, kv, kv)
    with pytest.raises(ValueError, match="value"):
        natten.attention(q, kv, kv[:, :6])


@pytest.mark.parametrize(
    "change, exception, words",
    [
        (dict(value=zeros(1, 9, 2, 3)), ValueError, "value: length 9, 7 as key"),
        (dict(value=zeros(1, 6, 2, 3)), ValueError, "value: length 6, 7 as key"),
        (dict(value=zeros(1, 7, 1, 3)), ValueError, "value.*heads_kv"),
        (dict(query=zeros(2, 5, 2, 3)), ValueError, "query: shape .2, 5, 2, 3."),
        (dict(query=zeros(5)), ValueError, "query: shape .5,."),
        (dict(seqlens_Q=[2.9, 2.1]), TypeError, "seqlens_Q: an integer.*float"),
        (dict(seqlens_Q=[2, "3"]), TypeError, "seqlens_Q: an integer.*str"),
        (dict(seqlens_KV="7"), TypeError, "seqlens_KV: a list of integers.*str"),
        (dict(seqlens_KV={3, 4}), TypeError, "seqlens_KV: a list of integers.*set"),
        (dict(seqlens_Q=5), TypeError, "seqlens_Q: a list of integers.*int"),
        (dict(seqlens_Q=[2, 4]), ValueError, "seqlens_Q: .*0, 2, 6.*length, 5"),
        (dict(seqlens_Q=[6, -1]), ValueError, "seqlens_Q: .*0, 6, 5"),
        (dict(cumulative_seqlen_Q=[0, 3, 5]), ValueError,
         "cumulative_seqlen_Q: .0, 3, 5., and seqlens_Q says .0, 2, 5."),
        (dict(seqlens_Q=None), ValueError, "seqlens_Q and seqlens_KV"),
        (dict(seqlens_Q=[5]), ValueError, "seqlens_Q and seqlens_KV"),
        (dict(bias=zeros(2, 9)), ValueError, "bias: packed"),
        # Where no sequence has keys, or none has queries, nothing else is judged less.
        (dict(key=zeros(1, 0, 2, 3), value=zeros(1, 0, 2, 3), seqlens_KV=[0, 0],
              scale=np.inf), ValueError, "scale=inf"),
        (dict(key=zeros(1, 0, 2, 3), value=zeros(1, 0, 2, 3).astype("f4"),
              seqlens_KV=[0, 0]), TypeError, "value"),
        (dict(query=zeros(1, 0, 2, 3), seqlens_Q=[0, 0], scale=np.inf), ValueError,
         "scale=inf"),
    ],
)
def test_illegal_arguments_of_packed_attention(change, exception, words):
    kv = zeros(1, 7, 2, 3)
    legal = dict(
        query=zeros(1, 5, 2, 3), key=kv, value=kv, seqlens_Q=[2, 3], seqlens_KV=[3, 4]
    )
    natten.attention(**legal, cumulative_seqlen_Q=np.array([0, 2, 5]))
    with pytest.raises(exception, match=words):
        natten.attention(**{**legal, **change})


def test_illegal_settings():
    with pytest.raises(ValueError, match="threads=-1"):
        natten.set_num_threads(-1)
    with pytest.raises(TypeError):
        natten.set_num_threads("two")
    with pytest.raises(ValueError, match="mmx"):
        natten.set_cpu_variant("mmx")
    with pytest.raises(ValueError, match="operation: 'sideways' is not one of"):
        natten.plan(QUERY, KEY, VALUE, 3, operation="sideways")


def test_outputs_are_untouched_by_a_call_that_is_refused():
    out, lse = np.full((2, 5, 7, 4, 6), 7.0), np.full((2, 5, 7, 4), 7.0)
    for window, dilation in ((9, 1), (3, 9), (3, 0)):
        params = (2, window, 1, dilation) + (None,) * 6 + (0,)
        with pytest.raises(ValueError):
            capi.natten_forward(
                params, QUERY, KEY, VALUE, None, None, None, out, lse, None
            )
    assert (out == 7).all() and (lse == 7).all()


def test_outputs_that_overlap_an_input_are_refused():
    both = zeros(1, 5, 2, 3)
    params = (1, 3) + (None,) * 8 + (0,)
    with pytest.raises(ValueError, match="out"):
        capi.natten_forward(
            params, both, both, both, None, None, None, both, None, None
        )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_no_memory_for_scratch_is_a_memory_error():
    """grad_key wants a number per query kept: with a limit on memory, one too many."""
    resource = pytest.importorskip("resource")
    # 64 MiB of it: malloc keeps smaller blocks, and would find one.
    x = np.broadcast_to(0.0, (1, 1 << 23, 1, 1))
    lse, grad_key = x[..., 0], np.full(x.shape, 7.0)
    natten.na_backward(x[:, :9], x[:, :9], x[:, :9], x[:, :9], 3)  # threads exist now
    arguments = (1, 3) + (None,) * 8 + (0,), x, x, x, None, None, None, x, lse, x, None
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), old[1]))
    try:
        with pytest.raises(MemoryError, match="natten_backward: no memory"):
            capi.natten_backward(*arguments, None, grad_key, *(None,) * 5)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
    assert (grad_key == 7).all()
    natten.na_backward(x[:, :9], x[:, :9], x[:, :9], x[:, :9], 3)


def test_the_exception_has_no_trace_of_an_earlier_one():
    with pytest.raises(ValueError, match="stride"):
        natten.na2d(**{**LEGAL, "stride": 9})
    with pytest.raises(ValueError, match="dilation") as caught:
        natten.na2d(**{**LEGAL, "dilation": 0})
    assert "stride" not in str(caught.value) and caught.value.__cause__ is None
