"""What is inside a batch: its leaves, its arrays, its bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from pytest_loaderperf.data.arrays.structure import is_nest, labelled


def batch_leaves(batch: object, path: str = "batch") -> Iterator[tuple[str, object]]:
    """Every leaf of a nested batch, with the expression that reaches it."""
    if is_plain_list(batch) or not is_nest(batch):
        yield path, batch
        return
    for label, part in labelled(batch):
        yield from batch_leaves(part, path + label)


def is_plain_list(batch: object) -> bool:
    """A list of strings, numbers or other objects is one leaf, with one entry for each sample."""
    structured = (torch.Tensor, np.ndarray, Mapping, tuple, list)
    return isinstance(batch, list) and bool(batch) and not any(isinstance(item, structured) for item in batch)


def array_leaves(batch: object) -> list[torch.Tensor]:
    """The dense tensors and numeric arrays of a batch, as tensors."""
    found = []
    for _, leaf in batch_leaves(batch):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            found.append(torch.from_numpy(np.require(leaf, leaf.dtype.newbyteorder("="), ["C", "W"])))
        elif isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
            found.append(leaf.detach())
    return found


def batch_nbytes(batch: object) -> int:
    """Bytes of all arrays and tensors in the batch."""
    return sum(leaf.numel() * leaf.element_size() for leaf in array_leaves(batch))


def opaque_type(batch: object) -> str:
    """The type of a batch's content if it has no array, text or number, so that it may be lazy; else ""."""
    unknown = ""
    for _, leaf in batch_leaves(batch):
        items = leaf if isinstance(leaf, list) else [leaf]
        if any(isinstance(item, (torch.Tensor, np.ndarray, np.generic)) for item in items):
            return ""
        unknown = unknown or next((type(item).__name__ for item in items if not isinstance(item, _PLAIN)), "")
    return unknown


_PLAIN = (str, bytes, int, float, complex, type(None))
