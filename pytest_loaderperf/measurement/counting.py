"""How many samples a batch has: from its structure and its loader's attributes. Never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, default_collate

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.structure import batch_leaves, is_plain_list

Count = Callable[[Any], int]
_PAIR = 2  # input and target
_Readings = dict[int, Count]  # samples of this batch -> how to count those of similar ones


@dataclass(frozen=True, slots=True)
class Declared:
    """What a loader declares about its batches: their ``batch_size``, if it has one.

    ``stacked``: its collate function never makes lists of samples. ``listed``: it always does. ``single``: it makes no
    batches, but passes on what the dataset gives, ``streamed`` or by index.
    """

    batch_size: int | None = None
    stacked: bool = False
    listed: bool = False
    single: bool = False
    streamed: bool = False

    @classmethod
    def by(cls, loader: Any) -> Declared:
        """What ``loader`` says."""
        size, collate = getattr(loader, "batch_size", None), getattr(loader, "collate_fn", None)
        dataset, sampler = getattr(loader, "dataset", None), getattr(loader, "sampler", None)
        batches = getattr(loader, "batch_sampler", None)
        if batches is None and isinstance(sampler, BatchSampler):
            batches = sampler  # each of its indices is a list of them, which the dataset makes a batch of
        single = isinstance(loader, DataLoader) and size is None and batches is None
        if size is None:
            size = getattr(dataset if single else batches, "batch_size", None)
        return cls(
            size if isinstance(size, int) and not isinstance(size, bool) else None,
            stacked=collate is default_collate,
            listed=collate is list or collate is tuple,
            single=single,
            streamed=isinstance(dataset, IterableDataset),
        )


def count_samples(batch: object, declared: Declared | None = None) -> int:
    """Samples in the batch. Raises LoaderError if they cannot be counted; see ``counter``."""
    return counter(batch, declared)(batch)


def counter(batch: object, declared: Declared | None = None) -> Count:
    """A cheap function that counts the samples of batches with the structure of this one.

    This is the first dimension that its leaves share, or the length of a list of similar samples, as ``declared``
    allows. The function reads only one leaf: a trial has no time to walk through every batch.

    Raises LoaderError if nothing has a length, if lengths differ, or if both meanings remain possible.
    """
    declared = declared or Declared()
    if declared.listed and isinstance(batch, (list, tuple)):
        return len
    found = _readings(batch, declared)
    if declared.single:
        return _single(batch, found, declared)
    if found is None:
        raise LoaderError(
            f"cannot count the samples of a batch of type {type(batch).__name__}: nothing in it has a length. "
            "Expected tensors, arrays or lists; give count=, a function from a batch to its number of samples."
        )
    if not found:
        lengths = {path: n for path, leaf in batch_leaves(batch) if (n := _length(leaf)) is not None}
        shown = ", ".join(f"{path}: {length}" for path, length in list(lengths.items())[:4])
        raise LoaderError(
            f"cannot count the samples of a batch: its parts differ in length ({shown}). "
            "Give count=, a function from a batch to its number of samples."
        )
    if len(found) > 1 and declared.batch_size not in found:
        raise LoaderError(_ambiguous(batch, sorted(found), declared.batch_size))
    return found.get(declared.batch_size or 0) or next(iter(found.values()))


def checked_samples(called: str, samples: object) -> int:
    """``samples`` of the first batch of the loader ``called`` so. Raises LoaderError if that is not a valid number."""
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise LoaderError(
            f"{called}: expected an integer of at least 1 as the number of samples of a batch, got {samples!r}. "
            "Fix count=, or keep empty batches out of the loader."
        )
    return samples


def uncounted(called: str, batch: object, error: Exception, *, own: bool) -> LoaderError:
    """The error for a batch inside an epoch that could not be counted, by the user's ``own`` count or by ours."""
    what = "count= takes" if own else "the first batch's structure has"
    said = f"{type(error).__name__}: {error}".rstrip(": .")
    return LoaderError(
        f"{called}: cannot count the samples of a {type(batch).__name__} inside an epoch: {said}. "
        f"Expected what {what}: keep empty batches out of the loader, or give a count= that takes them."
    )


def _ambiguous(batch: object, counts: Sequence[int], batch_size: int | None) -> str:
    held = f" of {len(batch)} {type(batch[0]).__name__}s" if isinstance(batch, (list, tuple)) else ""
    shape = getattr(batch[0], "shape", None) if isinstance(batch, (list, tuple)) else None
    alike = f" of shape {tuple(shape)}" if shape is not None else ""
    said = "a batch_size that says which" if batch_size is None else f"one of them to be the batch_size, {batch_size}"
    return (
        f"cannot count the samples of a batch: a {type(batch).__name__}{held}{alike} may be "
        f"{' or '.join(map(str, counts))} samples: are its lists of samples, or of fields? Expected {said}. "
        "Give count=, such as count=len for a list of samples, or count=lambda batch: len(batch[0]) for fields."
    )


