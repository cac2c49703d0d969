"""A loader whose batches arrive on a device, played by a runtime that copies on the CPU."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader, mover

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

    def copy(self, leaf, *, non_blocking):
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
        for epoch in range(2):
            came = []
            for batch in loader:
                came.append(batch["x"])
                assert loader.state_dict()["batches"] == len(came)  # not those that were copied ahead
            assert torch.equal(torch.cat(came), torch.from_numpy(ROWS))
            assert loader.state_dict()["epoch"] == epoch + 1


def test_where_pinning_is_chosen_the_buffers_are_page_locked(played):
    with ReferenceLoader({"x": ROWS}, 4, num_workers=0, device="cuda", pin_memory=True) as loader:
        list(loader)
        assert loader._engine.buffers.empty is locked


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
        ("mps", "device must be 'cpu', 'cuda' or 'cuda:N', but 'mps' came."),
        ("cuda", "device='cuda' needs a GPU, but torch sees none here. Use device='cpu'."),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, text, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DataError) as caught:
        ReferenceLoader(ROWS, device=device)
    assert str(caught.value) == text
