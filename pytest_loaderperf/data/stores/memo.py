"""A store that reads each sample on its first request, and keeps all that it has read, or the latest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.data.arrays.columns import RowDataset
from pytest_loaderperf.data.arrays.indices import checked_indices, places
from pytest_loaderperf.data.arrays.ragged import dropped, offsets_of, one_shape
from pytest_loaderperf.data.execution.turns import Turns
from pytest_loaderperf.data.stores.source import Rows, Source, naming
from pytest_loaderperf.data.stores.store import Values, samples_of
from pytest_loaderperf.errors import DataError

Sample = dict[str, np.ndarray]


class MemoStore(RowDataset):
    """Samples as in `store.Store`. ``most``: how many of the last used ones are kept; None: all.

    Other threads wait while one reads. Pickling includes the table, but no samples.
    """

    def __init__(self, source: Source, most: int | None) -> None:
        self.columns = None
        self._table, self._most = source, most
        self._kept: OrderedDict[int, Sample] = OrderedDict()
        self._turns = Turns()
        self._ragged = {name for name, flat in source.first.items() if one_shape(flat.shapes) is None}
        self._left_out = {name: dropped(flat.shapes, flat.droppable) for name, flat in source.first.items()}

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: Any) -> Any:
        indices, single = places(len(self), index)
        samples = self._samples(indices.tolist())
        if single:
            return {name: torch.from_numpy(array.copy()) for name, array in samples[0].items()}
        return {name: self._together(name, [sample[name] for sample in samples]) for name in self._table.names}

    def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
        return samples_of(self[checked_indices(len(self), indices)])

    def wait(self) -> None:
        """Return immediately: samples are only read on request."""

    def close(self) -> None:
        """Release the samples. May be called twice; later requests read them again."""
        with self._turns:
            self._kept.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self._table, "most": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # it is the same class

    def _together(self, name: str, arrays: list[np.ndarray]) -> Values:
        if name in self._ragged or len({array.shape for array in arrays}) > 1:
            return [torch.from_numpy(array.copy()) for array in arrays]
        if not arrays:
            first = self._table.first[name]
            shape = np.delete(first.shapes[0], self._left_out[name])
            return torch.from_numpy(np.empty((0, *shape), first.values.dtype))
        return torch.from_numpy(np.stack(arrays))

    def _samples(self, indices: Sequence[int]) -> list[Sample]:
        with self._turns:
            kept = self._kept
            missing = sorted({index for index in indices if index not in kept})
            if missing:
                kept.update(self._read(missing))
            samples = []
            for index in indices:
                kept.move_to_end(index)
                samples.append(kept[index])
            while self._most is not None and len(kept) > self._most:
                kept.popitem(last=False)
            return samples

    def _read(self, indices: list[int]) -> dict[int, Sample]:
        with naming(self._table.table):
            return self._samples_of(self._table.take(np.array(indices, np.int64)), indices)

    def _samples_of(self, rows: Rows, indices: list[int]) -> dict[int, Sample]:
        samples: dict[int, Sample] = {index: {} for index in indices}
        for name in self._table.names:
            flat = rows.flat(name)
            leave_out = self._left_out[name]
            unlike = (flat.shapes[:, leave_out] != 1).any(axis=1)
            if unlike.any():
                position = int(unlike.argmax())
                raise DataError(
                    f"column {name!r}, row {indices[position]}: expected an image of length one along the same axes as "
                    f"the first ones, got (t, c, z, y, x) = {tuple(flat.shapes[position].tolist())}. "
                    'Choose cache="mapped" or "chunked", which read all images first.'
                )
            offsets, shapes = offsets_of(flat.shapes), np.delete(flat.shapes, leave_out, axis=1)
            for position, index in enumerate(indices):
                values = flat.values[offsets[position] : offsets[position + 1]]
                samples[index][name] = values.reshape(shapes[position]).copy()  # else it keeps the whole read alive
        return samples
