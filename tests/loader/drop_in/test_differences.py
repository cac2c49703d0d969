"""Where ReferenceLoader differs from torch's DataLoader by design; if ours is shown elsewhere, torch's side of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pytest_loaderperf import ReferenceLoader, optimize
from pytest_loaderperf.errors import DataError

SAMPLES = list(range(6))


@dataclass
class Sample:
    x: int


class Opaque:
    """Nothing that torch knows of."""


def batch_of(loader_class, samples):
    return next(iter(loader_class(samples, batch_size=len(samples), num_workers=0)))


def test_workers_left_out_are_none_in_torch_and_decided_on_here():
    assert DataLoader(SAMPLES).num_workers == 0
    with ReferenceLoader(SAMPLES, batch_size=4) as loader:
        assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5]]


def test_the_prefetch_factor_of_workers_is_two_in_torch():
    assert DataLoader(SAMPLES, num_workers=1).prefetch_factor == 2


def test_samples_of_different_shapes_are_told_by_index_and_shapes_here(raised):
    samples = [torch.ones(2), torch.ones(3)]
    theirs, ours = (raised(lambda kind=kind: batch_of(kind, samples)) for kind in (DataLoader, ReferenceLoader))
    assert type(theirs) is RuntimeError
    assert str(theirs) == "stack expects each tensor to be equal size, but got [2] at entry 0 and [3] at entry 1"
    assert isinstance(ours, RuntimeError)
    assert isinstance(ours, DataError)


@pytest.mark.parametrize(
    "samples, promoted",
    [
        ([torch.ones(2, dtype=torch.int64), torch.ones(2)], torch.float32),
        ([np.ones(2, np.int64), np.ones(2, np.float32)], torch.float32),
    ],
    ids=["tensors", "arrays"],
)
def test_samples_of_different_dtypes_are_promoted_by_torch_and_refused_here(raised, samples, promoted):
    assert batch_of(DataLoader, samples).dtype is promoted
    assert isinstance(raised(lambda: batch_of(ReferenceLoader, samples)), DataError)


def test_a_dict_or_tuple_of_arrays_is_a_dataset_of_columns_here(raised):
    x, y = torch.arange(8.0).reshape(4, 2), torch.arange(4)
    assert type(raised(lambda: list(DataLoader({"x": x, "y": y})))) is KeyError
    assert [tuple(batch.shape) for batch in DataLoader((x, x))] == [(1, 4, 2)] * 2
    by_name = list(ReferenceLoader({"x": x, "y": y}, batch_size=2, num_workers=0))
    assert [(batch["x"].tolist(), batch["y"].tolist()) for batch in by_name] == [
        (x[:2].tolist(), [0, 1]),
        (x[2:].tolist(), [2, 3]),
    ]
    by_place = list(ReferenceLoader((x, y), batch_size=2, num_workers=0))
    assert [(rows.tolist(), labels.tolist()) for rows, labels in by_place] == [
        (x[:2].tolist(), [0, 1]),
        (x[2:].tolist(), [2, 3]),
    ]


@pytest.mark.parametrize(
    "sample, found",
    [
        (Sample(1), f"{Sample}"),
        (Opaque(), f"{Opaque}"),
        (None, "<class 'NoneType'>"),
        (1j, "<class 'complex'>"),
        (np.array(["a", "bc"]), "<U2"),
        (np.array([b"a"]), "|S1"),
        (np.array([Opaque()]), "object"),
    ],
    ids=["dataclass", "object", "None", "complex", "array of strings", "array of bytes", "array of objects"],
)
def test_torch_refuses_samples_that_it_does_not_know(raised, sample, found):
    error = raised(lambda: batch_of(DataLoader, [sample]))
    assert type(error) is TypeError
    assert str(error) == (
        f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {found}"
    )


def test_torch_refuses_arrays_that_step_backwards_or_of_the_other_byte_order(raised):
    assert type(raised(lambda: batch_of(DataLoader, [np.arange(3)[::-1]]))) is ValueError
    assert type(raised(lambda: batch_of(DataLoader, [np.arange(3, dtype=">i4")]))) in {TypeError, ValueError}


def test_torch_takes_the_keys_of_the_first_sample(raised):
    assert batch_of(DataLoader, [{"a": 1}, {"a": 2, "b": 3}])["a"].tolist() == [1, 2]
    assert type(raised(lambda: batch_of(DataLoader, [{"a": 1, "b": 2}, {"a": 3}]))) is KeyError


def test_torch_joins_ints_and_floats_by_the_kind_of_the_first():
    assert batch_of(DataLoader, [1, 2.5]).dtype is torch.float32
    assert batch_of(DataLoader, [1.5, 2]).dtype is torch.float64


def test_small_batches_of_workers_lie_in_shared_memory_in_torch_and_are_sent_by_value_here():
    for samples in ([1.5, 2.5], [torch.zeros(2, dtype=torch.bfloat16)] * 2, [torch.zeros(0)] * 2):
        for loader_class, shared in ((DataLoader, True), (ReferenceLoader, False)):
            for batch in loader_class(samples, batch_size=2, num_workers=1, persistent_workers=False):
                assert batch.tolist() == torch.stack(list(map(torch.as_tensor, samples))).tolist()
                assert batch.is_shared() is (shared and batch.numel() > 0)


@pytest.mark.parametrize("dataset", [torch.ones(4, 2), [np.ones(2)] * 4, [1, 2, 3, 4]])
def test_a_batch_can_be_resized_in_torch_and_is_cloned_first_here(dataset):
    assert next(iter(DataLoader(dataset, 2))).resize_(4, 4).shape == (4, 4)
    with pytest.raises(RuntimeError, match="storage that is not resizable"):  # torch has changed its shape already
        next(iter(ReferenceLoader(dataset, 2))).resize_(4, 4)
    batch = next(iter(ReferenceLoader(dataset, 2)))
    assert batch.clone().resize_(4, 4).shape == (4, 4)
    assert torch.add(batch, 1, out=batch) is batch


def test_a_transform_draws_from_the_generators_in_torch_and_from_the_seed_here():
    store = optimize(SAMPLES, transform=lambda sample: sample + torch.rand(()))

    def drawn(loader_class, generators, **arguments):
        torch.manual_seed(generators)
        return torch.cat(list(loader_class(store, 3, **arguments)))

    assert torch.equal(drawn(DataLoader, 1), drawn(DataLoader, 1))
    assert not torch.equal(drawn(DataLoader, 1), drawn(DataLoader, 2))
    assert torch.equal(drawn(ReferenceLoader, 1), drawn(DataLoader, 1))
    assert torch.equal(drawn(ReferenceLoader, 1, seed=0), drawn(ReferenceLoader, 2, seed=0, num_workers=2))
