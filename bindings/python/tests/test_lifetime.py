# SPDX-License-Identifier: MIT
"""What is lent is given back: after success, after every failure, many times."""

import gc
import sys
import weakref

import numpy as np
import pytest

import natten
from natten import capi

SHAPE = (1, 7, 2, 3)


def calls():
    """Name, and a function of (query, key, value) that succeeds or fails in its way."""

    def fails(exception, call):
        def caught(q, k, v):
            with pytest.raises(exception):
                call(q, k, v)

        return caught

    return {
        "forward": lambda q, k, v: natten.na1d(q, k, v, 3, return_lse=True),
        "backward": lambda q, k, v: natten.na_backward(q, k, v, v, 3),
        "qk": lambda q, k, v: natten.na_qk(q, k, 3),
        "merge": lambda q, k, v: natten.merge_attentions(
            [q, k], [q[..., 0], k[..., 0]]
        ),
        "merge backward": lambda q, k, v: natten.merge_attentions_backward(
            [q, k], [q[..., 0], k[..., 0]], v
        ),
        "library refuses": fails(ValueError, lambda q, k, v: natten.na1d(q, k, v, 99)),
        "params refuse": fails(TypeError, lambda q, k, v: natten.na1d(q, k, v, "x")),
        "last array refuses": fails(
            TypeError, lambda q, k, v: natten.na1d(q, k, v, 3, bias="x")
        ),
        "type refuses": fails(
            TypeError, lambda q, k, v: natten.na1d(q, k, v.astype("i8"), 3)
        ),
        "one of many refuses": fails(
            TypeError,
            lambda q, k, v: capi.natten_merge(
                [q, k, None], [q[..., 0]] * 3, v, None, None
            ),
        ),
        "too few arguments": fails(
            TypeError, lambda q, k, v: capi.natten_forward(q, k, v)
        ),
    }


@pytest.mark.parametrize("call", calls().values(), ids=calls())
def test_arrays_are_given_back(random, call):
    arrays = [random.normal(size=SHAPE) for _ in range(3)]
    call(*arrays)
    gc.collect()
    before = [sys.getrefcount(a) for a in arrays]
    for _ in range(10):
        call(*arrays)
    gc.collect()
    assert [sys.getrefcount(a) for a in arrays] == before
    gone = [weakref.ref(a) for a in arrays]
    del arrays
    gc.collect()
    assert [r() for r in gone] == [None] * 3


@pytest.mark.parametrize("call", calls().values(), ids=calls())
def test_a_bytearray_can_be_resized_after_the_call(call):
    """While a buffer is lent, its owner can't be resized: so none is."""
    rooms = [bytearray(np.prod(SHAPE) * 8) for _ in range(3)]
    arrays = [np.frombuffer(room).reshape(SHAPE) for room in rooms]
    call(*arrays)
    gc.collect()
    del arrays
    gc.collect()
    for room in rooms:
        room.append(1)


@pytest.mark.skipif(not hasattr(np.ndarray, "__dlpack__"), reason="NumPy has no DLPack")
@pytest.mark.parametrize("kernel_size, exception", [(3, None), (99, ValueError)])
def test_capsules_are_given_back(random, kernel_size, exception):
    class Lends:
        def __init__(self, inner):
            self.inner = inner

        def __dlpack__(self, **keywords):
            return self.inner.__dlpack__(**keywords)

    arrays = [random.normal(size=SHAPE) for _ in range(3)]
    before = [sys.getrefcount(a) for a in arrays]
    for _ in range(5):
        wrapped = [Lends(a) for a in arrays]
        if exception:
            with pytest.raises(exception):
                natten.na1d(*wrapped, kernel_size)
        else:
            natten.na1d(*wrapped, kernel_size)
    del wrapped
    gc.collect()
    assert [sys.getrefcount(a) for a in arrays] == before


def test_temporaries_live_as_long_as_the_call(random):
    """Views made for the call alone, of arrays that nobody else holds."""
    fixed = np.random.default_rng(1).normal(size=SHAPE)
    expected = natten.na1d(fixed, fixed, fixed, 3)
    for _ in range(50):
        out = natten.na1d(
            np.random.default_rng(1).normal(size=SHAPE)[:],
            np.random.default_rng(1).normal(size=SHAPE).copy(order="F"),
            memoryview(np.random.default_rng(1).normal(size=SHAPE)),
            3,
        )
        assert (out == expected).all()


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_calls_need_no_more_memory_than_a_few(random):
    arrays = [random.normal(size=(1, 64, 2, 16)) for _ in range(3)]  # 16 KiB each

    def round_of_calls(times):
        for _ in range(times):
            for call in calls().values():
                call(*arrays)
        gc.collect()

    round_of_calls(20)
    before = resident_bytes()
    round_of_calls(200)
    # One lost array per call would be 200 * 11 * 16 KiB = 34 MiB.
    assert resident_bytes() - before < 4 << 20
