"""Where batches must arrive."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple

import pytest
import torch

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.measurement.delivery import delivery, resolve_device

X = torch.zeros(4, 8)
Pair = namedtuple("Pair", "x y")  # noqa: PYI024 as users write it


@dataclasses.dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    name: str
    size: int = dataclasses.field(init=False, default=4)


@pytest.mark.parametrize(
    "batch, reach",
    [
        (X, lambda b: b),
        ((X, "a"), lambda b: b[0]),
        ([X, 3], lambda b: b[0]),
        ({"x": {"y": X}}, lambda b: b["x"]["y"]),
        (OrderedDict(x=X), lambda b: b["x"]),
        (Pair(X, None), lambda b: b.x),
        (Batch(X, "train"), lambda b: b.x),
    ],
)
def test_every_tensor_arrives_and_the_structure_stays(batch, reach):
    moved = delivery("meta")(batch)
    assert reach(moved).device.type == "meta"
    assert reach(batch).device.type == "cpu"
    if not isinstance(batch, OrderedDict):
        assert type(moved) is type(batch)


def test_what_is_no_tensor_stays_as_it_is():
    batch = {"names": ["a", "b"], "epoch": 3, "none": None}
    assert delivery("meta")(batch) == batch


def test_the_cpu_needs_no_delivery():
    assert delivery("cpu") is None


@pytest.mark.parametrize(
    "name, gpu, wanted", [("cpu", True, "cpu"), ("cuda", True, "cuda"), ("auto", True, "cuda"), ("auto", False, "cpu")]
)
def test_the_device_is_chosen_by_what_there_is(monkeypatch, name, gpu, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device(name) == wanted


@pytest.mark.parametrize(
    "name, words",
    [
        ("cuda", "device 'cuda' was requested, but torch finds no CUDA device. Use cpu or auto."),
        ("tpu", "unknown device 'tpu'. Expected one of: cpu, cuda, auto."),
        ("cuda:1", "unknown device 'cuda:1'."),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, name, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MeasureError, match=words):
        resolve_device(name)


def test_a_tensor_of_a_class_of_its_own_is_moved_as_that_class_does_it():
    class Own(torch.Tensor):
        def to(self, *given, **named):
            moved.append(given)
            return super().to(*given, **named)

    moved = []
    delivered = delivery("meta")([torch.zeros(2).as_subclass(Own)])
    assert moved == [(torch.device("meta"),)]
    assert delivered[0].device.type == "meta"
