from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pytest_loaderperf.data.arrays.structure import SampleMismatchError
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.collate import Collate

ALIKE = "Make the samples alike in the dataset, or pass a collate_fn."
RAGGED = 'Pass collate_fn=Collate(ragged="pad"), or "list", or one of your own.'


class Point(NamedTuple):
    x: Any
    y: Any


class Marked(torch.Tensor):
    pass


@dataclass
class Record:
    value: Any


def empty(fields, rows):
    return [np.empty((rows, *field.shape), field.dtype) for field in fields]


@pytest.fixture(params=[None, empty], ids=["fresh", "allocated"])
def allocate(request):
    return request.param


ONE = "sample 1 of the batch differs"
MISMATCHES = {
    "length of an array": (
        [np.zeros(3), np.zeros(3), np.zeros(5)],
        ("sample 2 of the batch differs", "float64 array of shape (3,)", "float64 array of shape (5,)", RAGGED),
    ),
    "lengths that add up": (
        [(np.zeros(2),), (np.zeros(1),), (np.zeros(3),)],
        (f"{ONE} in field '[0]'", "float64 array of shape (2,)", "float64 array of shape (1,)", RAGGED),
    ),
    "an array that would broadcast": (
        [{"a": np.zeros((2, 3))}, {"a": np.zeros((2, 1))}],
        (f"{ONE} in field \"['a']\"", "float64 array of shape (2, 3)", "float64 array of shape (2, 1)", RAGGED),
    ),
    "dimensions of an array": (
        [np.zeros(3), np.zeros((3, 1))],
        (ONE, "float64 array of shape (3,)", "float64 array of shape (3, 1)", ALIKE),
    ),
    "an array beside one without dimensions": (
        [np.zeros(()), np.zeros(1)],
        (ONE, "float64 array of shape ()", "float64 array of shape (1,)", ALIKE),
    ),
    "dtype of an array, wider": (
        [np.zeros(3, np.float32), np.zeros(3, np.float64)],
        (ONE, "float32 array of shape (3,)", "float64 array of shape (3,)", ALIKE),
    ),
    "dtype of an array, narrower": (
        [np.zeros(3, ">i8"), np.zeros(3, np.int32)],
        (ONE, "int64 array of shape (3,)", "int32 array of shape (3,)", ALIKE),
    ),
    "a list beside an array": (
        [np.zeros(2), [0.0, 0.0]],
        (ONE, "float64 array of shape (2,)", "list of [0], [1]", ALIKE),
    ),
    "a tensor beside an array": (
        [np.zeros(2), torch.zeros(2, dtype=torch.float64)],
        (ONE, "float64 array of shape (2,)", "torch.float64 tensor of shape (2,)", ALIKE),
    ),
    "an array beside a tensor": (
        [torch.zeros(2), np.zeros(2, np.float32)],
        (ONE, "torch.float32 tensor of shape (2,)", "float32 array of shape (2,)", ALIKE),
    ),
    "shape of a tensor": (
        [Point(1, torch.zeros(2)), Point(1, torch.zeros(3))],
        (f"{ONE} in field '.y'", "torch.float32 tensor of shape (2,)", "torch.float32 tensor of shape (3,)", RAGGED),
    ),
    "a tensor beside one without dimensions": (
        [torch.zeros(()), torch.zeros(1)],
        (ONE, "torch.float32 tensor of shape ()", "torch.float32 tensor of shape (1,)", ALIKE),
    ),
    "dtype of a tensor, wider": (
        [torch.zeros(2), torch.zeros(2, dtype=torch.float64)],
        (ONE, "torch.float32 tensor of shape (2,)", "torch.float64 tensor of shape (2,)", ALIKE),
    ),
    "dtype of a tensor, narrower": (
        [torch.zeros(()), torch.zeros((), dtype=torch.float16)],
        (ONE, "torch.float32 tensor of shape ()", "torch.float16 tensor of shape ()", ALIKE),
    ),
    "a sparse tensor": (
        [torch.zeros(2), torch.zeros(2).to_sparse()],
        (
            ONE,
            "torch.float32 tensor of shape (2,)",
            "Tensor (torch.float32, torch.sparse_coo, cpu, requires_grad=False)",
            ALIKE,
        ),
    ),
    "a tensor that requires a gradient": (
        [torch.zeros(2), torch.zeros(2, requires_grad=True)],
        (
            ONE,
            "torch.float32 tensor of shape (2,)",
            "Tensor (torch.float32, torch.strided, cpu, requires_grad=True)",
            ALIKE,
        ),
    ),
    "a tensor of a subclass": (
        [torch.zeros(2), torch.zeros(2).as_subclass(Marked)],
        (
            ONE,
            "torch.float32 tensor of shape (2,)",
            "Marked (torch.float32, torch.strided, cpu, requires_grad=False)",
            ALIKE,
        ),
    ),
    "a float beside an int": (
        [{"a": [1]}, {"a": [2.5]}],
        (f"{ONE} in field \"['a'][0]\"", "int64 number", "float64 number", ALIKE),
    ),
    "an int beside a float": ([2.5, 1], (ONE, "float64 number", "int64 number", ALIKE)),
    "a bool beside an int": ([1, True], (ONE, "int64 number", "bool number", ALIKE)),
    "a number of another dtype": ([np.float32(1), 1.5], (ONE, "float32 number", "float64 number", ALIKE)),
    "an int too large": (
        [(1, 2), (1, 2**63)],
        (f"{ONE} in field '[1]'", "int64 number", "9223372036854775808", ALIKE),
    ),
    "an int too large, in the first sample": (
        [-(2**63) - 1, 1],
        ("sample 0 of the batch differs", "int64 number", "-9223372036854775809", ALIKE),
    ),
    "None beside a number": ([1, None], (ONE, "int64 number", "NoneType", ALIKE)),
    "a number beside None and text": (
        [Record(None), Record("a"), Record(1)],
        ("sample 2 of the batch differs in field '.value'", "NoneType", "int64 number", ALIKE),
    ),
    "a key that is missing": (
        [{"a": 1, "b": 2}, {"a": 1}],
        (ONE, "dict of ['a'], ['b']", "dict of ['a']", ALIKE),
    ),
    "a key too many": ([{"a": 1}, {"b": 2, "a": 1}], (ONE, "dict of ['a']", "dict of ['a'], ['b']", ALIKE)),
    "another key": ([({"a": 1},), ({"b": 1},)], (f"{ONE} in field '[0]'", "dict of ['a']", "dict of ['b']", ALIKE)),
    "another kind of mapping": ([{"a": 1}, OrderedDict(a=1)], (ONE, "dict of ['a']", "OrderedDict of ['a']", ALIKE)),
    "a longer tuple": ([(1, 2), (1, 2, 3)], (ONE, "tuple of [0], [1]", "tuple of [0], [1], [2]", ALIKE)),
    "an empty tuple": ([(1,), ()], (ONE, "tuple of [0]", "tuple of nothing", ALIKE)),
    "another kind of sequence": ([(1, 2), [1, 2]], (ONE, "tuple of [0], [1]", "list of [0], [1]", ALIKE)),
    "no container": (
        [{"a": (1,)}, {"a": 1}],
        (f"{ONE} in field \"['a']\"", "tuple of [0]", "int64 number", ALIKE),
    ),
    "another dataclass": ([Record(1), Point(1, 2)], (ONE, "Record of .value", "Point of .x, .y", ALIKE)),
}


