from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.collate import Collate

BFLOAT = torch.bfloat16


def test_padding_fills_the_ends_up_to_the_largest_extents():
    samples = [(np.ones((1, 3), "f"), 1), (np.full((2, 1), 2, "f"), 2), (np.zeros((0, 2), "f"), 3)]
    batch, labels = Collate("pad", pad_value=-1)(samples)
    assert batch.tolist() == [[[1, 1, 1], [-1, -1, -1]], [[2, -1, -1], [2, -1, -1]], [[-1, -1, -1], [-1, -1, -1]]]
    assert batch.dtype == torch.float32
    assert labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "rows, dtype",
    [
        ([np.array([1, 2], ">i2"), np.array([3], "<i2")], torch.int16),
        ([np.array([True, True]), np.array([True])], torch.bool),
        ([np.array([1, 2], np.uint64), np.array([3], np.uint64)], torch.uint64),
        ([torch.tensor([1, 2]), torch.tensor([3])], torch.int64),
        ([torch.tensor([1, 2], dtype=BFLOAT), torch.tensor([3], dtype=BFLOAT)], BFLOAT),
        ([torch.tensor([1j, 2]).conj(), torch.tensor([3j])], torch.complex64),
        ([torch.tensor([[1, 2], [3, 4]])[:, 0], torch.tensor([5])], torch.int64),
    ],
)
@pytest.mark.parametrize("pad_value", [0, 1])
def test_every_dtype_is_padded_and_listed(rows, dtype, pad_value):
    values = [np.asarray(row).tolist() if isinstance(row, np.ndarray) else row.tolist() for row in rows]
    padded = Collate("pad", pad_value)(rows)
    assert padded.dtype == dtype
    assert padded.tolist() == [values[0], [*values[1], pad_value]]
    listed = Collate("list")(rows)
    assert type(listed) is list
    assert [row.dtype for row in listed] == [dtype, dtype]
    assert [row.tolist() for row in listed] == values


@pytest.mark.parametrize("make", [np.ones, torch.ones], ids=["arrays", "tensors"])
def test_listed_rows_are_copies(make):
    rows = [make(2), make(3)]
    for row in Collate("list")(rows):
        row.fill_(7)
    assert [row.tolist() for row in rows] == [[1, 1], [1, 1, 1]]


@pytest.mark.parametrize("ragged", ["pad", "list"])
def test_rows_that_happen_to_agree_are_stacked(ragged):
    assert Collate(ragged, 5)([np.ones(2), np.ones(2)]).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    "pad_value, dtype, shown",
    [(0.5, np.int64, "0.5"), (-1, np.uint8, "-1"), (float("nan"), np.int32, "nan"), (2, np.bool_, "2")],
)
def test_a_pad_value_that_a_field_cannot_hold_is_refused(pad_value, dtype, shown):
    collate = Collate("pad", pad_value)
    with pytest.raises(DataError) as caught:
        collate([np.ones(2, dtype), np.ones(3, dtype)])
    assert str(caught.value) == (
        f"pad_value must fit every ragged field, got {shown}, and one of them is {np.dtype(dtype)}. "
        'Choose another, or ragged="list", or pass a collate_fn.'
    )
    assert collate([np.ones(2, dtype), np.ones(2, dtype)]).shape == (2, 2)  # nothing is to be padded here


def test_what_may_be_ragged_has_no_field():
    for ragged in ("pad", "list"):
        collate = Collate(ragged)
        assert collate.fields((np.ones(2), 1)) is None
        assert collate.fields((torch.ones(2), 1)) is None
        assert [field.name for field in collate.fields((torch.ones(()), np.ones(()), 1))] == [
            "[0]",
            "[1]",
            "[2]",
        ]


def test_only_numbers_are_written_to_buffers_where_arrays_may_be_ragged():
    asked = []

    def allocate(fields, rows):
        asked.extend(fields)
        return [np.empty(rows, field.dtype) for field in fields]

    parts = {"even": np.ones(2), "tensor": torch.ones(2)}
    batch = Collate("pad")([{**parts, "a": np.ones(i), "b": i} for i in (1, 2)], allocate)
    assert [field.name for field in asked] == ["['b']"]
    assert batch["a"].tolist() == [[1, 0], [1, 1]]
    assert batch["b"].tolist() == [1, 2]
    assert batch["even"].tolist() == batch["tensor"].tolist() == [[1, 1], [1, 1]]
