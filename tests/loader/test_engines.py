"""What a loader's arguments make of it: who makes batches, and of what."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info
from torch.utils.data.datapipes.iter import IterableWrapper

from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.loader.arguments import check_share, route
from pytest_loaderperf.loader.processes import Gathered, Noted

X = np.arange(4000.0).reshape(1000, 4)


@pytest.mark.parametrize("kind", ["auto", "threads", "processes"])
@pytest.mark.parametrize("workers", [None, 0, 2])
def test_torchs_own_loader_drives_every_datapipe(kind, workers):
    assert route(IterableWrapper([1, 2]), kind, workers, gathers=False, apart=False) == "processes"


@pytest.mark.parametrize("order, threads", [({"batch_size": 10}, 2), ({"batch_sampler": [[0, 1], [2, 3, 4]]}, 0)])
def test_a_budget_leaves_arrays_their_threads_where_the_size_of_batches_is_known(order, threads):
    with ReferenceLoader(X, **order, num_workers=2, memory_budget=1 << 20) as loader:
        assert loader.threads == threads


@pytest.mark.parametrize("given, threads", [({}, 3), ({"num_workers": 2}, 2)])
def test_a_given_executor_means_threads_as_many_as_it_has(given, threads):
    with PersistentExecutor(3) as executor, ReferenceLoader([0, 1, 2], executor=executor, **given) as loader:
        assert (loader.worker_kind, loader.threads, loader.executor) == ("threads", threads, executor)


@pytest.mark.parametrize("collate_fn, made_of", [(None, Gathered), (torch.utils.data.default_collate, Noted)])
def test_processes_gather_from_arrays_unless_the_caller_collates(collate_fn, made_of):
    loader = ReferenceLoader(X, 4, num_workers=1, worker_kind="processes", collate_fn=collate_fn)
    assert type(loader.loader.dataset) is made_of


def dataset_in_worker(samples):
    return type(get_worker_info().dataset).__name__


@pytest.mark.parametrize("dataset, kind", [({"x": X}, "dict"), ((X,), "tuple"), ([0, 1, 2], "list")])
def test_a_worker_is_shown_the_callers_own_dataset(dataset, kind):
    loader = ReferenceLoader(dataset, 500, num_workers=1, worker_kind="processes", collate_fn=dataset_in_worker)
    assert set(loader) == {kind}


def test_the_largest_seed_is_taken_and_a_larger_one_refused():
    largest = 2**63 - 1
    assert ReferenceLoader(X, seed=largest).seed == largest
    words = f"seed must be at most {largest}, what torch's generator takes, got {largest + 1}."
    with pytest.raises(DataError, match=f"^{re.escape(words)}$"):
        ReferenceLoader(X, seed=largest + 1)


def test_a_stream_is_not_cut_for_ranks():
    words = "rank and world_size cannot cut an IterableDataset: let its __iter__ give each rank its share."
    with pytest.raises(DataError, match=f"^{re.escape(words)}$"):
        check_share(0, 2, orders=False, streams=True)


def test_a_loader_says_what_it_is_in_the_log_of_the_package(caplog):
    with caplog.at_level(logging.INFO, logger="pytest_loaderperf"):
        loader = ReferenceLoader(X, 4)
    assert [(record.name, record.message) for record in caplog.records] == [("pytest_loaderperf", repr(loader))]