def _single(batch: object, found: _Readings | None, declared: Declared) -> Count:
    """How to count what a dataset gives: one sample, or a batch that it made itself. Raises LoaderError if unknown."""
    if found is None:
        return _one
    if declared.batch_size in found:
        return found[declared.batch_size]
    lengths = [(leaf, n) for _, leaf in batch_leaves(batch) if (n := _length(leaf)) is not None]
    labelled = any(
        len(getattr(leaf, "shape", "?")) == 1 for leaf, _ in lengths
    )  # a label for each sample, one dimension
    if declared.streamed and len(found) == 1 and len(lengths) > 1 and labelled:
        return next(iter(found.values()))
    counts = " or ".join(map(str, sorted(found))) or "differing numbers of"
    raise LoaderError(
        f"cannot count the samples: the loader has batch_size=None, and what its dataset gives, of type "
        f"{type(batch).__name__}, may be one sample, or a batch of {counts} samples. Expected a batch_size. "
        "Give count=, such as count=lambda sample: 1, or count=len where the dataset makes the batches."
    )


def _one(_sample: object) -> int:
    return 1


def _readings(part: Any, declared: Declared) -> _Readings | None:
    """Each number of samples that ``part`` of a batch may have; None if it says nothing about it."""
    inner = partial(_readings, declared=declared)
    if isinstance(part, Mapping):
        return _shared([(itemgetter(key), inner(value)) for key, value in part.items()])
    if isinstance(part, (tuple, list)) and not is_plain_list(part):
        shared = _shared([(itemgetter(i), inner(value)) for i, value in enumerate(part)])
        if shared is None or not _may_be_samples(part, declared):
            return shared
        n = len(part)
        # Both give the same number here, not in a shorter batch: a list of samples is shorter, fields have fewer rows.
        return shared | {n: partial(_fewer, shared[n]) if n in shared else len}
    if is_dataclass(part) and not isinstance(part, type):
        return _shared([(attrgetter(field.name), inner(getattr(part, field.name))) for field in fields(part)])
    if isinstance(part, torch.Tensor):
        return {part.shape[0]: _rows} if part.dim() else None  # a third of the time of len()
    length = _length(part)
    return None if length is None else {length: len if isinstance(part, (np.ndarray, list)) else _needed_length}


def _shared(parts: Sequence[tuple[Callable[[Any], Any], _Readings | None]]) -> _Readings | None:
    """The numbers that all parts with numbers have in common, each counted in the first of them."""
    known = [(get, found) for get, found in parts if found is not None]
    if not known:
        return None
    get, first = known[0]
    return {n: _at(get, count) for n, count in first.items() if all(n in found for _, found in known)}


def _may_be_samples(items: tuple[Any, ...] | list[Any], declared: Declared) -> bool:
    """Whether a list or tuple may contain samples, not only fields."""
    if declared.stacked or hasattr(items, "_fields") or not _alike(items):
        return False
    return declared.batch_size is not None or not _is_input_and_target(items)


def _is_input_and_target(items: tuple[Any, ...] | list[Any]) -> bool:
    """Whether it is torch's (x, y): a tuple of two tensors or arrays with the same number of rows."""
    arrays = (torch.Tensor, np.ndarray)
    if not isinstance(items, tuple) or len(items) != _PAIR or not all(isinstance(item, arrays) for item in items):
        return False
    rows, others = map(_length, items)
    return rows is not None and rows == others


def _alike(items: Sequence[Any]) -> bool:
    """Whether a list may contain samples: several, of one kind."""
    first = items[0]
    if len(items) == 1 or any(type(item) is not type(first) for item in items):
        return False
    if isinstance(first, (torch.Tensor, np.ndarray)):
        return all(item.dtype == first.dtype and item.ndim == first.ndim for item in items)
    return True


def _length(leaf: object) -> int | None:
    shape = getattr(leaf, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    if isinstance(leaf, (str, bytes)) or not hasattr(leaf, "__len__"):
        return None
    return len(leaf)


def _needed_length(leaf: object) -> int:
    return _length(leaf) or 0


def _rows(tensor: torch.Tensor) -> int:
    return tensor.shape[0]


def _fewer(count: Count, batch: Any) -> int:
    return min(len(batch), count(batch))


def _at(get: Any, inner: Count) -> Count:
    if inner is len:
        return lambda batch: len(get(batch))
    if inner is _rows:
        return lambda batch: get(batch).shape[0]
    return lambda batch: inner(get(batch))
