"""Ragged samples: of different shapes, one after the other in one flat array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """Samples as they are in memory: ``values`` (items,) in C order, and ``shapes`` (samples, axes) int64.

    Of the first ``droppable`` axes, those are left out in which every sample has length one.
    """

    values: np.ndarray
    shapes: np.ndarray
    droppable: int = 0


def alike(samples: int, shape: Sequence[int]) -> np.ndarray:
    """``Flat.shapes`` of samples of one ``shape``, which takes no memory."""
    return np.broadcast_to(np.array(shape, np.int64), (samples, len(shape)))


def joined(parts: Sequence[Flat]) -> Flat:
    """The samples of all ``parts``, in that order; the values of several are copied once."""
    parts = [part for part in parts if len(part.shapes)] or list(parts[:1])
    first = parts[0]
    if len(parts) == 1:
        return first
    values = np.concatenate([part.values for part in parts])
    return Flat(values, joined_shapes([part.shapes for part in parts]), first.droppable)


def joined_shapes(parts: Sequence[np.ndarray]) -> np.ndarray:
    """All rows of ``parts``, without memory if all are the same."""
    parts = [part for part in parts if len(part)] or list(parts[:1])
    first = parts[0]
    if len(parts) > 1 and all(part.strides[0] == 0 and (part[:1] == first[:1]).all() for part in parts):
        return np.broadcast_to(first[0], (sum(map(len, parts)), first.shape[1]))
    return first if len(parts) == 1 else np.concatenate(parts)


def one_shape(shapes: np.ndarray) -> tuple[int, ...] | None:
    """The shape of all samples; None if they differ or there are no samples."""
    if not len(shapes) or not (shapes.strides[0] == 0 or (shapes == shapes[0]).all()):
        return None
    return tuple(shapes[0].tolist())


def dropped(shapes: np.ndarray, droppable: int) -> list[int]:
    """Which axes `settled` leaves out."""
    one = one_shape(shapes)
    if one is not None:
        return [axis for axis in range(droppable) if one[axis] == 1]
    return [axis for axis in range(droppable) if (shapes[:, axis] == 1).all()]


def settled(flat: Flat) -> np.ndarray | Ragged:
    """Rows (samples, ...) that share the memory of ``flat`` if all samples have one shape, else ragged ones."""
    leave_out = dropped(flat.shapes, flat.droppable)
    shape = one_shape(flat.shapes)
    if shape is not None:
        return flat.values.reshape(len(flat.shapes), *(n for axis, n in enumerate(shape) if axis not in leave_out))
    shapes = np.delete(flat.shapes, leave_out, axis=1)
    if not len(shapes):
        return flat.values.reshape(0, *(0 for _ in range(shapes.shape[1])))
    return Ragged(flat.values, offsets_of(shapes), shapes)


def offsets_of(shapes: np.ndarray) -> np.ndarray:
    """The start of each sample in one flat array, and the end of the last one: int64 (samples + 1,)."""
    offsets = np.zeros(len(shapes) + 1, np.int64)
    np.cumsum(shapes.prod(axis=1), out=offsets[1:])
    return offsets


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Samples of different shapes: sample i is ``values[offsets[i]:offsets[i + 1]]`` in the shape ``shapes[i]``.

    ``values`` (items,) may be read-only; ``offsets`` (samples + 1,) and ``shapes`` (samples, axes) are int64.
    """

    values: np.ndarray
    offsets: np.ndarray
    shapes: np.ndarray

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.values.nbytes

    def __getitem__(self, index: int) -> np.ndarray:
        """A view of one sample. Raises IndexError if there is none."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} rows.")
        index %= len(self)
        start, stop = self.offsets[index : index + 2]
        return self.values[start:stop].reshape(self.shapes[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def take(self, indices: np.ndarray) -> list[np.ndarray]:
        """Copies of the samples at ``indices``, which count from 0, one after the other in one new buffer."""
        if not len(indices):
            return []
        starts, stops = self.offsets[indices].tolist(), self.offsets[indices + 1].tolist()
        parts = [self.values[start:stop] for start, stop in zip(starts, stops, strict=True)]
        flat = np.concatenate(parts)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        rows = zip([0, *ends], ends, self.shapes[indices].tolist(), strict=False)
        return [flat[start:end].reshape(shape) for start, end, shape in rows]
