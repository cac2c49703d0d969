"""Which processes serve which epoch, in what order, and that none is left when its loader is gone."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from pytest_loaderperf.loader import ReferenceLoader

PATIENCE_S = 30


class Numbers:
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> list[int]:
        return [index, os.getpid()]


class Stream(IterableDataset):
    def __init__(self, told: int, given: int) -> None:
        self.told, self.given = told, given

    def __len__(self) -> int:
        return self.told

    def __iter__(self):
        return ([index, os.getpid()] for index in range(self.given))


def taken(iterator: Any, batches: int) -> tuple[list[int], set[int]]:
    """The samples and the processes of some batches."""
    samples: list[int] = []
    pids: set[int] = set()
    for indices, from_pids in islice(iterator, batches):
        samples += indices.tolist()
        pids |= set(from_pids.tolist())
    return samples, pids


def no_process_is_left() -> bool:
    gc.collect()
    deadline_s = time.monotonic() + PATIENCE_S
    while multiprocessing.active_children() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return not multiprocessing.active_children()


@pytest.fixture(autouse=True)
def none_is_left():
    assert no_process_is_left()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    assert no_process_is_left()


@pytest.mark.parametrize("persists", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"on_error": "skip", "pin_memory": False, "drop_last": True}], ids=str)
def test_epochs_taken_by_their_length_have_as_many_workers_and_torchs_orders(arguments, persists):
    def orders(loader: Any) -> tuple[list[list[int]], list[set[int]]]:
        torch.manual_seed(0)
        epochs = []
        for _ in range(4):
            iterator = iter(loader)  # while the one before is held
            epochs.append(taken(iterator, len(loader)))
        return [samples for samples, _ in epochs], [pids for _, pids in epochs]

    shared = {"shuffle": True, "num_workers": 2, "persistent_workers": persists}
    came, pids = orders(ReferenceLoader(Numbers(), 8, **shared, **arguments))
    assert came == orders(DataLoader(Numbers(), 8, **shared))[0]
    assert [len(one) for one in pids] == [2] * 4
    assert len(set.union(*pids)) == (2 if persists else 8)


@pytest.mark.parametrize("persistent_workers", [None, True, False])
def test_orders_are_torchs_whatever_is_taken_of_each_epoch(persistent_workers):
    def orders(loader: Any) -> list[list[int]]:
        torch.manual_seed(0)
        epochs = []
        for batches in (8, 3, 0, 8, 9):
            iterator = iter(loader)
            epochs.append(taken(iterator, batches)[0])
        return epochs

    ours = ReferenceLoader(Numbers(), 8, shuffle=True, num_workers=2, persistent_workers=persistent_workers)
    theirs = DataLoader(Numbers(), 8, shuffle=True, num_workers=2, persistent_workers=bool(persistent_workers))
    assert orders(ours) == orders(theirs)


def test_after_its_last_batch_an_iterator_that_is_held_keeps_no_process():
    loader = ReferenceLoader(Numbers(), 8, num_workers=2)
    held = iter(loader)
    taken(held, 8)
    del loader
    assert no_process_is_left()
    assert list(held) == []


def test_an_epoch_left_early_leaves_its_workers_to_the_next_once_it_is_let_go():
    loader = ReferenceLoader(Numbers(), 8, num_workers=2, persistent_workers=True)
    pids = [taken(iter(loader), 3)[1] for _ in range(3)]
    assert pids == [pids[0]] * 3


def test_an_epoch_under_way_keeps_its_workers_though_another_begins():
    loader = ReferenceLoader(Numbers(), 8, num_workers=2)
    outer = iter(loader)
    samples, outer_pids = taken(outer, 3)
    inner_pids = [taken(iter(loader), 8)[1] for _ in range(3)]
    assert not set.union(*inner_pids) & outer_pids
    assert samples + taken(outer, 8)[0] == list(range(64))


def test_persistent_workers_asked_for_serve_one_iterator_and_an_older_one_says_so():
    loader = ReferenceLoader(Numbers(), 8, num_workers=2, persistent_workers=True)
    older = iter(loader)
    pids = [taken(older, 3)[1]]
    newer = iter(loader)
    with pytest.raises(RuntimeError) as caught:
        next(older)
    assert str(caught.value) == (
        "expected one iterator at a time, for persistent_workers=True was given, got a second one: leave "
        "persistent_workers out to have several."
    )
    samples, newer_pids = taken(newer, 9)
    assert (samples, [newer_pids]) == (list(range(64)), pids)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_stream_taken_by_its_length_has_the_same_workers(num_workers):
    loader = ReferenceLoader(Stream(32 * num_workers, 32), 8, num_workers=num_workers, persistent_workers=True)
    pids, older = [], iter(())
    for _ in range(4):
        iterator = iter(loader)
        assert next(older, None) is None  # it is over, though nobody has asked it for more
        pids.append(taken(iterator, len(loader))[1])
        older = iterator
    assert [len(one) for one in pids] == [num_workers] * 4
    assert pids == [pids[0]] * 4


def test_a_stream_beyond_its_length_goes_on_though_another_epoch_began():
    loader = ReferenceLoader(Stream(16, 40), 8, num_workers=1)
    older = iter(loader)
    samples = taken(older, 2)[0]
    assert taken(iter(loader), 9)[0] == list(range(40))
    assert samples + taken(older, 9)[0] == list(range(40))


def test_only_the_first_epoch_of_workers_that_persist_draws_their_seed():
    loader = ReferenceLoader(Numbers(), 8, num_workers=1, persistent_workers=True)
    draws = [loader.state_dict()["draws_seed"]]
    for _ in range(2):
        taken(iter(loader), 9)
        draws.append(loader.state_dict()["draws_seed"])
    assert draws == [True, False, False]


def test_who_shuts_down_torchs_iterator_ends_the_workers():
    loader = ReferenceLoader(Numbers(), 8, num_workers=2, persistent_workers=True)
    held = iter(loader)
    taken(held, 3)
    loader._iterator._shutdown_workers()  # as Lightning does at the end of a training
    loader._iterator = None
    assert no_process_is_left()
    assert taken(iter(loader), 8)[0] == list(range(64))
