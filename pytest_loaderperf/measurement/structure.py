"""What is inside a batch: its arrays, its bytes, and how many samples it holds. Never guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.errors import LoaderError

Count = Callable[[Any], int]
_Step = Callable[[Any], Any]


def leaves(batch: object, path: str = "batch") -> Iterator[tuple[str, object]]:
    """Every leaf of a nested batch, with the expression that reaches it."""
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif _is_plain_list(batch):
        yield path, batch
    elif isinstance(batch, (tuple, list)):
        for i, value in enumerate(batch):
            yield from leaves(value, f"{path}[{i}]")
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for field in dataclasses.fields(batch):
            yield from leaves(getattr(batch, field.name), f"{path}.{field.name}")
    else:
        yield path, batch


def _is_plain_list(batch: object) -> bool:
    """A list of strings, numbers or other objects is one leaf: one entry a sample."""
    structured = (torch.Tensor, np.ndarray, Mapping, tuple, list)
    return isinstance(batch, list) and bool(batch) and not any(isinstance(item, structured) for item in batch)


def array_leaves(batch: object) -> list[torch.Tensor]:
    """The dense tensors and numeric arrays of a batch, as tensors."""
    found = []
    for _, leaf in leaves(batch):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            found.append(torch.from_numpy(np.require(leaf, leaf.dtype.newbyteorder("="), ["C", "W"])))
        elif isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
            found.append(leaf.detach())
    return found


def batch_nbytes(batch: object) -> int:
    """Bytes of all arrays and tensors in the batch."""
    return sum(leaf.numel() * leaf.element_size() for leaf in array_leaves(batch))


def _length(leaf: object) -> int | None:
    shape = getattr(leaf, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    if isinstance(leaf, (str, bytes)) or not hasattr(leaf, "__len__"):
        return None
    return len(leaf)


def count_samples(batch: object) -> int:
    """Samples in the batch: the first dimension that all of its leaves share.

    Raises LoaderError where no leaf has a length, or where they differ.
    """
    lengths = {path: length for path, leaf in leaves(batch) if (length := _length(leaf)) is not None}
    if not lengths:
        raise LoaderError(
            f"cannot count the samples of a batch of type {type(batch).__name__}: nothing in it has a length. "
            "Expected tensors, arrays or lists; give count=, a function from a batch to its number of samples."
        )
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path}: {length}" for path, length in list(lengths.items())[:4])
        raise LoaderError(
            f"cannot count the samples of a batch: its parts differ in length ({shown}). "
            "Give count=, a function from a batch to its number of samples."
        )
    return next(iter(lengths.values()))


def counter(batch: object) -> Count:
    """A cheap function that counts the samples of batches with the structure of this one, after checking this one.

    It reads one leaf alone: a trial has no time to walk every batch. Raises LoaderError as ``count_samples`` does.
    """
    count_samples(batch)
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            if _has_length(value):
                return _at(key, counter(value))
    elif isinstance(batch, (tuple, list)) and not _is_plain_list(batch):
        for i, value in enumerate(batch):
            if _has_length(value):
                return _at(i, counter(value))
    elif isinstance(batch, torch.Tensor):
        return _rows  # a third of what len() takes
    elif isinstance(batch, np.ndarray):
        return len
    return count_samples


def _has_length(part: object) -> bool:
    return any(_length(leaf) is not None for _, leaf in leaves(part))


def _rows(tensor: torch.Tensor) -> int:
    return tensor.shape[0]


def _at(key: Any, inner: Count) -> Count:
    if inner is len:
        return lambda batch: len(batch[key])
    if inner is _rows:
        return lambda batch: batch[key].shape[0]
    return lambda batch: inner(batch[key])
