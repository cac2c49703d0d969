"""Columns in blocks of consecutive rows, each of which gives its values on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from pytest_loaderperf.data.arrays.columns import Gathered, Order
from pytest_loaderperf.data.arrays.ragged import dropped, joined_shapes, offsets_of, one_shape
from pytest_loaderperf.data.stores.store import Taken

NoteRead = Callable[[int, int], object]  # called with the bytes that were read, and from how many places


class Block(Protocol):
    """Consecutive rows of a column."""

    def values(self) -> np.ndarray:
        """Their items, flat and read-only."""
        ...


def _nobody(nbytes: int, places: int) -> None:
    pass


def column_of_blocks(
    blocks: Sequence[Block],
    shapes: Sequence[np.ndarray],
    dtype: np.dtype[Any],
    droppable: int,
    note_read: NoteRead = _nobody,
) -> Gathered | Taken:
    """The rows of ``blocks``, whose shapes are ``shapes``, as in `ragged.settled`."""
    starts = np.zeros(len(blocks) + 1, np.int64)
    np.cumsum([len(own) for own in shapes], out=starts[1:])
    whole = joined_shapes(shapes)
    leave_out = dropped(whole, droppable)
    shape = one_shape(whole)
    if shape is None and len(whole):
        kept = np.delete(whole, leave_out, axis=1)
        return RaggedBlocks(tuple(blocks), starts, note_read, offsets_of(kept), kept)
    lengths = [0] * whole.shape[1] if shape is None else shape
    kept_shape = tuple(length for axis, length in enumerate(lengths) if axis not in leave_out)
    return BlockColumn(tuple(blocks), starts, note_read, kept_shape, dtype)


def _by_block(starts: np.ndarray, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each block with some of ``indices``, and the positions of those."""
    if not len(indices):
        return
    which = np.searchsorted(starts, indices, "right") - 1
    order = np.argsort(which, kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        yield int(which[positions[0]]), positions


@dataclass(frozen=True, slots=True, eq=False)
class BlockColumn:
    """Rows of one shape. Block k has those from ``starts[k]`` to below ``starts[k + 1]``."""

    blocks: tuple[Block, ...]
    starts: np.ndarray
    note_read: NoteRead
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def torch_dtype(self) -> torch.dtype | None:
        return None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def gather(self, indices: Order, out: np.ndarray) -> None:
        """Copy the rows at ``indices`` into ``out``; each block is read at most once."""
        indices = np.asarray(indices)
        for block, positions in _by_block(self.starts, indices):
            start, stop = self.starts[block : block + 2].tolist()
            rows = self.blocks[block].values().reshape(stop - start, *self.shape)
            if len(positions) == len(indices):
                rows.take(indices - start, 0, out, "clip")
            else:
                out[positions] = rows[indices[positions] - start]
        self.note_read(out.nbytes, len(indices))


@dataclass(frozen=True, slots=True, eq=False)
class RaggedBlocks:
    """Samples of different shapes. ``offsets`` and ``shapes`` are those of `ragged.Ragged`, over all blocks."""

    blocks: tuple[Block, ...]
    starts: np.ndarray
    note_read: NoteRead
    offsets: np.ndarray
    shapes: np.ndarray

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, indices: np.ndarray) -> list[np.ndarray]:
        """Copies of the samples at ``indices``; each block is read at most once."""
        taken: dict[int, np.ndarray] = {}
        for block, positions in _by_block(self.starts, indices):
            values, base = self.blocks[block].values(), self.offsets[self.starts[block]]
            for position in positions.tolist():
                index = indices[position]
                start, stop = self.offsets[index : index + 2] - base
                taken[position] = values[start:stop].reshape(self.shapes[index]).copy()
        self.note_read(sum(sample.nbytes for sample in taken.values()), len(indices))
        return [taken[position] for position in range(len(indices))]
