"""A store that keeps its rows compressed, and decodes the needed blocks for each batch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.stores.blocks import Block, column_of_blocks
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.data.stores.store import Store
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_NBYTES = 128 << 10  # decoded for one of its rows: small, but large enough to compress well
CODEC = "zstd"  # half the size of lz4 on 16-bit images; plain arrays are faster


@dataclass(frozen=True, slots=True, eq=False)
class CompressedBlock:
    """A compressed block of ``items``."""

    blob: pa.Buffer
    items: int
    dtype: np.dtype[Any]

    def values(self) -> np.ndarray:
        """The items, decoded each time."""
        import pyarrow as pa

        if not self.items:
            return np.empty(0, self.dtype)
        plain = pa.decompress(self.blob, decompressed_size=self.items * self.dtype.itemsize, codec=CODEC)
        return np.frombuffer(plain, self.dtype)


def compressed(source: Source, budget: int) -> Store:
    """All rows, compressed out of a stream. Raises DataError if they take more than ``budget`` bytes even so."""
    import pyarrow as pa

    blocks: dict[str, list[Block]] = defaultdict(list)
    shapes: dict[str, list[np.ndarray]] = defaultdict(list)
    held = 0
    for chunk in source.chunks(BLOCK_NBYTES):
        for name in source.names:
            flat = chunk.flat(name)
            blob = pa.compress(np.ascontiguousarray(flat.values), codec=CODEC)
            blocks[name].append(CompressedBlock(blob, len(flat.values), flat.values.dtype))
            shapes[name].append(flat.shapes)
            held += blob.size
        if held > budget:
            raise DataError(
                f"the compressed rows exceed the budget of {budget:,} bytes with {held:,} bytes. "
                'Give a larger memory_budget, or cache="mapped".'
            )
    first = source.first
    return Store(
        {
            name: column_of_blocks(blocks[name], shapes[name], first[name].values.dtype, first[name].droppable)
            for name in source.names
        }
    )
