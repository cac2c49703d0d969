"""Grain's Dataset API."""

from __future__ import annotations

from typing import Any

import grain
import numpy as np

from pytest_loaderperf.engines.loaders.grain_dataset import apart, reading
from suites.peers.variant import Setting, Variant, arrays


class Samples:
    """The regime as a random-access source."""

    def __init__(self, setting: Setting) -> None:
        self._raw, self._make = setting.regime.raw, setting.regime.make

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._make(self._raw[index]), index


class Batches:
    """Made from a batch of indices: by one gather, or sample by sample."""

    def __init__(self, setting: Setting) -> None:
        regime = setting.regime
        self._raw, self._make, self._gathers = regime.raw, regime.make, regime.in_arrays

    def __call__(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._gathers:
            return self._raw[indices], indices  # a sample's label is its index
        return np.stack([self._make(self._raw[index]) for index in indices]), indices


def peer(setting: Setting) -> list[Variant]:
    regime, cores = setting.regime, setting.cores

    def by_samples() -> Any:
        return grain.MapDataset.source(Samples(setting)).seed(1).shuffle().batch(regime.batch_size)

    def by_batches() -> Any:
        return grain.MapDataset.range(len(regime)).seed(1).shuffle().batch(regime.batch_size).map(Batches(setting))

    here = Variant("batches of indices, 0 threads", lambda: reading(by_batches(), 0), arrays)
    threaded = Variant(f"batches of indices, {cores} threads", lambda: reading(by_batches(), cores), arrays)
    sample = Variant("samples, 0 threads", lambda: reading(by_samples(), 0), arrays)
    others = [
        Variant(f"samples, {cores} threads", lambda: reading(by_samples(), cores), arrays),
        Variant(f"mp_prefetch, {cores} processes", lambda: apart(by_batches(), cores), arrays),
    ]
    if regime.map_only:  # a dataset that has __getitem__ alone
        return [sample, *others[:1]]
    return [threaded, here, sample, *others] if regime.releases_gil else [here, threaded, sample, *others]
