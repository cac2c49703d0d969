"""A dataset inside others that is asked for whole batches, as if those passed its ``__getitems__`` on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from pytest_loaderperf.diagnosis.passes.fixes import copied
from pytest_loaderperf.errors import LoaderError

_MOST_DEPTH, _MOST_INNER = 4, 4  # of datasets in datasets
_LISTED = (list, tuple)


def chain(dataset: Any) -> list[Any]:
    """The dataset and those that it wraps, outermost first."""
    found: list[Any] = []
    todo = [(dataset, 0)]
    while todo:
        one, depth = todo.pop(0)
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        if depth < _MOST_DEPTH:
            todo += [(inner, depth + 1) for inner in _wrapped(one)]
    return found


def _wrapped(dataset: Any) -> list[Any]:
    if isinstance(dataset, ConcatDataset):
        return list(dataset.datasets)[:_MOST_INNER]
    if isinstance(dataset, Subset):
        return [dataset.dataset]
    held = list(vars(dataset).values()) if hasattr(dataset, "__dict__") else []
    held += [part for value in held if isinstance(value, _LISTED) for part in value[:_MOST_INNER]]
    plain = (str, bytes, torch.Tensor, np.ndarray, *_LISTED, dict, type(None), int, float, Path)
    return [value for value in held if not isinstance(value, (*plain, type)) and hasattr(type(value), "__getitem__")]


def hidden_getitems(dataset: Any) -> Any:
    """An inner dataset that gives whole batches, which the outer one does not ask it for, or None."""
    datasets = chain(dataset)
    if not datasets or gives_batches(datasets[0]):
        return None
    return next((found for found in datasets[1:] if gives_batches(found)), None)


def hiding(dataset: Any, hidden: Any) -> Any:
    """Of the dataset and those inside it, the one that asks ``hidden`` for single samples."""
    around = (one for one in chain(dataset) if any(inner is hidden for inner in _wrapped(one)))
    return next((one for one in around if not gives_batches(one)), dataset)


def takes_indices(dataset: Any) -> bool:
    """Whether torch asks a dataset for whole batches, and not a Subset that then asks for each sample."""
    return gives_batches(dataset) if isinstance(dataset, Subset) else callable(getattr(dataset, "__getitems__", None))


def gives_batches(dataset: Any) -> bool:
    """Whether a dataset can be asked for a list of indices; a Subset, whether it has one to pass them to."""
    if isinstance(dataset, Subset):  # it passes the indices on, to a dataset that takes them
        return gives_batches(dataset.dataset)
    return callable(getattr(dataset, "__getitems__", None))  # also by a __getattr__ that asks another dataset


class PassedOn(Dataset[Any]):
    """``outer``, which asks ``inner`` for single samples: it is given earlier ones, and ``inner`` one batch of them.

    So the outer dataset does all that it does with a sample, but finding it. Where that is a wrapper of torch's, which
    does nothing, and ``inner`` gives a batch that is not a list of samples, it is passed on as it is.
    """

    def __init__(self, outer: Any, inner: Any) -> None:
        self._outer, self._kind = outer, type(inner)
        self._item: Callable[[Any, Any], Any] = self._kind.__getitem__
        self._asked: list[tuple[Any, Any]] | None = None  # in the batch that is made
        self._samples: dict[int, Any] = {}  # the first of each inner dataset
        self._whole: tuple[Any, list[Any]] | None = None  # an inner dataset that gives such batches, and what to ask

        def item(inner: Any, index: Any) -> Any:
            return self._given(inner, index)

        try:
            self._kind.__getitem__ = item
        except TypeError as error:  # a class of C
            raise LoaderError(f"expected a class in Python to change, got {self._kind.__name__}.") from error

    def __len__(self) -> int:
        return len(self._outer)

    def _given(self, inner: Any, index: Any) -> Any:
        if self._asked is None:
            return self._item(inner, index)
        self._asked.append((inner, index))
        if id(inner) not in self._samples:
            asked, self._asked = self._asked, None  # what it asks itself is its own
            try:
                self._samples[id(inner)] = self._item(inner, index)
            finally:
                self._asked = asked
        return copied(self._samples[id(inner)])

    def __getitems__(self, indices: list[Any]) -> Any:
        if self._whole is not None:
            inner, its = self._whole
            return inner.__getitems__(its)
        asked: list[tuple[Any, Any]] = []
        self._asked = asked
        try:
            samples = [self._outer[index] for index in indices]
        finally:
            self._asked = None
        by_inner: dict[int, tuple[Any, list[Any]]] = {}
        for inner, index in asked:
            by_inner.setdefault(id(inner), (inner, []))[1].append(index)
        for inner, its in by_inner.values():
            batch = inner.__getitems__(its)
            if isinstance(self._outer, (ConcatDataset, Subset)) and not _are_samples(batch, len(its)):
                self._whole = inner, [its[n % len(its)] for n in range(len(indices))]
        return samples


def _are_samples(batch: Any, count: int) -> bool:
    return isinstance(batch, (list, tuple)) and len(batch) == count
