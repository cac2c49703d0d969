"""The order of an epoch's samples, as a pure function."""

from __future__ import annotations

import numpy as np
import torch

Order = np.ndarray | range


def epoch_order(samples: int, *, shuffle: bool, seed: int, epoch: int) -> Order:
    """Indices of one epoch: ``range(samples)``, or the int64 permutation that (seed, epoch) determines.

    Seeded as torch's DistributedSampler does it: ``torch.randperm`` under a generator seeded with ``seed + epoch``.
    """
    if not shuffle:
        return range(samples)
    generator = torch.Generator().manual_seed(seed + epoch)
    permutation: np.ndarray = torch.randperm(samples, generator=generator).numpy()
    return permutation