@pytest.mark.parametrize("samples, words", MISMATCHES.values(), ids=MISMATCHES)
def test_a_sample_that_differs_is_named_with_what_was_expected(samples, words, allocate):
    with pytest.raises(SampleMismatchError) as caught:
        Collate()(samples, allocate)
    where, expected, came, way_out = words
    assert str(caught.value) == f"{where}: expected {expected}, got {came}. {way_out}"
    assert where.startswith(f"sample {caught.value.position} ")
    assert isinstance(caught.value, DataError)
    assert isinstance(caught.value, RuntimeError)  # what torch raises
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("ragged", ["pad", "list"])
@pytest.mark.parametrize(
    "samples, expected, came",
    [
        ([np.zeros(3), np.zeros((3, 1))], "float64 array of 1 dimensions", "float64 array of 2 dimensions"),
        ([np.zeros(3), np.zeros(2, "f")], "float64 array of 1 dimensions", "float32 array of 1 dimensions"),
        ([np.zeros(3), np.zeros(3, "f")], "float64 array of 1 dimensions", "float32 array of 1 dimensions"),
        ([np.zeros(3), "text"], "float64 array of 1 dimensions", "str"),
        (
            [torch.zeros(3), torch.zeros(2), torch.zeros(1, 1)],
            "torch.float32 tensor of 1 dimensions",
            "torch.float32 tensor of 2 dimensions",
        ),
        (
            [torch.zeros(3), torch.zeros(2, dtype=torch.int64)],
            "torch.float32 tensor of 1 dimensions",
            "torch.int64 tensor of 1 dimensions",
        ),
    ],
)
def test_ragged_fields_agree_in_dtype_and_dimensions(ragged, samples, expected, came, allocate):
    position = len(samples) - 1
    with pytest.raises(SampleMismatchError) as caught:
        Collate(ragged)([(sample,) for sample in samples], allocate)
    assert str(caught.value) == (
        f"sample {position} of the batch differs in field '[0]': expected {expected}, got {came}. {ALIKE}"
    )


def test_memory_that_runs_out_is_not_taken_for_a_mismatch():
    def allocate(fields, rows):
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        Collate()([np.zeros(2), np.zeros(2)], allocate)


def test_an_error_of_the_samples_own_passes_through():
    class Broken(OrderedDict):
        def __getitem__(self, key):
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        Collate()([Broken(a=1), Broken(a=1)])


def test_no_samples_make_no_batch():
    with pytest.raises(DataError) as caught:
        Collate()([])
    assert str(caught.value) == "the batch has no samples. Expected at least one."


def test_an_unknown_way_with_ragged_fields_is_refused():
    with pytest.raises(DataError) as caught:
        Collate("stack")
    assert str(caught.value) == 'ragged must be "raise", "pad" or "list", got \'stack\'.'


def test_the_error_can_be_pickled():
    with pytest.raises(SampleMismatchError) as caught:
        Collate()([(1,), (1.5,)])
    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 made here
    assert (str(copied), copied.position, copied.name) == (str(caught.value), 1, "[0]")
