"""A store that a thread fills from a stream; samples that are requested earlier are read immediately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.arrays.columns import DictOf
from pytest_loaderperf.data.arrays.fields import Field
from pytest_loaderperf.data.arrays.indices import checked_indices
from pytest_loaderperf.data.arrays.ragged import dropped, one_shape
from pytest_loaderperf.data.stores.preload import Preloaded
from pytest_loaderperf.data.stores.source import Rows, Source, naming
from pytest_loaderperf.data.stores.store import samples_of
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import torch

CHUNK_NBYTES = 1 << 20  # read at a time; a request for another row waits for it


class PreloadedTable(Preloaded):
    """Samples as in `store.Store`; ReferenceLoader gathers from them once all are there.

    Raises DataError, here or from ``wait``, if a column is ragged.
    """

    def __init__(self, source: Source) -> None:
        self._dataset = source
        self._shapes = {name: one_shape(flat.shapes) for name, flat in source.first.items()}
        fields = []
        for name, flat in source.first.items():
            shape = self._shapes[name]
            if shape is None:
                raise _ragged(name)
            leave_out = dropped(flat.shapes, flat.droppable)
            kept = tuple(length for axis, length in enumerate(shape) if axis not in leave_out)
            fields.append(Field(name, kept, flat.values.dtype, None))
        self._allocate(len(source), fields, DictOf(tuple(source.names)))
        self._stream = source.chunks(CHUNK_NBYTES)
        self._begin()

    def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
        return samples_of(self[checked_indices(len(self), indices)])

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_stream": iter(())}  # missing samples are read on request

    def _step(self) -> bool:
        with self._turns:
            chunk = next(self._stream, None)
            if chunk is not None:
                self._put(np.arange(self._next, self._next + len(chunk)), chunk)
                self._next += len(chunk)
        return chunk is not None

    def _fill_rows(self, missing: Sequence[int]) -> None:
        if missing:
            indices = np.array(missing, np.int64)
            self._put(indices, self._dataset.take(indices))

    def _put(self, indices: np.ndarray, rows: Rows) -> None:
        """Copy ``rows``, which belong at ``indices``, to the places that are not filled yet."""
        with naming(self._dataset.table):
            self._copy(indices, rows)

    def _copy(self, indices: np.ndarray, rows: Rows) -> None:
        missing = ~self._filled[indices]
        for field, array in zip(self._fields, self._arrays, strict=True):
            flat = rows.flat(field.name)
            if len(indices) and one_shape(flat.shapes) != self._shapes[field.name]:
                raise _ragged(field.name)
            array[indices[missing]] = flat.values.reshape(len(indices), *field.shape)[missing]
        self._filled[indices] = True
        self._missing -= int(missing.sum())


def _ragged(name: str) -> DataError:
    return DataError(
        f"column {name!r} has samples of several shapes, and the background fills arrays of one shape. "
        "Leave it out of columns=, or pass background=False."
    )
