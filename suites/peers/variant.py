"""The interface between a peer's file and the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # what a regime needs to run is installed for the peers alone
    from suites.peers.regimes import Regime

Batch = tuple[torch.Tensor, torch.Tensor]


class Unable(Exception):  # noqa: N818 a reason, not a fault
    """The peer cannot do this regime; the text says why."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to use a loader. ``make`` builds it; iterating it once gives one epoch of batches.

    ``unpack`` turns a batch into ``(samples, labels)`` tensors if it is not that already; its time counts.
    ``close`` ends what the loader started. ``run(batches)``, for a limit, does the work with no loader at all.
    """

    how: str
    make: Callable[[], Any]
    unpack: Callable[[Any], Batch] | None = None
    close: Callable[[Any], None] | None = None
    run: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer may use: the regime, the number of cores, and an empty folder of its own."""

    regime: Regime
    cores: int
    folder: Path


class Epochs:
    """A loader whose epochs are made by a function: for peers with an iterator but no object to loop over."""

    def __init__(self, epoch: Callable[[], Iterable[Any]]) -> None:
        self._epoch = epoch

    def __iter__(self) -> Any:
        return iter(self._epoch())


def columns_x_y(batch: Any) -> Batch:
    """``unpack`` for batches that are mappings of tensors."""
    return batch["x"], batch["y"]


def arrays(batch: Any) -> Batch:
    """``unpack`` for pairs of NumPy arrays."""
    return torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
