"""Shares of a batch's time by stage."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pytest_loaderperf.data import optimize
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.measurement import stages
from pytest_loaderperf.measurement.stages import stage_shares

SLOW_SECONDS = 0.002
X = torch.zeros(2)


class Samples(Dataset):
    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s

    def __len__(self):
        return 16

    def __getitem__(self, i):
        time.sleep(self.delay_s)
        return torch.zeros(2)


class Batched(Samples):
    def __getitems__(self, indices):
        time.sleep(SLOW_SECONDS)
        return [torch.zeros(2)] * len(indices)

    def __getitem__(self, i):
        raise AssertionError("one by one")


class SlowSampler:
    def __iter__(self):
        for i in range(16):
            time.sleep(SLOW_SECONDS)
            yield i

    def __len__(self):
        return 16


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(16, 2))


def slow_collate(samples):
    time.sleep(5 * SLOW_SECONDS)
    return torch.stack(samples)


@pytest.mark.parametrize(
    "loader, costs_most",
    [
        (DataLoader(Samples(SLOW_SECONDS), 4), "fetch"),
        (DataLoader(Batched(), 4), "fetch"),
        (DataLoader(Samples(), 4, collate_fn=slow_collate), "collate"),
        (DataLoader(Samples(), 4, sampler=SlowSampler()), "sampler"),
    ],
)
def test_the_stage_that_sleeps_costs_most(loader, costs_most):
    shares = stage_shares(loader)
    assert max(shares, key=shares.get) == costs_most
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("loader", [[1, 2], DataLoader(Stream(), 4), DataLoader(TensorDataset(torch.zeros(4)), None)])
def test_a_loader_without_these_stages_has_no_shares(loader):
    assert stage_shares(loader) == {}


def test_a_dataset_that_makes_whole_batches_has_no_shares():
    store = optimize(Samples(), transform=torch.neg, per="batch")
    assert stage_shares(ReferenceLoader(store, 4)) == {}


def test_a_slow_dataset_is_replayed_for_a_while_only(monkeypatch):
    fetched = []

    class Counted(Samples):
        def __getitem__(self, i):
            fetched.append(i)
            return super().__getitem__(i)

    monkeypatch.setattr(stages, "_ENOUGH_SECONDS", 2.5 * SLOW_SECONDS)
    shares = stage_shares(DataLoader(Counted(SLOW_SECONDS), batch_size=1))
    assert 1 <= len(fetched) <= 3
    assert set(shares) == {"sampler", "fetch", "collate"}


def test_a_part_of_a_batch_tells_where_a_sample_takes_long(monkeypatch):
    monkeypatch.setattr(stages, "_ENOUGH_SECONDS", 3 * SLOW_SECONDS)
    dataset, fetched = Samples(2 * SLOW_SECONDS), []
    monkeypatch.setattr(Samples, "__getitem__", lambda self, i: fetched.append(i) or time.sleep(self.delay_s) or X)
    shares = stage_shares(DataLoader(dataset, batch_size=16))
    assert shares["fetch"] > shares["collate"]
    assert 1 <= len(fetched) < 16  # two on an idle machine
