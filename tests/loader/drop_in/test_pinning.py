"""pin_memory, on a machine without an accelerator, and with one that is played."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from tests.torch_versions import newer_torch

Pair = namedtuple("Pair", ["batch", "text"])  # noqa: PYI024 the kind that has no types
WITHOUT_ACCELERATOR = (
    "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used."
)


class Batch:
    """A batch of the user's own kind, which pins itself."""

    pinned = False

    def __init__(self, samples):
        self.samples = samples

    def pin_memory(self):
        self.pinned = True
        return self


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.fixture
def an_accelerator(monkeypatch):
    """One without a driver: what pins itself can be pinned, tensors cannot."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda index: None)


with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 1])


@newer_torch
@pytest.mark.usefixtures("no_accelerator")
@with_and_without_workers
def test_without_an_accelerator_a_warning_comes_and_the_batches_do_too(loader_class, num_workers):
    loader = loader_class([1, 2], num_workers=num_workers, pin_memory=True)
    with pytest.warns(UserWarning, match="no accelerator is found") as caught:
        batches = list(loader)
    # Lance, once another test has imported it, warns of every fork, and Python from 3.12 on of one beside threads.
    assert [str(w.message) for w in caught if "fork" not in str(w.message)] == [WITHOUT_ACCELERATOR]
    assert [batch.tolist() for batch in batches] == [[1], [2]]
    assert not any(batch.is_pinned() for batch in batches)
    assert loader.pin_memory is True


@pytest.mark.usefixtures("no_accelerator")
def test_without_an_accelerator_a_batch_of_the_users_kind_is_not_pinned(loader_class):
    loader = loader_class([1, 2], batch_size=2, num_workers=0, pin_memory=True, collate_fn=Batch)
    with pytest.warns(UserWarning, match="no accelerator is found"):
        (batch,) = loader
    assert (batch.samples, batch.pinned) == ([1, 2], False)


@pytest.mark.usefixtures("no_accelerator")
def test_a_pinning_device_is_warned_of(loader_class):
    loader = loader_class([1], num_workers=0, pin_memory=True, pin_memory_device="cuda")
    with pytest.warns(UserWarning, match="pin_memory") as caught:
        list(loader)
    deprecated = (
        "pin_memory_device is deprecated, the current accelerator will be used as the device,"
        "ignore pin_memory_device='cuda'."
    )
    assert [str(warning.message) for warning in caught] == [deprecated, WITHOUT_ACCELERATOR]


def test_a_pinning_device_alone_changes_nothing(loader_class):
    loader = loader_class([1], num_workers=0, pin_memory_device="cuda")
    assert [batch.tolist() for batch in loader] == [[1]]


@newer_torch
@pytest.mark.usefixtures("an_accelerator")
@with_and_without_workers
def test_with_an_accelerator_a_batch_of_the_users_kind_pins_itself(loader_class, num_workers):
    loader = loader_class(
        [1, 2], batch_size=2, num_workers=num_workers, pin_memory=True, collate_fn=Batch, persistent_workers=False
    )
    (batch,) = loader
    assert (batch.samples, batch.pinned) == ([1, 2], True)


@pytest.mark.usefixtures("an_accelerator")
def test_without_pin_memory_nothing_is_pinned(loader_class):
    (batch,) = loader_class([1], num_workers=0, pin_memory=False, collate_fn=Batch)
    assert batch.pinned is False


@newer_torch
@pytest.mark.usefixtures("an_accelerator")
def test_what_lies_in_dicts_and_sequences_is_pinned_too(loader_class):
    def collate(samples):
        return {"pair": Pair(Batch(samples), "text"), "list": [Batch(samples), b"bytes"], "tuple": (Batch(samples), 3)}

    (batch,) = loader_class([1], num_workers=0, pin_memory=True, collate_fn=collate)
    assert type(batch["pair"]) is Pair
    assert type(batch["tuple"]) is tuple
    assert [part.pinned for part in (batch["pair"].batch, batch["list"][0], batch["tuple"][0])] == [True] * 3
    assert (batch["pair"].text, batch["list"][1], batch["tuple"][1]) == ("text", b"bytes", 3)
