# SPDX-License-Identifier: MIT
"""Arrays of CuPy: with CuPy and a GPU for real, and everywhere by a stand-in.

The stand-in is a module "cupy" whose arrays lie in the memory of the host and say by
DLPack that they lie on a GPU.  What is tested with it is the way there and back: what
the library is lent, which arrays come out, and on which stream the call is made.
"""

import contextlib
import ctypes
import sys
import types

import numpy as np
import pytest

import natten
from natten import capi

CUDA = 2
STREAM = 0x5EED


class Head(ctypes.Structure):
    """The first fields of a DLPack tensor."""

    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32)]


class OnGpu:
    """An array of NumPy that says it is on a GPU."""

    asked = []  # for which stream, by each export

    def __init__(self, host):
        self.host = host
        self.device = contextlib.nullcontext()
        self.shape = host.shape

    def __dlpack_device__(self):
        return CUDA, 0

    def __dlpack__(self, stream=None):
        OnGpu.asked.append(stream)
        capsule = self.host.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [
            ctypes.py_object, ctypes.c_char_p,
        ]
        Head.from_address(pointer(capsule, b"dltensor")).device = CUDA
        return capsule

    def __setitem__(self, where, value):
        self.host[where] = value


class Guarded(OnGpu, bytes):
    """One whose buffer can't be had for writing, as CuPy's can't."""

    def __new__(cls, host):
        return super().__new__(cls)


class Foreign(OnGpu):
    """One of a kind that is not known."""


@pytest.fixture
def cupy(monkeypatch):
    module = types.ModuleType("cupy")
    module.ndarray = OnGpu
    module.empty = lambda shape, dtype: OnGpu(np.empty(shape, dtype))
    module.cuda = types.SimpleNamespace(
        get_current_stream=lambda: types.SimpleNamespace(ptr=STREAM)
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    OnGpu.asked.clear()
    return module


def host(x):
    return x.host if isinstance(x, OnGpu) else x


@pytest.fixture
def on_the_host(monkeypatch):
    """The library's functions, computing on the host what is said to lie on the GPU;
    the streams of the calls are collected."""
    streams = []

    def through(function):
        def call(params, *arguments):
            *arrays, stream = arguments
            if isinstance(arrays[0], np.ndarray):
                return function(params, *arguments)
            for x in arrays:
                if x is not None:
                    assert isinstance(x, OnGpu), "an array of another kind"
            streams.append(stream)
            return function(params, *map(host, arrays), None)

        return call

    for name in ("natten_forward", "natten_backward", "natten_qk", "natten_av"):
        monkeypatch.setattr(capi, name, through(getattr(capi, name)))
    return streams


def inputs(random):
    return [random.normal(size=(1, 5, 6, 2, 3)).astype("f4") for _ in range(4)]


def test_a_cupy_array_is_described_without_a_wait_or_a_copy(cupy, random):
    q = OnGpu(random.normal(size=(1, 5, 2, 3)))
    assert capi.describe(q, "query") == ((1, 5, 2, 3), "float64")
    assert OnGpu.asked == [-1]


def test_results_are_cupys_and_calls_are_on_its_stream(cupy, on_the_host, random):
    arrays = inputs(random)
    q, k, v, g = (OnGpu(x) for x in arrays)
    out, lse = natten.na2d(q, k, v, 3, return_lse=True)
    expected = natten.na2d(*arrays[:3], 3, return_lse=True)
    for found, wanted in zip((out, lse), expected):
        assert isinstance(found, OnGpu)
        assert found.host.tobytes() == wanted.tobytes()
    gradients = natten.na_backward(q, k, v, g, 3, out=out, lse=lse)
    wanted = natten.na_backward(*arrays, 3, out=expected[0], lse=expected[1])
    assert gradients.grad_key.host.tobytes() == wanted.grad_key.tobytes()
    assert set(on_the_host) == {STREAM}


def test_a_gpu_that_is_not_there_is_told(cupy, random):
    if capi.natten_device_count() > 0:
        pytest.skip("there is a GPU, and memory of the host is not on it")
    q, k, v, _ = (OnGpu(x) for x in inputs(random))
    with pytest.raises((RuntimeError, NotImplementedError), match="^natten_forward: "):
        natten.na2d(q, k, v, 3)


def test_a_buffer_that_refuses_is_no_reason_on_a_gpu(cupy, random):
    cupy.empty = lambda shape, dtype: Guarded(np.empty(shape, dtype))
    test_a_gpu_that_is_not_there_is_told(cupy, random)


def test_arrays_on_a_gpu_of_an_unknown_kind_are_refused(random):
    q, k, v, _ = (Foreign(x) for x in inputs(random))
    with pytest.raises(TypeError, match="^Foreign: .* torch and CuPy"):
        natten.na2d(q, k, v, 3)


def test_cupy_itself(random):
    cupy = pytest.importorskip("cupy")
    if capi.natten_device_count() == 0 or not cupy.is_available():
        pytest.skip("no GPU, or no kernels for it in this build")
    arrays = inputs(random)
    q, k, v, g = map(cupy.asarray, arrays)
    with cupy.cuda.Stream():
        out, lse = natten.na2d(q, k, v, 3, return_lse=True)
        gradients = natten.na_backward(q, k, v, g, 3, out=out, lse=lse)
        found = [x.get() for x in (out, lse, *gradients[:3])]
    expected = natten.na2d(*arrays[:3], 3, return_lse=True)
    wanted = natten.na_backward(*arrays, 3, out=expected[0], lse=expected[1])
    for x, y in zip(found, (*expected, *wanted[:3])):
        assert np.allclose(x, y, rtol=1e-4, atol=1e-5)
