"""Stores of plain arrays: views of one read, or copied chunk by chunk."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from pytest_loaderperf.data.arrays.ragged import Flat, Ragged, joined_shapes, settled
from pytest_loaderperf.data.arrow.columns import array_of
from pytest_loaderperf.data.stores.pages import in_small_pages
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.data.stores.store import Store

_log = logging.getLogger("pytest_loaderperf")
CHUNK_NBYTES = 8 << 20  # read at a time: large enough to read fast, and small compared with the data


def whole(source: Source, budget: int) -> Store:
    """All rows in one read, as views of it; a column in several chunks is copied, one column at a time.

    For a table on disk, columns that a library allocated in small pages are also copied, if ``budget`` (bytes) allows.
    """
    table, kept = source.read(), {}
    for name in source.names:
        kept[name] = array_of(table, name)
        table = table.drop_columns([name])  # what was copied is no longer needed
    if not source.in_memory:
        _leave_small_pages(kept, budget)
    return Store(kept)


def _leave_small_pages(kept: dict[str, np.ndarray | Ragged], budget: int) -> None:
    """Copy columns into NumPy arrays, which use huge pages: a shuffled epoch gathers from them faster."""
    held = sum(part.nbytes for part in kept.values())
    values = [part.values if isinstance(part, Ragged) else part for part in kept.values()]
    names = [name for name, small in zip(kept, in_small_pages(values), strict=True) if small]
    del values
    for name in names:
        part = kept[name]
        fits = held + part.nbytes <= budget
        if fits:
            kept[name] = replace(part, values=part.values.copy()) if isinstance(part, Ragged) else part.copy()
        _log.info(
            "store: column %r, %s bytes, is in small memory pages, from which batches take longer: %s",
            name,
            f"{part.nbytes:,}",
            "copied into huge ones" if fits else 'both exceed the budget, cache="chunked" copies while it reads',
        )


def chunked(source: Source) -> Store:
    """All rows copied out of a stream: takes the memory of the rows and of one chunk."""
    growing = {name: _Growing(len(source), flat) for name, flat in source.first.items()}
    for chunk in source.chunks(CHUNK_NBYTES):
        for name, column in growing.items():
            column.append(chunk.flat(name))
    return Store({name: column.finished() for name, column in growing.items()})


class _Growing:
    """Memory for ``rows`` samples like those of ``first``, which grows if others are larger."""

    def __init__(self, rows: int, first: Flat) -> None:
        mean = -(-len(first.values) // max(1, len(first.shapes)))
        self._values = np.empty(rows * mean, first.values.dtype)
        self._used, self._droppable = 0, first.droppable
        self._shapes: list[np.ndarray] = []

    def append(self, flat: Flat) -> None:
        """Copy some more rows."""
        used = self._used + len(flat.values)
        if used > len(self._values):
            self._values.resize(used, refcheck=False)  # moves the pages of large arrays without a copy
        self._values[self._used : used] = flat.values
        self._used = used
        self._shapes.append(flat.shapes)

    def finished(self) -> np.ndarray | Ragged:
        """The rows, as in `settled`."""
        self._values.resize(self._used, refcheck=False)
        return settled(Flat(self._values, joined_shapes(self._shapes), self._droppable))
