"""Settings: which are tried, in which order, which are not and why, and how they are applied."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.diagnosis import Ledger, advice
from pytest_loaderperf.diagnosis.advice import Setting, advise, call_of, candidates
from pytest_loaderperf.diagnosis.ledger import EpochSeen, Event, LoaderFacts, Stages
from pytest_loaderperf.diagnosis.passes import keeping
from pytest_loaderperf.diagnosis.passes.changes import Change
from pytest_loaderperf.diagnosis.passes.keeping import batch_kind, kept_in_memory, moved
from pytest_loaderperf.diagnosis.passes.running import gain_in_pairs
from pytest_loaderperf.diagnosis.passes.settings import applies, arguments, check_applied, remade
from pytest_loaderperf.errors import LoaderError

pytestmark = pytest.mark.usefixtures("few_lines")
GIGA = 10**9
INLINE = LoaderFacts(torch_like=True, batch_size=32, store_nbytes=GIGA, free_nbytes=8 * GIGA, batch_nbytes=1000)
WORKERS = replace(INLINE, num_workers=2, prefetch_factor=2)


def ledger_of(loader=INLINE, **parts):
    """An epoch of 10 ms that only fetches: half of it is the first batch."""
    epoch = EpochSeen(10, 320, 5_000_000, 4_500_000, 500_000, whole=True)
    stages = Stages(ns={"fetch": 10_000_000 * max(1, loader.num_workers)})
    return Ledger(**{"loader": loader, "cores": 4, "stages": stages, "timed": (epoch,), **parts})


def tried(ledger, threads=None):
    return {call_of(ledger, one.settings): one.share for one in candidates(ledger, threads) if isinstance(one, Setting)}


def reasons(ledger, threads=None):
    return [one for one in candidates(ledger, threads) if isinstance(one, str)]


def test_each_setting_is_a_constructor_to_write():
    assert set(tried(ledger_of())) == {
        "DataLoader(dataset, batch_size=32, num_workers=4, persistent_workers=True, ...)",
        "ReferenceLoader(dataset, batch_size=32, ...)",
        "ReferenceLoader(dataset, batch_size=32, worker_kind='threads', num_workers=4, ...)",
        "ReferenceLoader(dataset, batch_size=32, worker_kind='processes', num_workers=4, ...)",
        "ReferenceLoader(optimize(dataset), batch_size=32, ...)",
        "torch.set_num_threads(1), before DataLoader(dataset, batch_size=32, ...)",
    }


def test_settings_of_workers_are_for_loaders_with_workers():
    settings = tried(ledger_of(WORKERS))
    assert settings["DataLoader(dataset, batch_size=32, num_workers=0, ...)"] > 0
    assert settings["DataLoader(dataset, batch_size=32, num_workers=2, persistent_workers=True, ...)"] == 0.5
    assert settings["DataLoader(dataset, batch_size=32, num_workers=2, prefetch_factor=8, ...)"] == 0
    threads = "worker_init_fn=lambda _: torch.set_num_threads(2)"
    assert f"DataLoader(dataset, batch_size=32, num_workers=2, {threads}, ...)" in settings
    assert "persistent_workers, prefetch_factor: there are no workers" in reasons(ledger_of())


def test_uneven_batches_want_more_of_them_ahead():
    ledger = ledger_of(WORKERS, stages=Stages(slow_share=0.4))
    assert tried(ledger)["DataLoader(dataset, batch_size=32, num_workers=2, prefetch_factor=8, ...)"] == 0.4


@pytest.mark.parametrize(
    ("loader", "parts", "threads", "reason"),
    [
        (replace(INLINE, not_kept="its samples differ"), {}, None, "optimize(dataset): its samples differ"),
        (
            replace(INLINE, store_nbytes=5 * GIGA),
            {},
            None,
            "optimize(dataset): it takes 5,000 MB of 8.0 GB free, of which half may be taken",
        ),
        (INLINE, {}, None, "pin_memory: no CUDA device here"),
        (
            INLINE,
            {},
            1,
            "torch.set_num_threads: threads of torch's operations cannot be observed from this process",
        ),
        (
            WORKERS,
            {"stages": Stages(threads={"0": 2, "1": 2})},
            None,
            "torch.set_num_threads: each of 2 workers has its share of 4 cores",
        ),
        (
            replace(WORKERS, set_epoch=True),
            {},
            None,
            "persistent_workers: the dataset has set_epoch(), which workers that stay would not see",
        ),
        (replace(WORKERS, prefetch_factor=16), {}, None, "prefetch_factor: 16 batches ahead are enough"),
        (
            replace(WORKERS, batch_nbytes=GIGA),
            {},
            None,
            "prefetch_factor: 16,000 MB of batches ahead do not fit",
        ),
        (
            WORKERS,
            {"events": (Event("open", "data.py", 3, "f", count=4, in_workers=4),)},
            None,
            "ReferenceLoader(worker_kind='threads'): the dataset opens files, which threads would share",
        ),
    ],
)
def test_what_is_not_safe_or_makes_no_sense_is_said(loader, parts, threads, reason):
    assert reason in reasons(ledger_of(loader, **parts), threads)


def test_a_dataset_with_set_epoch_gets_no_persistent_workers():
    assert not any("persistent" in text for text in tried(ledger_of(replace(WORKERS, set_epoch=True, num_workers=1))))


def test_pinning_is_tried_where_there_is_cuda():
    assert "DataLoader(dataset, batch_size=32, pin_memory=True, ...)" in tried(ledger_of(replace(INLINE, cuda=True)))


def advised(monkeypatch, ledger, seconds, gain=lambda _change: (1.1, 1.2, 1.3), spends=0.0):
    """What is advised where each try gives ``gain`` and takes ``spends`` seconds, and the settings that were tried."""
    now, seen = [0.0], []

    def measured(_source, change, _seconds, **_how):
        seen.append(change.settings)
        now[0] += spends
        return gain(change)

    monkeypatch.setattr(advice, "gain_in_pairs", measured)
    monkeypatch.setattr(advice, "with_keeping", lambda _source, ledger, **_how: ledger)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return *advise(None, ledger, seconds, lambda _text: None, threads=None), seen


def test_what_may_save_most_is_tried_first(monkeypatch):
    found, _, seen = advised(monkeypatch, ledger_of(), 60)
    assert seen[0] == {"ReferenceLoader": True, "optimize": True}
    assert found[0].note == "fits: 1,000 MB of 8.0 GB free"
    assert found[0].helps
    assert seen[-1] == {"threads": 1}


def test_what_there_is_no_time_for_is_said(monkeypatch):
    found, untried, seen = advised(monkeypatch, ledger_of(), 10, spends=4.9)
    assert len(found) == len(seen) == 2
    assert untried[-1].startswith("for lack of time, give it more: ReferenceLoader(")
    assert "torch.set_num_threads(1)" in untried[-1]


def test_epochs_that_take_too_long_are_not_tried(monkeypatch):
    minute = EpochSeen(10, 320, 5_000_000, 60 * GIGA, 500_000, whole=True)
    found, untried, seen = advised(monkeypatch, ledger_of(timed=(minute,)), 10)
    assert (found, seen) == ((), [])
    assert untried[-1].startswith("for lack of time")


def test_what_saves_nothing_or_fails_is_said(monkeypatch):
    def fails(change):
        if "optimize" in change.settings:
            raise LoaderError("the loader failed while it was observed:\nValueError: no")

    found, untried, _ = advised(monkeypatch, ledger_of(WORKERS), 60, fails)
    assert found == ()
    assert "ReferenceLoader(optimize(dataset), batch_size=32, ...): ValueError: no" in untried
    assert any(text.endswith("prefetch_factor=8, ...): it can save less than 2% of the time") for text in untried)


class Rows(Dataset):
    def __init__(self, samples=64):
        self.rows = np.arange(samples * 16, dtype=np.float32).reshape(samples, 16)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index])


class Flipped(Rows):
    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index]) * torch.rand(())


class Ragged(Rows):
    def __getitem__(self, index):
        return torch.arange(index + 1)


class Broken(Rows):
    def __getitem__(self, index):
        raise ValueError("no such row")


def test_the_bytes_of_all_samples_are_estimated_from_a_few():
    kept = kept_in_memory(DataLoader(Rows(1000)))
    assert (kept["store_nbytes"], kept["not_kept"]) == (1000 * 64, "")
    assert kept["free_nbytes"] > 0


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (Flipped(), "two reads of a sample differ, and it would be the same in every epoch"),
        (Ragged(), "sample 1 differs from sample 0"),
        (Broken(), "reading a few samples raised ValueError"),
    ],
)
def test_a_dataset_that_cannot_be_kept_says_why(dataset, reason):
    assert reason in kept_in_memory(DataLoader(dataset))["not_kept"]


def test_samples_that_take_long_are_not_read(monkeypatch):
    monkeypatch.setattr(keeping, "_MOST_SECONDS", -1.0)
    assert "takes more than" in kept_in_memory(DataLoader(Rows()))["not_kept"]


def test_batches_are_compared_by_their_parts():
    assert batch_kind({"x": torch.zeros(2, 3), "name": ["a", "b"]}) == (
        "batch['x']: Tensor torch.float32 2, batch['name']: list"
    )


def test_a_batch_is_moved_to_the_gpu_and_waited_for(monkeypatch):
    done = []
    monkeypatch.setattr(torch.Tensor, "to", lambda _tensor, device, **how: done.append((device, how)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("waited"))
    batch = {"x": torch.zeros(2), "name": ["a"]}
    assert moved(batch) is batch
    assert done == [("cuda", {"non_blocking": True}), "waited"]


def test_arguments_of_workers_are_left_out_without_workers():
    given = {"batch_size": 8, "num_workers": 2, "prefetch_factor": 4}
    assert arguments({"num_workers": 0}, given) == {"batch_size": 8, "num_workers": 0}
    assert arguments({}, given) == arguments({"ReferenceLoader": True, "num_workers": 4}, given) == given
    assert applies({"prefetch_factor": 8}, given)
    assert not applies({"prefetch_factor": 8}, {"batch_size": 8})


def test_threads_of_workers_are_set_beside_what_the_user_sets(monkeypatch):
    done = []
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: done.append(f"{threads} threads"))
    start = arguments({"threads": 2}, {"num_workers": 1, "worker_init_fn": done.append})
    start["worker_init_fn"](7)
    assert done == ["2 threads", 7]


def test_a_setting_that_changes_no_loader_is_an_error():
    with pytest.raises(LoaderError, match="expected a DataLoader made by the factory, with num_workers by keyword"):
        check_applied({"prefetch_factor": 8}, applied=False)
    check_applied({"ReferenceLoader": True}, applied=False)


@pytest.mark.parametrize("settings", [{}, {"optimize": True}, {"worker_kind": "threads", "num_workers": 2}])
@pytest.mark.parametrize("how", [{"batch_size": 8}, {"batch_size": None}], ids=["batches", "samples"])
def test_the_reference_loader_gives_the_same_batches(settings, how):
    loader = DataLoader(Rows(), **how)
    again = remade(loader, {"ReferenceLoader": True, **settings})
    assert isinstance(again, ReferenceLoader)
    assert all(torch.equal(one, other) for one, other in zip(loader, again, strict=True))


def test_rows_are_asked_for_together():
    asked = []

    class Asked(Rows):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    again = remade(DataLoader(Asked(16), batch_size=8), {"batched": True})
    assert all(torch.equal(*both) for both in zip(again, DataLoader(Rows(16), batch_size=8), strict=True))
    assert [len(index) for index in asked] == [8, 8]


class Inner(Dataset):
    """Gives samples, and lists of them in one call."""

    def __init__(self, rows, gives=list):
        self.rows, self.gives, self.calls = rows, gives, []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.calls.append(index)
        return self.rows[index]

    def __getitems__(self, indices):
        self.calls.append(indices)
        return self.gives(self.rows[indices])


class Outer(Dataset):
    def __init__(self, inner):
        self.inner, self.seen = inner, 0

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        self.seen += 1
        return self.inner[index] * 2


@pytest.fixture
def inner_kept():
    item = Inner.__getitem__
    yield
    Inner.__getitem__ = item


@pytest.mark.usefixtures("inner_kept")
def test_a_dataset_inside_is_asked_for_whole_batches():
    outer = Outer(Inner(torch.arange(16.0)))
    again = remade(DataLoader(outer, batch_size=8), {"passed_on": True})
    first, second = again
    assert (first.shape, second.shape, outer.seen) == ((8,), (8,), 16)
    assert outer.inner.calls == [0, list(range(8)), list(range(8, 16))]  # one sample, then batches
    assert outer.inner[3] == 3.0


@pytest.mark.usefixtures("inner_kept")
def test_a_batch_that_is_no_list_of_samples_passes_through_torchs_wrappers_as_it_is():
    parts = [Inner(torch.arange(16.0), gives=lambda rows: rows) for _ in range(2)]
    again = remade(DataLoader(ConcatDataset(parts), batch_size=8, collate_fn=torch.as_tensor), {"passed_on": True})
    batches = list(again)
    assert [batch.tolist() for batch in batches[1:]] == [list(range(8))] * 3
    assert [calls for part in parts for calls in part.calls] == [0, *[list(range(8))] * 4]


class Batched(Rows):
    def __getitems__(self, indices):
        return torch.from_numpy(self.rows[indices])


def test_a_setting_that_gives_other_batches_is_refused():
    make_loader = lambda: DataLoader(Batched(), batch_size=8, collate_fn=lambda batch: batch)  # noqa: E731
    change = Change.of_settings({"ReferenceLoader": True, "optimize": True})
    with pytest.raises(LoaderError, match=r"it gives other batches: expected batch: Tensor torch\.float32 2, got"):
        gain_in_pairs(make_loader, change, 0.3, threads=1)
