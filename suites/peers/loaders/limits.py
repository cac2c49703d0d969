"""Limits of every loader: the copy of a batch's bytes, or only the work of its samples."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pytest_loaderperf.measurement.roofline import Roofline
from suites.peers.variant import Setting, Variant


def _bare(setting: Setting) -> Variant:
    """The samples of every batch made in chunks, on as many threads as there are cores."""
    regime, rng = setting.regime, np.random.default_rng(0)
    raw, make = regime.raw, regime.make
    threads = ThreadPoolExecutor(setting.cores)

    def chunk(indices: list[int]) -> None:
        for index in indices:
            make(raw[index])  # discarded immediately: keeping a batch of them would need new memory each time

    def run(batches: int) -> None:
        size = regime.batch_size
        epochs = -(-batches // regime.epoch_batches)
        order = np.concatenate([rng.permutation(len(regime)) for _ in range(epochs)]).tolist()
        list(threads.map(chunk, [order[i * size : (i + 1) * size] for i in range(batches)]))

    return Variant(f"decoded on {setting.cores} threads, no loader", list, run=run)


def _plain_loop(setting: Setting) -> Variant:
    """``dataset[i]`` for every sample, in one thread: no collate, no batch."""
    regime, dataset, rng = setting.regime, setting.regime.dataset, np.random.default_rng(0)

    def run(batches: int) -> None:
        for start in range(0, batches, regime.epoch_batches):
            order = rng.permutation(len(regime))[: (batches - start) * regime.batch_size]
            for index in order.tolist():
                dataset[index]

    return Variant("dataset[i] in a loop, no collate", list, run=run)


def peer(setting: Setting) -> list[Variant]:
    regime = setting.regime
    if regime.in_arrays:
        batch = (torch.zeros(regime.batch_size, *regime.shape), torch.zeros(regime.batch_size, dtype=torch.int64))
        return [Variant("sequential copy of the bytes", lambda: Roofline(batch, regime.epoch_batches))]
    return [_bare(setting) if regime.releases_gil else _plain_loop(setting)]
