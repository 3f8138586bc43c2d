# SPDX-License-Identifier: MIT
"""How arrays cross: without copies, with any strides, by either protocol."""

import array

import numpy as np
import pytest

import natten
from natten import capi

KERNEL = 3


@pytest.fixture
def arrays(random):
    return [random.normal(size=(2, 7, 5, 3, 4)) for _ in range(3)]


@pytest.fixture
def expected(arrays):
    return natten.na2d(*arrays, KERNEL)


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# ---- strides -------------------------------------------------------------------------

VIEWS = {
    "compact": lambda a: a,
    "Fortran order": np.asfortranarray,
    "every other element": lambda a: np.repeat(np.repeat(a, 2, 4), 3, 1)[
        :, ::3, ..., ::2
    ],
    "heads first in memory": lambda a: np.ascontiguousarray(
        a.transpose(0, 3, 1, 2, 4)
    ).transpose(0, 2, 3, 1, 4),
    "slice of a packed qkv": lambda a: np.stack([a, a, a], axis=3)[:, :, :, 1],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_inputs_may_have_any_strides(arrays, expected, view):
    viewed = [view(a) for a in arrays]
    assert all((a == b).all() for a, b in zip(viewed, arrays))
    assert same_bits(natten.na2d(*viewed, KERNEL), expected)


def test_a_broadcast_input_has_stride_0(arrays):
    one = arrays[1][:, :, :, :1]
    wide = np.broadcast_to(one, arrays[1].shape)
    assert wide.strides[3] == 0
    assert same_bits(
        natten.na2d(arrays[0], wide, wide, KERNEL),
        natten.na2d(arrays[0], wide.copy(), wide.copy(), KERNEL),
    )


def test_outputs_may_have_any_strides(arrays, expected):
    params = (2, KERNEL) + (None,) * 8 + (0,)
    for make in (lambda s: np.empty(s, order="F"), lambda s: np.empty((*s, 2))[..., 1]):
        out = make(expected.shape)
        capi.natten_forward(params, *arrays, None, None, None, out, None, None)
        assert (out == expected).all()


def test_negative_strides_are_refused_by_name(arrays):
    with pytest.raises(ValueError, match=r"key.*stride"):
        natten.na2d(arrays[0], arrays[1][:, ::-1], arrays[2], KERNEL)


def test_strides_that_cut_elements_are_refused_by_name():
    packed = np.zeros((1, 5, 1, 2), np.dtype([("flag", "u2"), ("x", "f4")]))["x"]
    whole = np.zeros((1, 5, 1, 2), "f4")
    assert packed.strides[-1] == 6
    with pytest.raises(ValueError, match="query: a stride of 6 bytes"):
        natten.na1d(packed, whole, whole, KERNEL)


# ---- no copies -----------------------------------------------------------------------


def test_large_arrays_are_lent_not_copied():
    """With two arrays in memory there is no room for a third, by a limit."""
    resource = pytest.importorskip("resource")
    q = np.zeros((1, 1 << 16, 1, 64))  # 32 MiB
    q[:] = 1
    out = np.empty_like(q)
    natten.na1d(q[:, :64], q[:, :64], q[:, :64], 1)  # threads and scratch exist now
    params = (1, 1) + (None,) * 8 + (0,)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + q.nbytes // 2, old[1]))
    try:
        capi.natten_forward(params, q, q, q, None, None, None, out, None, None)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
    assert (out == q).all()


def test_outputs_are_filled_in_place(arrays, expected):
    out = np.full(expected.shape, np.nan)
    address = out.ctypes.data
    params = (2, KERNEL) + (None,) * 8 + (0,)
    capi.natten_forward(params, *arrays, None, None, None, out, None, None)
    assert out.ctypes.data == address and same_bits(out, expected)


def test_inputs_are_read_only(arrays, expected):
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    assert same_bits(natten.na2d(*arrays, KERNEL), expected)
    assert all(same_bits(a, b) for a, b in zip(arrays, before))


def test_a_read_only_output_is_refused_by_name(arrays, expected):
    out = np.empty_like(expected)
    out.flags.writeable = False
    params = (2, KERNEL) + (None,) * 8 + (0,)
    with pytest.raises(ValueError, match="^out: .*read-only"):
        capi.natten_forward(params, *arrays, None, None, None, out, None, None)


# ---- protocols -----------------------------------------------------------------------


class OnlyDLPack:
    """An array that has nothing but DLPack, of today or of before 1.0."""

    def __init__(self, inner, versions=True):
        self.inner, self.versions, self.asked = inner, versions, []

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()

    def __dlpack__(self, **keywords):
        self.asked.append(keywords)
        if not self.versions and keywords:
            raise TypeError("__dlpack__() got an unexpected keyword argument")
        return self.inner.__dlpack__(**keywords)


needs_dlpack = pytest.mark.skipif(
    not hasattr(np.ndarray, "__dlpack__"), reason="this NumPy has no DLPack"
)


@needs_dlpack
@pytest.mark.parametrize("versions", [True, False])
def test_dlpack_alone_is_enough(arrays, expected, versions):
    wrapped = [OnlyDLPack(a, versions) for a in arrays]
    assert same_bits(natten.na2d(*wrapped, KERNEL), expected)
    assert wrapped[1].asked[0] == {"max_version": (1, 0)}


@needs_dlpack
def test_dlpack_errors_carry_the_name_and_the_producers_words(arrays):
    class Refuses(OnlyDLPack):
        def __dlpack__(self, **keywords):
            raise BufferError("not today")

    with pytest.raises(BufferError, match="^value: not today$"):
        natten.na2d(arrays[0], arrays[1], Refuses(arrays[2]), KERNEL)


def test_dlpack_that_is_gone_when_it_is_called_is_told(arrays):
    class Fickle:
        asked = 0

        @property
        def __dlpack__(self):
            self.asked += 1
            if self.asked % 2 == 0:
                raise RuntimeError("not a second time")

    params = (2, KERNEL) + (None,) * 8 + (0,)
    out = np.empty_like(arrays[0])
    with pytest.raises(RuntimeError, match="^query: not a second time$"):
        capi.natten_forward(
            params, Fickle(), *arrays[1:], None, None, None, out, None, None
        )


def test_a_bool_that_does_not_know_is_told(arrays):
    class bool_:  # looked at as NumPy's
        def __bool__(self):
            raise ValueError("neither")

    with pytest.raises(ValueError, match="neither"):
        natten.na2d(*arrays, KERNEL, is_causal=(bool_(), False))


def test_something_else_than_a_capsule_is_refused(arrays):
    class Lies:
        def __dlpack__(self, **keywords):
            return 7

    with pytest.raises(
        TypeError, match="^query: __dlpack__ returned no DLPack capsule"
    ):
        natten.na2d(Lies(), arrays[1], arrays[2], KERNEL)


def test_memoryview_bytearray_and_array_array(arrays, expected):
    q, k, v = arrays
    shape = q.shape
    numbers = memoryview(array.array("d", k.ravel())).cast("B").cast("d", shape)
    room = bytearray(v.tobytes())
    others = memoryview(q), numbers, memoryview(room).cast("d", shape)
    out = natten.na2d(*others, KERNEL)
    assert type(out) is np.ndarray and same_bits(out, expected)


def test_subclasses_and_zero_size_batches(arrays):
    class Own(np.ndarray):
        pass

    out = natten.na2d(*(a.view(Own) for a in arrays), KERNEL)
    assert type(out) is np.ndarray
    out, lse = natten.na2d(*(a[:0] for a in arrays), KERNEL, return_lse=True)
    assert out.shape == (0, 7, 5, 3, 4) and lse.shape == (0, 7, 5, 3)


# ---- element types -------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype, lse_dtype",
    [("float64", "float64"), ("float32", "float32"), ("float16", "float32")],
)
def test_results_have_the_inputs_type_and_lse_the_accumulators(
    arrays, dtype, lse_dtype
):
    out, lse = natten.na2d(*(a.astype(dtype) for a in arrays), KERNEL, return_lse=True)
    assert out.dtype == dtype and lse.dtype == lse_dtype


