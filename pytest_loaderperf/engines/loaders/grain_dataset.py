"""Grain's Dataset API."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grain

from pytest_loaderperf.engines.setting import Setting
from pytest_loaderperf.engines.variant import Variant


def reading(dataset: Any, threads: int) -> Any:
    """google/grain: docs/tutorials/dataset_basic_tutorial.md; ReadOptions' own words: 0 threads for data in memory."""
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))


def apart(dataset: Any, processes: int) -> Any:
    """Batches are made by processes."""
    options = grain.MultiprocessingOptions(processes, per_worker_buffer_size=2)
    return reading(dataset, 0).mp_prefetch(options)


def in_process(setting: Setting) -> Variant:
    """In the consumer's thread."""
    return _variant(setting, partial(reading, threads=0), "0 threads")


def threads(setting: Setting) -> Variant:
    """Batches are made by threads."""
    return _variant(setting, partial(reading, threads=setting.workers), setting.threads)


def processes(setting: Setting) -> Variant:
    """Batches are made by processes, which would start anew in each epoch: its epochs are one stream, by ``repeat``."""
    read = partial(apart, processes=setting.workers)
    return _variant(setting, read, f"{setting.processes}, repeat()", repeats=True)


def _variant(setting: Setting, read: Callable[[Any], Any], how: str, *, repeats: bool = False) -> Variant:
    def batches(source: Any) -> Any:
        return read(source.batch(setting.batch_size, batch_fn=setting.collate))

    source = grain.MapDataset.source(setting.dataset)

    def make() -> Any:
        shuffled = source.seed(1).shuffle()
        return batches(shuffled.repeat() if repeats else shuffled)

    return Variant(how, make, in_order=partial(batches, source))
