from __future__ import annotations

import array
import ctypes
import gc
import itertools
import logging
import math
import mmap
import subprocess
import sys
import tracemalloc
import weakref
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pytest_loaderperf.data.arrays.tensors import CopyNeededError, as_rows, as_tensor
from pytest_loaderperf.errors import DataError
from tests.torch_versions import IS_OLD

SHAPE = (4, 2, 3)
TORCH_DTYPES = {
    "?": torch.bool,
    "b": torch.int8,
    "h": torch.int16,
    "i": torch.int32,
    "l": torch.int64,
    "q": torch.int64,
    "B": torch.uint8,
    "H": torch.uint16,
    "I": torch.uint32,
    "L": torch.uint64,
    "Q": torch.uint64,
    "e": torch.float16,
    "f": torch.float32,
    "d": torch.float64,
    "F": torch.complex64,
    "D": torch.complex128,
}
TORCH_ONLY = [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def has_no_dlpack(dtype):
    return IS_OLD and dtype is not torch.bfloat16  # torch 2.6 gives no DLPack of float8


READ_ONLY = (
    "the source is read-only, and torch has no read-only tensors. "
    "Pass writable=False if nobody writes to the tensor, or pass copy=None."
)


class Dlpack:
    """Speaks DLPack for another object, and nothing else."""

    def __init__(self, inner):
        self.inner = inner

    def __dlpack__(self, **arguments):
        return self.inner.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


class OldDlpack(Dlpack):
    """As before version 1.0, which cannot say whether memory may be written."""

    def __dlpack__(self, stream=None):
        return self.inner.__dlpack__()


class Interface:
    def __init__(self, inner):
        self.inner = inner
        self.__array_interface__ = inner.__array_interface__


class Array:
    """Shows an array by ``__array__``, with the arguments it had before NumPy 2."""

    def __init__(self, inner):
        self.inner = inner

    def __array__(self, dtype=None):
        return self.inner


class Converted(Array):
    def __array__(self, dtype=None, copy=None):
        return self.inner.copy()


def read_only(view: np.ndarray) -> np.ndarray:
    view = view[...]
    view.setflags(write=False)
    return view


def unaligned(values: np.ndarray) -> np.ndarray:
    """The same values, contiguous from an odd address on."""
    raw = np.zeros(values.nbytes + 1, np.uint8)
    view = raw[1 - raw.ctypes.data % 2 :][: values.nbytes].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


def flat(owner: np.ndarray) -> pa.Array:
    """All items of ``owner`` as an Arrow array over its memory."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(owner.dtype), owner.size, [None, pa.py_buffer(owner)])


def fixed(owner: np.ndarray) -> pa.Array:
    values = flat(owner)
    for size in owner.shape[:0:-1]:
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def lists(owner: np.ndarray, kind: type[pa.Array] = pa.ListArray) -> pa.Array:
    """The rows of ``owner`` as flat lists."""
    return kind.from_arrays(range(0, owner.size + 1, owner[0].size), flat(owner))


def tensors(owner: np.ndarray, permutation: list[int] | None = None) -> pa.Array:
    values = pa.FixedSizeListArray.from_arrays(flat(owner), math.prod(owner.shape[1:]))
    kind = pa.fixed_shape_tensor(values.type.value_type, owner.shape[1:], permutation=permutation)
    return pa.ExtensionArray.from_storage(kind, values)


# From an owner of SHAPE: a source over its memory, and the view of the owner that the tensor must be.
SHARED = {
    "array": lambda a: (a, a),
    "Fortran order": lambda a: (a.T, a.T),
    "every second row": lambda a: (a[1::2], a[1::2]),
    "reversed single row": lambda a: (a[2:3][::-1], a[2:3]),
    "single number": lambda a: (a[1, 1, 2:3].reshape(()), a[1, 1, 2:3].reshape(())),
    "matrix": lambda a: (a[1].view(np.matrix), a[1]),
    "record array": lambda a: (a.view(np.recarray), a),
    "tensor": lambda a: (torch.from_numpy(a), a),
    "transposed tensor": lambda a: (torch.from_numpy(a).mT, a.swapaxes(1, 2)),
    "tensor with a gradient": lambda a: (torch.from_numpy(a).requires_grad_(), a),
    "parameter": lambda a: (torch.nn.Parameter(torch.from_numpy(a)), a),
    "memoryview": lambda a: (memoryview(a), a),
    "strided memoryview": lambda a: (memoryview(a)[::2], a[::2]),
    "DLPack": lambda a: (Dlpack(a), a),
    **({} if IS_OLD else {"DLPack of a tensor": lambda a: (Dlpack(torch.from_numpy(a)), a)}),
    "__array_interface__": lambda a: (Interface(a), a),
    "__array__": lambda a: (Array(a), a),
}
SHARED_READ_ONLY = {
    "read-only array": lambda a: (read_only(a), a),
    "broadcast array": lambda a: (np.broadcast_to(a[0], a.shape), np.broadcast_to(a[0], a.shape)),
    "read-only memoryview": lambda a: (memoryview(a).toreadonly(), a),
    "read-only DLPack": lambda a: (Dlpack(read_only(a)), a),
    "old DLPack": lambda a: (OldDlpack(a), a),
    "read-only __array_interface__": lambda a: (Interface(read_only(a)), a),
    "read-only __array__": lambda a: (Array(read_only(a)), a),
    "Arrow": lambda a: (flat(a), a.ravel()),
    "Arrow slice": lambda a: (flat(a)[5:9], a.ravel()[5:9]),
    "Arrow chunk": lambda a: (pa.chunked_array([flat(a)[:0], flat(a)[5:9]]), a.ravel()[5:9]),
    "FixedSizeList": lambda a: (fixed(a), a),
    "FixedSizeList slice": lambda a: (fixed(a)[1:3], a[1:3]),
    "FixedSizeList of a slice": lambda a: (
        pa.FixedSizeListArray.from_arrays(fixed(a).values[3:7], 2)[1:],
        a.reshape(8, -1)[5:7][None],
    ),
    "FixedSizeList chunk": lambda a: (pa.chunked_array([fixed(a)[2:]]), a[2:]),
    "List": lambda a: (lists(a), a.reshape(4, -1)),
    "List slice": lambda a: (lists(a)[1:3], a.reshape(4, -1)[1:3]),
    "LargeList": lambda a: (lists(a, pa.LargeListArray)[2:], a.reshape(4, -1)[2:]),
    "List of FixedSizeList": lambda a: (pa.ListArray.from_arrays([2, 4, 6], fixed(a).values), a[1:3]),
    "tensors": lambda a: (tensors(a), a),
    "tensor slice": lambda a: (tensors(a)[1:3], a[1:3]),
    "tensor chunk": lambda a: (pa.chunked_array([tensors(a)[3:]]), a[3:]),
    "permuted tensors": lambda a: (tensors(a, [1, 0])[1:], a[1:].swapaxes(1, 2)),
}
ALL_SHARED = SHARED | SHARED_READ_ONLY


def owner_of(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape).copy()  # of itself, not a view


def reason(source: object, error: type[DataError] = CopyNeededError, **arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        as_tensor(source, **arguments)
    assert type(caught.value) is error
    return str(caught.value)


class TestSharing:
    @pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
    def test_writes_on_either_side_are_seen_on_the_other(self, make):
        source, view = make(owner_of())
        tensor = as_tensor(source)
        assert (tensor.data_ptr(), tensor.shape, tensor.dtype) == (view.ctypes.data, view.shape, torch.float32)
        tensor += 100
        assert view.min() >= 100
        view *= -1
        assert np.array_equal(tensor.numpy(), view)

    @pytest.mark.parametrize("make", SHARED_READ_ONLY.values(), ids=SHARED_READ_ONLY)
    def test_read_only_memory_is_shared_with_those_who_promise_not_to_write(self, make):
        source, view = make(owner_of())
        assert reason(source) == READ_ONLY
        tensor = as_tensor(source, writable=False)
        assert (tensor.data_ptr(), tensor.shape, tensor.dtype) == (view.ctypes.data, view.shape, torch.float32)
        assert np.array_equal(tensor.numpy(), view)

    @pytest.mark.parametrize("make", ALL_SHARED.values(), ids=ALL_SHARED)
    def test_the_memory_lives_as_long_as_the_tensor(self, make):
        owner = owner_of()
        owner_alive = weakref.ref(owner)
        source, view = make(owner)
        expected = view.tolist()
        tensor = as_tensor(source, writable=False)
        del owner, source, view
        gc.collect(0)
        assert owner_alive() is not None
        assert tensor.tolist() == expected
        del tensor
        gc.collect(0)
        assert owner_alive() is None

    @pytest.mark.parametrize("make", ALL_SHARED.values(), ids=ALL_SHARED)
    def test_it_allocates_no_memory_for_items(self, make):
        source, _ = make(owner_of((4, 2, 30_000)))
        as_tensor(source, writable=False)  # what is imported and cached on first use
        tracemalloc.start()
        try:
            arrow_nbytes = pa.total_allocated_bytes()
            as_tensor(source, writable=False)
            _, peak_nbytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_nbytes < 10_000
        assert pa.total_allocated_bytes() == arrow_nbytes

    @pytest.mark.parametrize("make", ALL_SHARED.values(), ids=ALL_SHARED)
    def test_a_copy_that_was_asked_for_is_apart_contiguous_and_writable(self, make):
        source, view = make(owner_of())
        expected = view.tolist()
        tensor = as_tensor(source, copy=True)
        assert tensor.is_contiguous()
        assert tensor.tolist() == expected
        tensor.zero_()
        assert view.tolist() == expected

    @pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
    def test_what_can_be_shared_is_not_copied_where_a_copy_is_allowed(self, make):
        source, view = make(owner_of())
        assert as_tensor(source, copy=None).data_ptr() == view.ctypes.data

    def test_tensors_come_detached(self):
        assert not as_tensor(torch.ones(3, requires_grad=True)).requires_grad
        assert not as_tensor(torch.ones(3, requires_grad=True), copy=True).requires_grad

    @pytest.mark.parametrize("dtype", TORCH_ONLY, ids=str)
    def test_a_tensor_of_a_dtype_that_numpy_lacks_is_shared(self, dtype):
        source = torch.arange(6.0).to(dtype)
        for speaker, writable in [(source, True), *([] if has_no_dlpack(dtype) else [(Dlpack(source), False)])]:
            tensor = as_tensor(speaker, writable=writable)
            assert (tensor.data_ptr(), tensor.dtype) == (source.data_ptr(), dtype)
            assert tensor.float().tolist() == source.float().tolist()

    def test_dlpack_of_a_dtype_that_numpy_lacks_does_not_say_that_it_may_be_written(self):
        assert reason(Dlpack(torch.ones(3, dtype=torch.bfloat16))) == READ_ONLY

    @pytest.mark.parametrize("view", [torch.conj, lambda t: t.conj().imag], ids=["conjugated", "negated"])
    def test_lazy_views_of_tensors_are_shared_as_they_are(self, view):
        source = view(torch.tensor([1 + 2j, 3 - 4j]))
        tensor = as_tensor(source)
        assert tensor.data_ptr() == source.data_ptr()
        assert torch.equal(tensor, source)


class TestBuffers:
    @pytest.mark.parametrize("code", "bBhHiIlLqQfd")
    def test_array_array(self, code):
        source = array.array(code, [1, 2, 3])
        tensor = as_tensor(source)
        tensor[1] = 7
        assert (tensor.dtype, tensor.data_ptr()) == (TORCH_DTYPES[code], source.buffer_info()[0])
        assert source.tolist() == [1, 7, 3]

    def test_a_ctypes_array_of_two_dimensions(self):
        source = (ctypes.c_long * 3 * 2)()
        tensor = as_tensor(source)
        source[1][2] = 5
        assert tensor.tolist() == [[0, 0, 0], [0, 0, 5]]
        assert tensor.data_ptr() == ctypes.addressof(source)

    def test_a_single_ctypes_number(self):
        source = ctypes.c_double(1.5)
        assert (as_tensor(source).item(), as_tensor(source).data_ptr()) == (1.5, ctypes.addressof(source))

    def test_bytes_are_read_only_and_shared_with_a_promise(self):
        source = b"abc"
        assert reason(source) == READ_ONLY
        tensor = as_tensor(source, writable=False)
        assert tensor.tolist() == [97, 98, 99]
        assert tensor.data_ptr() == np.frombuffer(source, np.uint8).ctypes.data

    @pytest.mark.parametrize("make", [lambda: bytearray(b"abc"), lambda: array.array("i", [1])], ids=["bytes", "ints"])
    def test_a_buffer_cannot_be_resized_under_its_tensor(self, make):
        source = make()
        tensor = as_tensor(source)
        with pytest.raises(BufferError):
            source.append(0)
        tensor[0] = 5
        assert source[0] == 5
        del tensor
        source.append(0)

    def test_a_memory_map_cannot_be_closed_under_its_tensor(self):
        source = mmap.mmap(-1, 4096)
        tensor = as_tensor(source)
        tensor[0] = 5
        assert source[0] == 5
        with pytest.raises(BufferError):
            source.close()
        del tensor
        source.close()

    @pytest.mark.parametrize("mode", ["r", "r+", "c"])
    def test_numpys_memory_maps_are_shared_as_they_may_be_written(self, tmp_path, mode):
        path = tmp_path / "rows.bin"
        owner_of().tofile(path)
        source = np.memmap(path, np.float32, mode, shape=SHAPE)
        if mode == "r":
            assert reason(source) == READ_ONLY
        tensor = as_tensor(source, writable=mode != "r")
        assert tensor.data_ptr() == source.ctypes.data
        assert np.array_equal(tensor.numpy(), owner_of())
        if mode == "r+":
            tensor.zero_()
            source.flush()
            assert not any(path.read_bytes())

    @pytest.mark.parametrize("code, dtype", [("h", ">i2"), ("d", ">f8")])
    def test_the_byte_order_of_a_buffer_is_respected(self, code, dtype):
        source = memoryview(np.arange(3).astype(dtype))
        assert source.format == ">" + code
        assert as_tensor(source, copy=None).tolist() == [0, 1, 2]
        assert reason(source) == (
            f"the source has dtype {dtype}, whose byte order torch lacks. "
            f"Convert it to {np.dtype(dtype).newbyteorder('=')}, or pass copy=None."
        )


DTYPES = [*TORCH_DTYPES, ">i2", ">i8", ">u4", ">f2", ">f4", ">c8", ">c16"]


class TestNumpy:
    @pytest.mark.parametrize("code", TORCH_DTYPES)
    def test_each_dtype_is_shared_as_its_torch_dtype(self, code):
        source = np.ones(3, code)
        tensor = as_tensor(source)
        assert (tensor.dtype, tensor.data_ptr()) == (TORCH_DTYPES[code], source.ctypes.data)
        assert tensor.tolist() == source.tolist()

    @settings(deadline=None)
    @given(data=st.data(), writable=st.booleans(), frozen=st.booleans(), odd=st.booleans())
    def test_memory_is_shared_if_and_only_if_torch_can_use_it(self, data, writable, frozen, odd):
        base = data.draw(hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
        base = unaligned(base) if odd else base
        index = data.draw(hnp.basic_indices(base.shape, allow_ellipsis=False))
        source = base[(*index, ...) if isinstance(index, tuple) else (index, ...)].T  # a view, also of a single item
        misaligned = odd and source.dtype.alignment > 1
        usable = source.size == 0 or (torch_takes(source) and not misaligned and not (frozen and writable))
        source.setflags(write=not frozen)

        tensor = as_tensor(source, copy=None, writable=writable)
        np.testing.assert_array_equal(tensor.numpy(), source)
        assert tensor.shape == source.shape
        assert tensor.numpy().dtype == source.dtype.newbyteorder("=")
        if source.size:
            assert (tensor.data_ptr() == source.ctypes.data) is usable
        if usable:
            as_tensor(source, writable=writable)
        else:
            assert reason(source, writable=writable).endswith("or pass copy=None.")

    @settings(deadline=None)
    @given(hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0)), st.booleans())
    def test_a_copy_has_the_values_and_nothing_else(self, source, frozen):
        source.setflags(write=not frozen)
        tensor = as_tensor(source, copy=True)
        np.testing.assert_array_equal(tensor.numpy(), source)
        assert not np.may_share_memory(tensor.numpy(), source)

    @pytest.mark.parametrize(
        "source, why",
        [
            (np.zeros((3, 2))[::-1], "has negative strides (-16, 8), which torch lacks. Copy it with np.array"),
            (
                np.zeros(3, "i1,f4")["f1"],
                "has float32 items that are not aligned to 4 bytes. Copy it with np.array",
            ),
            (
                np.zeros(3, "f4,f4,f4").view("f4")[: 3 * 3].view("V12").view("c8,f4")["f0"],
                "has complex64 items that are not aligned to 8 bytes. Copy it with np.array",
            ),
            (unaligned(np.zeros(3)), "has float64 items that are not aligned to 8 bytes. Copy it with np.array"),
            (np.zeros(3, ">f4"), "has dtype >f4, whose byte order torch lacks. Convert it to float32"),
        ],
        ids=["negative strides", "packed field", "wide field", "odd address", "big-endian"],
    )
    def test_what_torch_cannot_use_is_refused_with_the_reason_or_copied_with_a_log(self, caplog, source, why):
        assert reason(source, name="field 'x'") == f"field 'x' {why}, or pass copy=None."
        with caplog.at_level(logging.DEBUG, "pytest_loaderperf"):
            tensor = as_tensor(source, copy=None)
        assert np.array_equal(tensor.numpy(), source)
        assert caplog.messages == [f"copied, because the source {why.split('. ')[0]}"]

    def test_a_copy_that_was_asked_for_is_not_logged(self, caplog):
        with caplog.at_level(logging.DEBUG, "pytest_loaderperf"):
            as_tensor(np.zeros(3)[::-1], copy=True)
            as_tensor(pa.array([True]), copy=True)
        assert not caplog.messages


def torch_takes(source: np.ndarray) -> bool:
    try:
        torch.from_numpy(source.squeeze().view(source.dtype.str))
    except (TypeError, ValueError):
        return False
    return True


class TestArrow:
    @pytest.mark.parametrize(
        "kind", [pa.int8(), pa.int64(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16()], ids=str
    )
    def test_each_type_of_numbers_is_shared(self, kind):
        source = pa.array(np.arange(5).astype(kind.to_pandas_dtype()))[2:]
        tensor = as_tensor(source, writable=False)
        assert tensor.data_ptr() == source.buffers()[1].address + 2 * kind.bit_width // 8
        assert tensor.tolist() == [2, 3, 4]
        assert tensor.numpy().dtype == kind.to_pandas_dtype()

    @settings(deadline=None)
    @given(st.data())
    def test_nested_slices_have_the_values_that_arrow_reads(self, data):
        source = pa.array(np.arange(data.draw(st.integers(0, 60))))
        for _ in range(data.draw(st.integers(0, 3))):
            source = source[data.draw(st.integers(0, len(source))) :]
            size = data.draw(st.integers(1, 4))
            if data.draw(st.booleans()):
                source = pa.FixedSizeListArray.from_arrays(source[: len(source) // size * size], size)
            else:
                kind = data.draw(st.sampled_from([pa.ListArray, pa.LargeListArray]))
                source = kind.from_arrays(range(0, len(source) + 1, size), source)
        source = source[data.draw(st.integers(0, len(source))) :]
        as_chunks = data.draw(st.booleans())
        tensor = as_tensor(pa.chunked_array([source]) if as_chunks else source, writable=False)
        assert tensor.tolist() == source.to_pylist()

    @pytest.mark.parametrize("permutation", [None, *map(list, itertools.permutations(range(3)))], ids=str)
    def test_tensors_have_their_logical_shape(self, permutation):
        owner = owner_of((3, 2, 3, 4))
        tensor = as_tensor(tensors(owner, permutation)[1:], writable=False)
        assert tensor.data_ptr() == owner[1:].ctypes.data
        for physical in np.ndindex(2, 3, 4):
            logical = [physical[axis] for axis in permutation or range(3)]
            assert np.array_equal(tensor[:, *logical].numpy(), owner[1:, *physical])

    @pytest.mark.parametrize(
        "make",
        [flat, fixed, lists, tensors, lambda a: tensors(a, [1, 0])],
        ids=["flat", "fixed", "lists", "tensors", "permuted"],
    )
    def test_chunks_need_a_copy(self, caplog, make):
        whole = make(owner_of())
        source = pa.chunked_array([whole[:1], whole[1:]])
        assert reason(source) == "the source has 2 chunks. Call .combine_chunks(), or pass copy=None."
        with caplog.at_level(logging.DEBUG, "pytest_loaderperf"):
            tensor = as_tensor(source, copy=None)
        assert caplog.messages == ["copied, because the source has 2 chunks"]
        assert torch.equal(tensor, as_tensor(whole, writable=False))

    @pytest.mark.parametrize("nested", [False, True])
    def test_bools_need_a_copy_for_they_are_bits(self, nested):
        source = pa.array([True, False, True, True, False, False])[1:5]
        expected = source.to_pylist()
        if nested:
            source = pa.FixedSizeListArray.from_arrays(source, 2)
            expected = [expected[:2], expected[2:]]
        assert reason(source) == "the source stores eight bools in a byte. Call .cast(pa.uint8()), or pass copy=None."
        tensor = as_tensor(source, copy=None)
        assert (tensor.tolist(), tensor.dtype) == (expected, torch.bool)

    @pytest.mark.parametrize("copy", [None, True])
    @pytest.mark.parametrize(
        "source",
        [pa.chunked_array([np.arange(50_000.0)] * 2), pa.array([True] * 100_000)],
        ids=["chunks", "bools"],
    )
    def test_what_arrow_has_copied_is_not_copied_again(self, source, copy):
        as_tensor(source, copy=copy)  # what is imported and cached on first use
        peaks_nbytes = []
        for _ in range(3):  # other threads may allocate something meanwhile
            tracemalloc.start()
            try:
                before_nbytes = pa.total_allocated_bytes()
                tensor = as_tensor(source, copy=copy)
                arrow_nbytes = pa.total_allocated_bytes() - before_nbytes
                peaks_nbytes.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
            assert arrow_nbytes >= tensor.nbytes
            del tensor
        assert min(peaks_nbytes) < 10_000

    @pytest.mark.parametrize(
        "source, nulls",
        [
            (pa.array([1, None, None]), 2),
            (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), 1),
            (pa.array([[1, 2], [3, None]], pa.list_(pa.int8(), 2)), 1),
            (pa.array([[1], None]), 1),
            (pa.array([True, None]), 1),
            (pa.chunked_array([[1, None]]), 1),
            (
                pa.ExtensionArray.from_storage(
                    pa.fixed_shape_tensor(pa.int8(), [2]), pa.array([[1, 2], None], pa.list_(pa.int8(), 2))
                ),
                1,
            ),
        ],
        ids=["numbers", "fixed lists", "in fixed lists", "lists", "bools", "chunk", "tensors"],
    )
    def test_nulls_are_refused_with_their_count(self, source, nulls):
        assert reason(source, DataError, copy=None) == (
            f"the source has {nulls} nulls, which no tensor can hold. Call .fill_null or .drop_null first."
        )

    def test_nulls_outside_of_the_slice_do_not_matter(self):
        assert as_tensor(pa.array([None, 1, 2])[1:], writable=False).tolist() == [1, 2]
        source = pa.array([None, [1, 2], [3, None]], pa.list_(pa.int8(), 2))[1:2]
        assert as_tensor(source, writable=False).tolist() == [[1, 2]]

    def test_lists_of_different_lengths_are_refused_with_their_range(self):
        assert reason(pa.array([[1], [2, 3], []]), DataError, copy=None) == (
            "the source has lists of 0 to 2 items; a tensor needs one length. "
            "Pad them, or give a map-style dataset with a collate_fn."
        )

    @pytest.mark.parametrize(
        "source, shown, way_out",
        [
            (pa.array([0], pa.timestamp("us")), "timestamp[us]", "Call .cast(pa.int64())"),
            (pa.array([0], pa.date32()), "date32[day]", "Call .cast(pa.int32())"),
            (pa.array([Decimal(1)]), "decimal128(1, 0)", "Call .cast(pa.float64())"),
            (pa.nulls(0, pa.month_day_nano_interval()), "month_day_nano_interval", "Encode"),
            (pa.array(["1"]), "string", "Call .cast(pa.float64())"),
            (pa.array([["1"]]), "string", "Call .cast(pa.float64())"),
            (
                pa.array([1]).dictionary_encode(),
                "dictionary<values=int64, indices=int32, ordered=0>",
                "Call .dictionary_decode()",
            ),
            (pa.array([{"a": 1}]), "struct<a: int64>", "Encode"),
            (
                pa.ListArray.from_arrays([0, 1], tensors(owner_of())),
                "extension<arrow.fixed_shape_tensor[value_type=float, shape=[2,3]]>",
                "Take its .storage",
            ),
        ],
        ids=[
            "timestamp",
            "date",
            "decimal",
            "interval",
            "string",
            "list of strings",
            "dictionary",
            "struct",
            "extension",
        ],
    )
    def test_what_is_no_number_is_refused_with_its_type(self, source, shown, way_out):
        assert reason(source, DataError, copy=None) == (
            f"the source holds {shown}, which no tensor can hold. "
            f"{way_out}{'' if way_out == 'Encode' else ', or encode'} it as numbers."
        )

    def test_pyarrow_is_not_imported_for_those_who_do_not_use_it(self, quick_start):
        code = (
            "import sys, numpy; from pytest_loaderperf.data.arrays.tensors import as_rows, as_tensor; "
            "as_tensor(numpy.ones(2)); as_rows(bytearray(2)); sys.exit('pyarrow' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


EMPTY = {
    "array": (np.empty((0, 3), "f4"), torch.float32, (0, 3)),
    "rows without items": (np.empty((3, 0), "u2"), torch.uint16, (3, 0)),
    "big-endian": (np.empty((0, 3), ">f8"), torch.float64, (0, 3)),
    "reversed": (np.empty((0, 3), "i2")[:, ::-1], torch.int16, (0, 3)),
    "read-only": (read_only(np.empty((0, 3), "i2")), torch.int16, (0, 3)),
    "tensor": (torch.empty((0, 3), dtype=torch.bfloat16), torch.bfloat16, (0, 3)),
    "bytes": (b"", torch.uint8, (0,)),
    "memoryview": (memoryview(np.empty((0, 3))), torch.float64, (0, 3)),
    "array.array": (array.array("h"), torch.int16, (0,)),
    "ctypes": ((ctypes.c_float * 0)(), torch.float32, (0,)),
    "DLPack": (Dlpack(np.empty((0, 3))), torch.float64, (0, 3)),
    "DLPack of bfloat16": (Dlpack(torch.empty((0, 3), dtype=torch.bfloat16)), torch.bfloat16, (0, 3)),
    "__array_interface__": (Interface(np.empty((0, 3))), torch.float64, (0, 3)),
    "__array__": (Converted(np.empty((0, 3))), torch.float64, (0, 3)),
    "Arrow": (pa.array([], pa.int16()), torch.int16, (0,)),
    "bools": (pa.array([], pa.bool_()), torch.bool, (0,)),
    "no chunks": (pa.chunked_array([], pa.float16()), torch.float16, (0,)),
    "empty chunks": (pa.chunked_array([[], []], pa.uint32()), torch.uint32, (0,)),
    "FixedSizeList": (pa.array([], pa.list_(pa.list_(pa.int8(), 3), 2)), torch.int8, (0, 2, 3)),
    "slice of FixedSizeList": (fixed(owner_of())[4:], torch.float32, (0, 2, 3)),
    "List": (pa.array([], pa.list_(pa.int8())), torch.int8, (0, 0)),
    "List of nothing": (pa.array([[], []], pa.large_list(pa.int8())), torch.int8, (2, 0)),
    "tensors": (tensors(owner_of(), [1, 0])[:0], torch.float32, (0, 3, 2)),
    "no chunks of tensors": (pa.chunked_array([], tensors(owner_of(), [1, 0]).type), torch.float32, (0, 3, 2)),
}


@pytest.mark.parametrize("source, dtype, shape", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("copy", [False, None, True])
def test_a_source_without_items_gives_its_dtype_and_shape_and_needs_no_copy(source, dtype, shape, copy):
    tensor = as_tensor(source, copy=copy)
    assert (tensor.dtype, tuple(tensor.shape), tensor.device.type) == (dtype, shape, "cpu")


class TestRefusals:
    """What is refused whether or not a copy is allowed, alike as rows and as a tensor."""

    def refusal(self, source: object) -> str:
        with pytest.raises(DataError) as caught:
            as_rows(source, copy=None, name="field 'x'")
        assert reason(source, DataError, copy=None, name="field 'x'") == str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        "source, shown",
        [
            (np.zeros(2, "U3"), "<U3"),
            (np.zeros(2, "O"), "object"),
            (np.zeros(2, "M8[s]"), "datetime64[s]"),
            (np.zeros(2, "i4,f4"), "[('f0', '<i4'), ('f1', '<f4')]"),
            (np.zeros(2, "c16").astype(np.clongdouble), str(np.dtype(np.clongdouble))),
            ((ctypes.c_char * 3)(), "|S1"),
        ],
        ids=["strings", "objects", "dates", "structs", "long complex", "chars"],
    )
    def test_a_dtype_that_no_tensor_holds(self, source, shown):
        assert self.refusal(source) == (
            f"field 'x' has dtype {shown}, which no tensor can hold. "
            "Expected bool, int, float or complex numbers: encode it, or give a map-style dataset with a collate_fn."
        )

    @pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
    def test_a_float_wider_than_torchs(self):
        dtype = np.dtype(np.longdouble)
        assert self.refusal(np.zeros(2, dtype)) == (
            f"field 'x' has dtype {dtype}, which torch lacks. Convert it to float64."
        )

    def test_a_masked_array(self):
        assert self.refusal(np.ma.masked_array([1, 2], [0, 1])) == (
            "field 'x' is a masked array, whose mask no tensor can hold. Call .filled(value) first."
        )

    @pytest.mark.parametrize(
        "source, shown",
        [
            (torch.zeros(3, device="meta"), "torch.strided tensor on meta"),
            (torch.zeros(3, 3).to_sparse(), "torch.sparse_coo tensor on cpu"),
            (lambda: torch.nested.as_nested_tensor([torch.ones(1)], layout=torch.jagged), "nested tensor on cpu"),
        ],
        ids=["device", "sparse", "nested"],
    )
    def test_a_tensor_that_is_not_dense_on_the_cpu(self, source, shown):
        source = source() if callable(source) else source  # a nested one takes seconds of imports
        assert self.refusal(source) == (
            f"field 'x' is a {shown}; expected a dense one on the CPU. Call .cpu() or .to_dense() first."
        )

    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
    def test_a_quantized_tensor(self):
        source = torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8)
        assert self.refusal(source) == (
            "field 'x' is a quantized tensor on cpu; expected a dense one on the CPU. Call .dequantize() first."
        )

    @pytest.mark.parametrize(
        "source",
        [[1, 2], (1,), 1, 1.5, "abc", None, np.float32(1), np.datetime64(1, "s")],
        ids=lambda s: type(s).__name__,
    )
    def test_what_is_no_array(self, source):
        assert self.refusal(source) == (
            f"field 'x': expected an array or a tensor, got {type(source).__name__}. Call np.asarray first."
        )

    def test_dlpack_that_gives_nothing(self):
        assert self.refusal(Dlpack(torch.ones(3, requires_grad=True))) == (
            "field 'x' cannot be read by DLPack (Can't export tensors that require gradient, use tensor.detach()). "
            "Call np.asarray first."
        )

    def test_dlpack_on_another_device(self):
        class OnGpu(Dlpack):
            def __dlpack__(self, **arguments):
                raise BufferError("lies on cuda:0")

        assert (
            self.refusal(OnGpu(None)) == "field 'x' cannot be read by DLPack (lies on cuda:0). Call np.asarray first."
        )

    def test_a_buffer_that_numpy_cannot_read(self):
        assert self.refusal((ctypes.c_void_p * 2)()) == (
            "field 'x' is a buffer that NumPy cannot read ('<P' is not a valid PEP 3118 buffer format string). "
            "Call np.frombuffer first."
        )


def test_an_array_made_anew_at_each_call_needs_a_copy():
    source = Converted(np.arange(3))
    assert reason(source) == (
        "the source makes a new array whenever it is asked for one. Call np.asarray first, or pass copy=None."
    )
    assert as_tensor(source, copy=None).tolist() == [0, 1, 2]


class TestRows:
    @pytest.mark.parametrize("make", ALL_SHARED.values(), ids=ALL_SHARED)
    def test_they_share_what_a_tensor_shares_without_a_promise(self, make):
        source, view = make(owner_of())
        rows = as_rows(source)
        assert (rows.array.ctypes.data, rows.array.shape) == (view.ctypes.data, view.shape)
        assert np.array_equal(rows.array, view)
        assert (type(rows.array), rows.dtype, rows.owned) == (np.ndarray, None, False)

    @pytest.mark.parametrize(
        "source", [np.arange(6.0)[::-2], np.arange(3, dtype=">u8"), np.ones(3, "i1,f4")["f1"], unaligned(np.ones(3))]
    )
    def test_they_may_have_what_no_tensor_can(self, source):
        rows = as_rows(source)
        assert rows.array.__array_interface__ == source.__array_interface__

    @pytest.mark.parametrize("code", TORCH_DTYPES)
    def test_torch_takes_arrays_of_their_dtype(self, code):
        dtype = as_rows(np.ones(3, code)).array.dtype
        assert torch.from_numpy(np.empty(1, dtype)).dtype == TORCH_DTYPES[code]

    @pytest.mark.parametrize("dtype", TORCH_ONLY, ids=str)
    def test_a_dtype_that_numpy_lacks_is_carried_by_integers_of_its_width(self, dtype):
        source = torch.arange(6.0).to(dtype)[::2]
        for rows in map(as_rows, [source] if has_no_dlpack(dtype) else [source, Dlpack(source)]):
            assert rows.array.ctypes.data == source.data_ptr()
            assert rows.array.dtype == np.dtype(f"u{source.element_size()}")
            assert (rows.dtype, rows.owned) == (dtype, False)
            assert torch.from_numpy(rows.array.copy()).view(dtype).float().tolist() == [0, 2, 4]

    @pytest.mark.parametrize("view", [torch.conj, lambda t: t.conj().imag], ids=["conjugated", "negated"])
    def test_a_lazy_view_needs_a_copy(self, view):
        source = view(torch.tensor([1 + 2j, 3 - 4j]))
        with pytest.raises(CopyNeededError) as caught:
            as_rows(source, name="field 'x'")
        assert str(caught.value) == (
            "field 'x' is a lazily conjugated or negated view. Call .resolve_conj().resolve_neg(), or pass copy=None."
        )
        rows = as_rows(source, copy=None)
        assert (rows.array.tolist(), rows.owned) == (source.tolist(), True)

    @pytest.mark.parametrize(
        "source",
        [pa.chunked_array([[1], [2]]), pa.array([True, False]), Converted(np.arange(2))],
        ids=["chunks", "bools", "made anew"],
    )
    def test_a_copy_is_said_to_be_owned(self, source):
        with pytest.raises(CopyNeededError):
            as_rows(source)
        rows = as_rows(source, copy=None)
        assert rows.owned
        assert rows.array.tolist() == np.asarray(source).tolist()
