"""What a peer's file gets, and the batches it is to give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pytest_loaderperf.engines.variant import Epochs, Unable, Variant

if TYPE_CHECKING:  # what a regime needs to run is installed for the peers alone
    from suites.peers.regimes import Regime

__all__ = ["Batch", "Epochs", "Setting", "Unable", "Variant", "arrays", "columns_x_y"]
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer may use: the regime, the number of cores, and an empty folder of its own."""

    regime: Regime
    cores: int
    folder: Path


def columns_x_y(batch: Any) -> Batch:
    """``unpack`` for batches that are mappings of tensors."""
    return batch["x"], batch["y"]


def arrays(batch: Any) -> Batch:
    """``unpack`` for pairs of NumPy arrays."""
    return torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
