"""The machine's copy limit: the bytes of a batch, copied sequentially into the same structure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.structure import array_leaves

SOURCE_NBYTES_MOST = 256 << 20  # larger than every cache, but small compared with a machine's memory
_BATCHES_MOST = 1 << 14  # each takes some hundred bytes of views
_UNKNOWN_EPOCH_NBYTES = 64 << 20


class Roofline:
    """For each batch, copies the bytes of every leaf from memory as large as an epoch into its reused buffer.

    It always yields the same tensors, in the order of the leaves. With one copying thread, no loader that yields new
    batches can be faster on this machine. Endless. Raises LoaderError if a batch contains no arrays.
    """

    num_workers = prefetch_depth = 0

    def __init__(self, batch: Any, epoch_batches: int | None) -> None:
        leaves = [leaf for leaf in array_leaves(batch) if leaf.numel()]
        if not leaves:
            raise LoaderError(
                f"no roofline for batches of type {type(batch).__name__}: they contain no arrays to copy. "
                "Compare with another loader instead."
            )
        nbytes = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
        wanted = nbytes * epoch_batches if epoch_batches else _UNKNOWN_EPOCH_NBYTES
        batches = max(2, min(min(wanted, SOURCE_NBYTES_MOST) // nbytes, _BATCHES_MOST))
        self._sources, self._buffers, tensors = [], [], []
        for leaf in leaves:
            size = leaf.numel() * leaf.element_size()
            raw = leaf.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            source = np.empty((batches, size), np.uint8)
            source[:] = raw
            buffer = np.empty(size, np.uint8)
            self._sources.append(source)
            self._buffers.append(buffer)
            tensors.append(torch.from_numpy(buffer).view(leaf.dtype).view(leaf.shape))
        self._batch = tuple(tensors)
        self._rows = [list(rows) for rows in zip(*self._sources, strict=True)]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        copy, buffers, batch = np.copyto, self._buffers, self._batch
        if len(buffers) == 1:
            (buffer,) = buffers
            while True:
                for rows in self._rows:
                    copy(buffer, rows[0])
                    yield batch
        while True:
            for rows in self._rows:
                for buffer, row in zip(buffers, rows, strict=False):
                    copy(buffer, row)
                yield batch
