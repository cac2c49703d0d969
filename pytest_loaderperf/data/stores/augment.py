"""Stores whose samples or batches are transformed on each request, so that augmentation stays random."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, get_args

import numpy as np
from torch.utils.data import Dataset, Subset, default_collate

from pytest_loaderperf.data.arrays.columns import Columns, as_columns
from pytest_loaderperf.data.arrays.indices import checked_indices, places
from pytest_loaderperf.data.arrays.randomness import at, generators_kept, seed_generators
from pytest_loaderperf.errors import DataError

Transform = Callable[[Any], Any]
Per = Literal["sample", "batch"]


class Augmented(Dataset[Any]):
    """``store``, each sample of which goes through ``transform`` on request; the caller may change it.

    ``transform`` draws from the current state of the generators of torch, NumPy and ``random``: those of the process,
    or of a worker, which torch seeds. If the index has a ``seed``, only that determines the draws.

    Raises DataError if ``transform`` returns None, and what ``transform`` raises, with a note that names the sample.
    """

    def __init__(self, store: Any, transform: Transform) -> None:
        self.store, self.transform = store, transform

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: Any) -> Any:
        """The sample at ``index``, or the batch that torch collates from the samples at these `places`."""
        indices, single = places(len(self), index)
        if single:
            return self.__getitems__([index])[0]
        return default_collate(self.__getitems__(indices.tolist()))

    def __getitems__(self, indices: Any) -> list[Any]:
        found = checked_indices(len(self), indices).tolist()
        samples = self._kept(found)
        with _keeping(indices):
            return [
                self._transformed(sample, index, f"sample {place}")
                for sample, index, place in zip(samples, indices, found, strict=True)
            ]

    def _kept(self, found: list[int]) -> list[Any]:
        if (at_once := getattr(self.store, "__getitems__", None)) is not None:
            samples: list[Any] = at_once(found)
            return samples
        if (columns := as_columns(self.store)) is None:
            return [self.store[index] for index in found]
        rows = Columns(columns.columns, list).rows_at(np.array(found))
        return [columns.rebuild(sample) for sample in zip(*rows, strict=True)]  # a third of the time of one by one

    def _transformed(self, given: Any, index: Any, which: str) -> Any:
        """The result of ``transform`` for ``given``, with the seed of ``index`` if it has one."""
        if (seed := getattr(index, "seed", None)) is not None:
            seed_generators(seed)
        try:
            made = self.transform(given)
        except Exception as error:
            error.add_note(f"raised in stage transform, for {which}")
            raise
        if made is None:
            raise DataError(f"expected transform to return what it made of {which}, got None. Return it.")
        return made

    def wait(self) -> None:
        """Return when every sample is in the store. Raises the background's error."""
        self.store.wait()

    def close(self) -> None:
        """Close the store. May be called twice."""
        self.store.close()


class AugmentedBatches(Augmented):
    """``store``, each batch of which goes through ``transform``. Single samples raise DataError."""

    __getitems__ = None  # type: ignore[assignment]  # loaders would take what it gave for a list of samples

    def __getitem__(self, index: Any) -> Any:
        indices, single = places(len(self), index)
        if single:
            raise DataError(
                f'expected the indices of a batch, got {index!r}: with per="batch" there are no single samples. Load '
                "with ReferenceLoader, or with torch's DataLoader and sampler=BatchSampler(...), batch_size=None; or "
                'take per="sample".'
            )
        given = index if isinstance(index, list) else []
        with _keeping(given):
            return self._transformed(self.store[indices], next(iter(given), None), f"a batch of {len(indices)} samples")


def _keeping(indices: Any) -> Any:
    """Reset the shared generators afterwards if ``indices`` have seeds."""
    return generators_kept() if any(hasattr(index, "seed") for index in indices[:1]) else nullcontext()


def augmented(store: Any, transform: Transform | None, per: Per) -> Any:
    """``store`` with ``transform``, if there is one, applied per sample or per batch."""
    return store if transform is None else (AugmentedBatches if per == "batch" else Augmented)(store, transform)


def check_transform(transform: object, per: object) -> None:
    """Raise DataError for a transform that cannot be called, or a ``per`` that is not "sample" or "batch"."""
    if per not in get_args(Per):
        raise DataError(f'expected per="sample" or per="batch", got {per!r}. Say what transform is called with.')
    if transform is None and per != "sample":
        raise DataError(f"expected a transform that is called per {per}, got none. Give transform=, or leave per out.")
    if transform is not None and not callable(transform):
        raise DataError(
            f"expected transform to be a function of one {per}, got {transform!r}. Give one, or leave it out."
        )


class _Source:
    """What loaders read samples or batches from: also for torch's subsets, whose indices keep their seeds."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Any) -> Any:
        several = isinstance(index, list)
        whole, found = self._found(index if several else [index])
        return whole[found if several else found[0]]

    def __getitems__(self, indices: Any) -> Any:
        whole, found = self._found(indices)
        return whole[list(found)] if isinstance(whole, AugmentedBatches) else whole.__getitems__(found)

    def _found(self, indices: Any) -> Any:
        dataset = self._dataset
        while type(dataset) is Subset:
            indices, dataset = [at(dataset.indices, index) for index in indices], dataset.dataset
        return dataset, indices


def whole_of(dataset: Any) -> Any:
    """``dataset``, or the dataset of torch's subset."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return dataset


def source_of(dataset: Any) -> Any:
    """The source that a loader reads ``dataset`` from: itself, unless it is transformed."""
    return _Source(dataset) if is_augmented(dataset) else dataset


def is_augmented(dataset: Any) -> bool:
    """Whether ``dataset``, or the dataset of torch's subset, transforms its samples or batches."""
    return isinstance(whole_of(dataset), Augmented)


def gives_batches(dataset: Any) -> bool:
    """Whether ``dataset``, or the dataset of torch's subset, makes its batches itself, from a list of indices."""
    return isinstance(whole_of(dataset), AugmentedBatches)


def check_gives_samples(dataset: Any) -> None:
    """Raise DataError if ``dataset`` makes its batches itself, for a loader that skips samples."""
    if gives_batches(dataset):
        raise DataError(
            'expected a dataset of samples for on_error="skip", got one that transforms whole batches, of which no '
            'sample can be left out. Take per="sample", or catch the error inside transform.'
        )