def test_bfloat16_goes_in_and_comes_out(arrays):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    q, k, v = (a.astype(bfloat16) for a in arrays)
    with pytest.raises(ValueError):
        memoryview(q)  # the reason for the way through 16-bit integers
    out, lse = natten.na2d(q, k, v, KERNEL, return_lse=True)
    assert out.dtype == bfloat16 and lse.dtype == np.float32
    # Strided and read-only ones too, and not as if they were float16.
    k = np.asfortranarray(k)
    k.flags.writeable = False
    assert same_bits(natten.na2d(q, k, v, KERNEL), out)
    exact = natten.na2d(*(a.astype("f8") for a in (q, k, v)), KERNEL)
    size = np.abs(v.astype("f8")).max()
    assert np.abs(out.astype("f8") - exact).max() <= 2.0**-8 * size


REFUSED = {
    "int64": "int64",
    "object": "object",
    "complex128": "complex128",
    "bool": "bool",
    "longdouble": "(longdouble|float128|float96)",
    "datetime64[s]": "datetime64",
}


@pytest.mark.parametrize("dtype, words", REFUSED.items(), ids=REFUSED)
@pytest.mark.parametrize("position, name", [(0, "query"), (1, "key"), (2, "value")])
def test_other_element_types_are_refused_by_name(arrays, dtype, words, position, name):
    arrays[position] = np.zeros(arrays[position].shape).astype(dtype)
    with pytest.raises(TypeError, match=f"^{name}: elements of type {words}"):
        natten.na2d(*arrays, KERNEL)


def test_swapped_bytes_are_refused_by_name(arrays):
    swapped = arrays[1].astype(arrays[1].dtype.newbyteorder())
    with pytest.raises(TypeError, match=r"^key: elements of type [<>]f8.*byte order"):
        natten.na2d(arrays[0], swapped, arrays[2], KERNEL)


@pytest.mark.parametrize("value", [None, 1.5, [[1.0]], "text", object()])
def test_what_is_no_array_is_refused_by_name(arrays, value):
    with pytest.raises(TypeError, match="^value: "):
        natten.na2d(arrays[0], arrays[1], value, KERNEL)
