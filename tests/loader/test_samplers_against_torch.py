"""Whatever the dataset, sampler and sizes, batches and errors are those of torch's DataLoader, in their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.formats import open_table

DATASETS = {
    "tensor": torch.arange,
    "array": lambda n: np.arange(2 * n).reshape(n, 2),
    "TensorDataset": lambda n: TensorDataset(torch.arange(n), torch.arange(n) * 0.5),
    "list": lambda n: [{"x": i, "y": (i, float(i))} for i in range(n)],
    "dict by number": lambda n: {i: torch.tensor([i]) for i in range(n)},
    "Subset": lambda n: Subset(TensorDataset(torch.arange(2 * n)), range(0, 2 * n, 2)),
    "ConcatDataset": lambda n: ConcatDataset([TensorDataset(torch.arange(n)), TensorDataset(torch.arange(3))]),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SAMPLERS = {
    "sequential": lambda n, seed: SequentialSampler(range(n)),
    "random": lambda n, seed: RandomSampler(range(n), generator=seeded(seed)),
    "with replacement": lambda n, seed: RandomSampler(
        range(n), replacement=True, num_samples=n + 2, generator=seeded(seed)
    ),
    "more than once": lambda n, seed: RandomSampler(range(n), num_samples=2 * n, generator=seeded(seed)),
    "subset": lambda n, seed: SubsetRandomSampler(range(n), generator=seeded(seed)),
    "weighted": lambda n, seed: WeightedRandomSampler([1.0] * n, n, generator=seeded(seed)),
    "own, from the end": lambda n, seed: range(-1, -n - 1, -1),
    "own, tensors": lambda n, seed: torch.randperm(n, generator=seeded(seed)),
}


def plain(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return str(batch.dtype), batch.tolist()
    if isinstance(batch, dict):
        return {name: plain(part) for name, part in batch.items()}
    return list(map(plain, batch))


def outcomes(loader: Any) -> list[Any]:
    """Each batch of two epochs, or the type of the error in its place."""
    came: list[Any] = []
    for _ in range(2):
        batches = iter(loader)
        while True:
            try:
                came.append(plain(next(batches)))
            except StopIteration:
                break
            except (LookupError, ValueError) as error:
                came.append(type(error))
    return came


def assert_same(
    make: Any, samples: int, make_sampler: Any, drawn: int, *, seed: int, workers: Any, **arguments: Any
) -> None:
    def arguments_of() -> dict[str, Any]:
        sampler = make_sampler(drawn, seed)
        if arguments["batched"]:
            return {"batch_sampler": BatchSampler(sampler, arguments["batch_size"], arguments["drop_last"])}
        return {"sampler": sampler, "batch_size": arguments["batch_size"], "drop_last": arguments["drop_last"]}

    theirs = outcomes(DataLoader(make(samples), **arguments_of()))
    with ReferenceLoader(make(samples), **workers, **arguments_of()) as ours:
        assert outcomes(ours) == theirs


CASES = {
    "make": st.sampled_from(list(DATASETS.values())),
    "samples": st.integers(1, 40),
    "make_sampler": st.sampled_from(list(SAMPLERS.values())),
    "drawn": st.integers(1, 60),  # of indices: also beyond the dataset
    "seed": st.integers(0, 1000),
    "batch_size": st.integers(1, 12),
    "drop_last": st.booleans(),
    "batched": st.booleans(),
}
HERE = [
    {"num_workers": 0},
    {},
    {"num_workers": 2, "worker_kind": "threads"},
    {"num_workers": 1, "worker_kind": "threads"},
]


BEYOND = [SequentialSampler(range(7)), RandomSampler(range(99)), [0, -6]]


@given(workers=st.sampled_from(HERE), **CASES)
@settings(max_examples=100, deadline=None)
def test_in_one_process_batches_and_errors_are_those_of_torch(workers, **case):
    assert_same(workers=workers, **case)


@given(workers=st.sampled_from([{"num_workers": 1}, {"num_workers": 2, "worker_kind": "processes"}]), **CASES)
@settings(max_examples=8, deadline=None)
def test_in_worker_processes_batches_and_errors_are_those_of_torch(workers, **case):
    assert_same(workers=workers, **case)


@pytest.mark.parametrize(
    "workers, sampler", [*((each, BEYOND[0]) for each in HERE), *((HERE[0], each) for each in BEYOND[1:])]
)
@pytest.mark.parametrize("cache", ["whole", "chunked", "compressed", "lru", "lazy"])
@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [[1], [2, 3], [4], [5], [6, 7]]], ids=["uniform", "ragged"])
def test_an_index_beyond_a_table_raises_however_it_is_kept(tmp_path, values, cache, sampler, workers):
    pq.write_table(pa.table({"x": values}), tmp_path / "t.parquet")
    store = optimize(open_table(tmp_path / "t.parquet"), cache=cache)
    with ReferenceLoader(store, batch_size=1, sampler=sampler, **workers) as loader, pytest.raises(IndexError):
        list(loader)
