"""What a batch holds: leaves, bytes, samples."""

from __future__ import annotations

import dataclasses
import re
from collections import namedtuple
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.counting import count_samples, counter
from pytest_loaderperf.measurement.structure import array_leaves, batch_leaves, batch_nbytes

X, Y = torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64)
Pair = namedtuple("Pair", "x y")  # noqa: PYI024 as users write it


@dataclasses.dataclass
class Batch:
    x: torch.Tensor
    y: list[str]


COUNTABLE = [
    (X, 4, 128),
    (X.numpy(), 4, 128),
    ((X, Y), 4, 160),
    ([X, Y], 4, 160),
    ({"x": X, "y": {"z": (Y,)}}, 4, 160),
    (MappingProxyType({"x": X}), 4, 128),
    (Pair(X, Y), 4, 160),
    (Batch(X, ["a"] * 4), 4, 128),
    (["a", "b", "c"], 3, 0),
    ([1, 2, 3], 3, 0),
    ((X, "name", None, 3), 4, 128),
    ((torch.tensor(1.0), X), 4, 132),
    (np.array(["a", "b"]), 2, 0),
    (X.to_sparse(), 4, 0),
    (X.bfloat16(), 4, 64),
    (X.numpy().astype(">f8")[::2], 2, 128),
    (X.t(), 8, 128),
]


@pytest.mark.parametrize("batch, samples, nbytes", COUNTABLE, ids=range(len(COUNTABLE)))
def test_samples_and_bytes_come_from_the_structure(batch, samples, nbytes):
    assert count_samples(batch) == samples
    assert counter(batch)(batch) == samples
    assert batch_nbytes(batch) == nbytes


@pytest.mark.parametrize("count", [count_samples, counter])
@pytest.mark.parametrize(
    "batch, words",
    [
        (object(), "of type object: nothing in it has a length. Expected tensors, arrays or lists; give count="),
        ({}, "of type dict: nothing in it has a length."),
        ("text", "of type str: nothing in it has a length."),
        (torch.tensor(1.0), "of type Tensor: nothing in it has a length."),
        ((X, Y[:3]), "its parts differ in length (batch[0]: 4, batch[1]: 3). Give count="),
        ({"x": X, "y": {"z": [Y, Y[:1]]}}, "(batch['x']: 4, batch['y']['z'][0]: 4, batch['y']['z'][1]: 1)"),
        (Batch(X, ["a"]), "(batch.x: 4, batch.y: 1)"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_the_way_out(count, batch, words):
    with pytest.raises(LoaderError, match=re.escape(words)):
        count(batch)


def test_a_counter_follows_batches_that_vary_in_length():
    count = counter({"name": "train", "x": (X, Y)})
    assert [count({"name": "train", "x": (X[:n], Y[:n])}) for n in (4, 1, 3)] == [4, 1, 3]


def test_each_leaf_comes_with_the_expression_that_reaches_it():
    batch = {"x": [X, (Y,)], "who": Batch(X, ["a"])}
    assert [path for path, _ in batch_leaves(batch)] == [
        "batch['x'][0]",
        "batch['x'][1][0]",
        "batch['who'].x",
        "batch['who'].y",
    ]


def test_array_leaves_are_detached_tensors_of_the_native_byte_order():
    batch = [X.clone().requires_grad_(), np.arange(4, dtype=">i4"), np.array(["a"]), X.to_sparse()]
    first, second = array_leaves(batch)
    assert not first.requires_grad
    assert second.tolist() == [0, 1, 2, 3]


class ByRow(Mapping):
    """A mapping that gives rows where it is iterated, as a TensorDict does."""

    def __init__(self, fields):
        self.fields = fields

    def __getitem__(self, key):
        return self.fields[key]

    def keys(self):
        return self.fields.keys()

    def __iter__(self):
        return iter(range(len(self)))

    def __len__(self):
        return len(self.fields["x"])


def test_a_mapping_is_walked_by_its_keys():
    batch = ByRow({"x": torch.zeros(4, 3), "y": torch.zeros(4)})
    assert [path for path, _ in batch_leaves(batch)] == ["batch['x']", "batch['y']"]
    assert batch_nbytes(batch) == 64
