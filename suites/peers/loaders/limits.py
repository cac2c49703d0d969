"""Limits of every loader: the copy of a batch's bytes, or only the work of its samples."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import torch

from pytest_loaderperf.measurement.roofline import Roofline
from suites.peers.variant import Setting, Variant

_BUFFERS = 4  # batches in turns: one in the consumer's hands, one that it is about to drop, one for each of two threads


def _bare(setting: Setting, *, keeps: bool = False) -> Variant:
    """The samples of every batch made in chunks, on as many threads as there are cores; ``keeps``: in a batch."""
    regime, rng = setting.regime, np.random.default_rng(0)
    raw, make, make_into = regime.raw, regime.make, regime.make_into
    threads, turn = ThreadPoolExecutor(setting.cores), count()
    buffers = np.zeros((_BUFFERS, regime.batch_size, *regime.shape), np.uint8) if keeps else np.zeros(0)

    def chunk(indices: list[int]) -> None:
        for index in indices:
            make(raw[index])  # discarded immediately: keeping a batch of them would need new memory each time

    def chunk_into(indices: list[int]) -> None:
        batch = buffers[next(turn) % _BUFFERS]
        for row, index in enumerate(indices):
            make_into(raw[index], batch[row])

    def run(batches: int) -> None:
        size = regime.batch_size
        epochs = -(-batches // regime.epoch_batches)
        order = np.concatenate([rng.permutation(len(regime)) for _ in range(epochs)]).tolist()
        list(threads.map(chunk_into if keeps else chunk, [order[i * size : (i + 1) * size] for i in range(batches)]))

    into = " into batches" if keeps else ""
    return Variant(f"decoded{into} on {setting.cores} threads, no loader", list, run=run)


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
    if not regime.releases_gil:
        return [_plain_loop(setting)]
    return [_bare(setting), _bare(setting, keeps=True)]
