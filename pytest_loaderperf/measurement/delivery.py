"""Bringing a batch to the device where it must arrive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pytest_loaderperf.errors import MeasureError

DEVICES = ("cpu", "cuda", "auto")


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
        moved = _to(batch, target)
        if target.type == "cuda":
            torch.cuda.current_stream(target).synchronize()
        return moved

    return deliver


def _to(part: Any, device: torch.device) -> Any:
    if isinstance(part, torch.Tensor):
        return part.to(device, non_blocking=True)
    if isinstance(part, Mapping):
        return {key: _to(value, device) for key, value in part.items()}
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*(_to(value, device) for value in part))
    if isinstance(part, (tuple, list)):
        return type(part)(_to(value, device) for value in part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        moved = {field.name: _to(getattr(part, field.name), device) for field in dataclasses.fields(part) if field.init}
        return dataclasses.replace(part, **moved)
    return part
