from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from pytest_loaderperf.data import ArrayDataset, PersistentExecutor
from pytest_loaderperf.loader import ReferenceLoader

SOURCES = {
    "dict": lambda x, y: {"x": x, "y": y},
    "tuple": lambda x, y: (x, y),
    "array": lambda x, y: x,
    "tensor": lambda x, y: torch.tensor(x),
    "TensorDataset": lambda x, y: TensorDataset(torch.tensor(x), torch.tensor(y)),
    "map-style": ArrayDataset,
    "list": lambda x, y: list(torch.tensor(x)),
}
ARRAYS = [make for name, make in SOURCES.items() if name not in {"map-style", "list"}]
EDGES = {
    "short last batch": (10, 3),
    "no short batch": (9, 3),
    "one sample": (1, 4),
    "one sample, batches of one": (1, 1),
    "batch as large as the dataset": (5, 5),
    "batch larger than the dataset": (5, 8),
    "empty": (0, 4),
}


def arrays(samples: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(samples * 2, dtype=np.float32).reshape(samples, 2), np.arange(samples)


def rows_of(source: object, samples: int) -> object:
    """The source as a dataset that torch takes: a dict or tuple of arrays becomes a list of rows."""
    if isinstance(source, dict):
        return [{key: torch.tensor(value[i]) for key, value in source.items()} for i in range(samples)]
    if isinstance(source, tuple):
        return [tuple(torch.tensor(value[i]) for value in source) for i in range(samples)]
    return torch.tensor(source) if isinstance(source, np.ndarray) else source


def flat(batch: object) -> list:
    """The batch's keys and tensors as lists; torch makes lists of tuples."""
    if isinstance(batch, dict):
        return [(key, value.tolist()) for key, value in batch.items()]
    return batch.tolist() if isinstance(batch, torch.Tensor) else [part.tolist() for part in batch]


def assert_same_epochs(source: object, samples: int, *, shuffle: bool, **arguments: object) -> None:
    rows = rows_of(source, samples)
    workers = {key: arguments.pop(key) for key in ("num_workers", "prefetch_factor", "executor") if key in arguments}
    sampler = None
    if shuffle and samples:  # torch's sampler bears no empty dataset
        sampler = DistributedSampler(rows, num_replicas=1, rank=0, shuffle=True, seed=3)
    theirs = DataLoader(rows, sampler=sampler, **arguments)
    with ReferenceLoader(source, shuffle=shuffle, seed=3, **workers, **arguments) as ours:
        assert len(ours) == len(theirs)
        for epoch in range(2):
            if sampler is not None:
                sampler.set_epoch(epoch)
            assert [flat(batch) for batch in ours] == [flat(batch) for batch in theirs]


@pytest.mark.parametrize(
    "name, num_workers",
    [
        *((name, 0) for name in SOURCES),
        *((name, workers) for name, make in SOURCES.items() if make in ARRAYS for workers in (1, 2, None)),
        ("map-style", None),
    ],
)
@pytest.mark.parametrize("edge", EDGES)
def test_at_the_edges_batches_are_those_of_torch(name, num_workers, edge):
    at_an_edge(SOURCES[name], num_workers, *EDGES[edge])


@pytest.mark.parametrize("name, num_workers", [("map-style", 2), ("list", 1)])
@pytest.mark.parametrize("edge", ["short last batch", "batch larger than the dataset", "empty"])
def test_at_the_edges_worker_processes_give_the_batches_of_torch(name, num_workers, edge):
    at_an_edge(SOURCES[name], num_workers, *EDGES[edge])


def at_an_edge(make, num_workers: int | None, samples: int, batch_size: int) -> None:
    source = make(*arrays(samples))
    for shuffle in (False, True):
        for drop_last in (False, True):
            assert_same_epochs(
                source,
                samples,
                shuffle=shuffle,
                batch_size=batch_size,
                drop_last=drop_last,
                num_workers=num_workers,
            )


@given(
    make=st.sampled_from(list(SOURCES.values())),
    samples=st.integers(0, 150),
    batch_size=st.integers(1, 20),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    num_workers=st.integers(1, 4),
    prefetch_factor=st.none() | st.integers(1, 12),
    threads=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_arguments_batches_are_those_of_torch(make, samples, threads, **arguments):
    assert_same_epochs(make(*arrays(samples)), samples, executor=PersistentExecutor(threads), **arguments)
