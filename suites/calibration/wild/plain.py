"""Kinds of loaders that need no other library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, default_collate

from pytest_loaderperf import ReferenceLoader
from suites.calibration.wild.samples import BATCH_SIZE, BATCHES, CORES, SAMPLES, Samples, Setting, Stream, made

_POLL_SECONDS = 0.01


def workers(setting: Setting, **more: Any) -> Any:
    return DataLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, **more)


def persistent_workers(setting: Setting) -> Any:
    return workers(setting, shuffle=True, persistent_workers=True)


def in_process(setting: Setting) -> Any:
    return DataLoader(Samples(setting), BATCH_SIZE)


def iterable_workers(setting: Setting) -> Any:
    return DataLoader(Stream(setting), BATCH_SIZE, num_workers=CORES)


def reference_threads(setting: Setting) -> Any:
    return ReferenceLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, worker_kind="threads")


def reference_processes(setting: Setting) -> Any:
    return ReferenceLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, worker_kind="processes")


class Wrapper:
    """Has ``num_workers`` but no ``prefetch_factor``, as cellmap-data's CellMapDataLoader."""

    num_workers = CORES

    def __init__(self, setting: Setting) -> None:
        self._loader = workers(setting, prefetch_factor=4, persistent_workers=True)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)


class PatchQueue(Dataset[Any]):
    """A dataset that takes its samples from a loader with workers inside it, as torchio.Queue."""

    def __init__(self, setting: Setting) -> None:
        self._inner, self._iterator, self._rows = workers(setting), None, []

    def __len__(self) -> int:
        return SAMPLES - BATCH_SIZE * CORES

    def __getitem__(self, index: int) -> Any:
        if not self._rows:
            self._rows = list(self._next()["x"])
        return self._rows.pop()

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._inner)
        try:
            return next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._inner)
            return next(self._iterator)


def hidden_workers(setting: Setting) -> Any:
    return DataLoader(PatchQueue(setting), BATCH_SIZE)


class Threads:
    """Threads that make batches into a bounded queue, as SPDL's pipelines and MONAI's ThreadDataLoader do."""

    def __init__(self, setting: Setting) -> None:
        self._samples = Samples(setting)

    def __iter__(self) -> Iterator[Any]:
        ready: Queue[Any] = Queue(2 * CORES)
        starts, stopped = iter(range(0, SAMPLES, BATCH_SIZE)), Event()

        def fill() -> None:
            while (start := next(starts, None)) is not None and not stopped.is_set():
                ready.put(default_collate([self._samples[start + i] for i in range(BATCH_SIZE)]))

        threads = [Thread(target=fill, daemon=True) for _ in range(CORES)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(BATCHES):
                yield ready.get()
        finally:
            stopped.set()
            while any(thread.is_alive() for thread in threads):
                with suppress(Empty):
                    ready.get(timeout=_POLL_SECONDS)


class ArrowScanner:
    """Record batches of Arrow's scanner, which reads ahead on a thread pool; each takes as long as other batches."""

    def __init__(self, setting: Setting) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._wait_s = setting.sample_s * BATCH_SIZE
        self._file = setting.folder / "rows.parquet"
        if not self._file.exists():
            rows = pa.table({"x": np.random.default_rng(0).random(256 * BATCHES)})
            pq.write_table(rows, self._file, row_group_size=256)

    def __iter__(self) -> Iterator[Any]:
        import pyarrow.dataset as ds

        for batch in ds.dataset(self._file, format="parquet").to_batches(batch_size=256):
            made({}, self._wait_s)
            yield batch
