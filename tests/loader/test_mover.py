"""A loader whose batches arrive on a device, played by a runtime that copies on the CPU."""

from __future__ import annotations

import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader, mover
from pytest_loaderperf.loader.mover import Mover
from pytest_loaderperf.loader.progress import Progress
from pytest_loaderperf.loader.transfer import Decision

ROWS = np.arange(40 * 3, dtype=np.float32).reshape(40, 3)


class Past:
    """An event that is always past."""

    def query(self):
        return True

    def synchronize(self):
        pass


class PlayedRuntime:
    free_nbytes = 1 << 40

    def __init__(self, device):
        self.device = device

    def side(self):
        return nullcontext()

    def pin(self, leaf):
        return leaf

    def copy(self, leaf):
        return leaf.clone()

    def record(self):
        return Past()

    def wait(self, event):
        pass

    def keep(self, leaf):
        pass


def locked(shape, dtype):
    return np.empty(shape, dtype)


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(mover, "CudaRuntime", PlayedRuntime)
    monkeypatch.setattr(mover, "pinned_empty", locked)
    for module in (torch.cuda, torch.accelerator):
        monkeypatch.setattr(module, "is_available", lambda: True)


SOURCES = {"arrays": {"x": ROWS}, "samples": [{"x": row} for row in ROWS]}


@pytest.mark.parametrize("pin_memory", [False, True, None])
@pytest.mark.parametrize("dataset", SOURCES.values(), ids=SOURCES)
def test_every_batch_arrives_and_is_counted_when_it_is_delivered(played, dataset, pin_memory):
    with ReferenceLoader(dataset, 4, num_workers=0, device="cuda", pin_memory=pin_memory, seed=1) as loader:
        decisions = set()
        for epoch in range(2):
            came = []
            for batch in loader:
                came.append(batch["x"])
                assert loader.state_dict()["batches"] == len(came) % len(loader)  # not those that were copied ahead
            assert torch.equal(torch.cat(came), torch.from_numpy(ROWS))
            assert loader.state_dict()["epoch"] == epoch + 1
            decisions.add(id(loader._mover.decision))
        assert len(decisions) == 1


def test_where_pinning_is_chosen_the_buffers_are_page_locked(played):
    with ReferenceLoader({"x": ROWS}, 4, num_workers=0, device="cuda", pin_memory=True) as loader:
        list(loader)
        assert loader._engine.buffers.empty is locked


def test_samples_skipped_are_counted_with_the_batch_they_come_before(played):
    class Bad(list):
        def __getitem__(self, index):
            return {"x": ROWS[index]} if index not in (1, 9, 10) else 1 / 0

    def counts(device):
        dataset = Bad(range(20))
        with ReferenceLoader(dataset, 4, num_workers=0, on_error="skip", error_limit=3, device=device) as loader:
            if device == "cuda":
                loader._mover.decision = Decision(pin=True, ahead=2, reason="")
            return [(loader.state_dict()["batches"], loader.state_dict()["skipped"]) for _ in loader]

    assert counts("cuda")[:4] == counts("cpu")[:4] == [(1, 1), (2, 1), (3, 3), (4, 3)]


def delivered(batches):
    return Mover("cuda", memory_budget=None, pin_memory=None).delivered(batches, None, Progress(0), Progress(0))


def test_no_host_batch_is_held_once_it_is_copied_not_even_the_one_that_decided(played):
    alive = []

    def source():
        for i in range(4):
            yield note(torch.full((2,), float(i)))

    def note(batch):
        alive.append(weakref.ref(batch))
        return batch

    came = delivered(source())
    for _ in came:
        assert [ref() for ref in alive[:-1]] == [None] * (len(alive) - 1)


def test_leaving_an_epoch_early_closes_its_source(played):
    batches = (torch.zeros(2) for _ in range(4))
    came = delivered(batches)
    next(came)
    came.close()
    assert list(batches) == []


def test_an_empty_epoch_decides_nothing(played):
    with ReferenceLoader([], 4, num_workers=0, device="cuda") as loader:
        assert list(loader) == []
        assert loader._mover.decision is None
        assert loader.state_dict()["epoch"] == 1


def test_the_rest_of_an_epoch_comes_after_a_restart(played):
    with ReferenceLoader({"x": ROWS}, 4, shuffle=True, seed=3, num_workers=0, device="cuda") as loader:
        whole = [batch["x"] for batch in loader]
    with ReferenceLoader({"x": ROWS}, 4, shuffle=True, seed=3, num_workers=0, device="cuda") as loader:
        batches = iter(loader)
        next(batches)
        next(batches)
        state = loader.state_dict()
        batches.close()
        loader.load_state_dict(state)
        assert torch.equal(torch.cat([batch["x"] for batch in loader]), torch.cat(whole[2:]))


@pytest.mark.parametrize(
    "device, text",
    [
        ("mps", "device must be 'cpu', 'cuda' or 'cuda:N', got 'mps'."),
        ("cuda", "device='cuda' needs a GPU, but torch sees none here. Use device='cpu'."),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, text, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DataError) as caught:
        ReferenceLoader(ROWS, device=device)
    assert str(caught.value) == text
