"""Bringing a batch to the device where it must arrive."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import torch

from pytest_loaderperf.data.arrays.structure import mapped
from pytest_loaderperf.defaults import DEVICES
from pytest_loaderperf.errors import MeasureError


def resolve_device(name: str) -> str:
    """``cpu`` or ``cuda`` for a name in DEVICES. Raises MeasureError for another, or ``cuda`` without a GPU."""
    if name not in DEVICES:
        raise MeasureError(f"unknown device {name!r}. Expected one of: {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise MeasureError("device 'cuda' was requested, but torch finds no CUDA device. Use cpu or auto.")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def delivery(device: str) -> Callable[[Any], Any] | None:
    """A function that returns a batch when it has arrived on ``device``; None if nothing needs to be moved."""
    if device == "cpu":
        return None
    target = torch.device(device)

    def deliver(batch: Any) -> Any:
        moved = mapped(batch, methodcaller("to", target, non_blocking=True), _is_tensor)
        if target.type == "cuda":
            torch.cuda.current_stream(target).synchronize()
        return moved

    return deliver


def _is_tensor(part: Any) -> bool:
    return isinstance(part, torch.Tensor)
