"""Worker processes: torch's own DataLoader, with the settings that pay."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, get_worker_info

from pytest_loaderperf.loader.progress import Feed, Progress
from pytest_loaderperf.loader.samples import MapSamples


class Indices:
    """The index sampler of the wrapped loader: that of a prepared epoch once, else the caller's."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.make_feed: Callable[[], Feed] | None = None

    def __iter__(self) -> Iterator[Any]:
        # Taken by the first index: torch makes two iterators for the first epoch, and uses the second.
        make_feed, self.make_feed = self.make_feed, None
        indices = iter(self.sampler if make_feed is None else make_feed())
        del make_feed  # it holds the loader, which holds this
        yield from indices

    def __len__(self) -> int:
        return len(self.sampler)


class Noted:
    """A map-style dataset whose exceptions name the sample, before they leave a worker as text."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.samples = MapSamples(dataset)
        if hasattr(dataset, "__getitems__"):
            self.__getitems__ = self.samples.fetch

    def __getitem__(self, index: Any) -> Any:
        return self.samples.fetch_one(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.dataset,)


class Good(Noted):
    """A dataset whose samples come as (index, sample), with a Failure for each that raises."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        self.__getitems__ = self.samples.fetch_good

    def __getitem__(self, index: Any) -> Any:
        return self.samples.good_one(index)


class Packed:
    """Samples that leave a worker as one message, and arrive as they were: in shared memory each takes an open file."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def __reduce__(self) -> tuple[Any, ...]:
        file = BytesIO()
        _ByValue(file, pickle.HIGHEST_PROTOCOL).dump(self._samples)
        return pickle.loads, (file.getvalue(),)


class _ByValue(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        try:
            return (torch.from_numpy, (obj.numpy(),)) if type(obj) is torch.Tensor else NotImplemented
        except (TypeError, RuntimeError):  # NumPy has no such tensors
            return NotImplemented


class WorkerInit:
    """Shows a worker the caller's own dataset, then calls the caller's ``worker_init_fn``."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, Noted):
            object.__setattr__(info, "dataset", info.dataset.dataset)  # torch forbids setting it plainly
        if self._worker_init_fn is not None:
            self._worker_init_fn(worker_id)


def as_is(samples: Any) -> Any:
    """A collate function for what needs none."""
    return samples


class Processes:
    """Drives ``loader``, a DataLoader of torch, whose index sampler is ``indices`` unless its dataset is iterable.

    With a ``seed``, the seeds of the workers are a pure function of it and of the epoch that they start in.
    ``redraws``: each epoch draws a base seed, as where workers are new in each, so that orders stay those of torch.
    """

    def __init__(self, loader: DataLoader[Any], indices: Indices | None, *, seed: int | None, redraws: bool) -> None:
        self.loader, self._indices, self._seed, self._redraws = loader, indices, seed, redraws
        self._latest: Callable[[], _Delivery | None] = lambda: None

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch; the workers start now."""
        batches = self.begin(make_feed, progress.epoch)
        if self._indices is None:  # only the dataset knows what its workers would give: they give it again
            for _ in range(progress.batches):
                next(batches, None)
        batches.progress = progress
        return batches

    def begin(self, make_feed: Callable[[], Feed], epoch: int) -> _Delivery:
        """Torch's own iterator over one epoch, uncounted."""
        if self._indices is not None:
            self._indices.make_feed = make_feed
        if self._seed is not None:
            self.loader.generator.manual_seed(self._seed + epoch)
        elif self._redraws and self.loader._iterator is not None:  # noqa: SLF001 whether the workers are there already
            torch.empty((), dtype=torch.int64).random_(generator=self.loader.generator)
        latest = self._latest()
        busy = latest is not None and not latest.closed  # with workers that persist, which torch would take away
        batches = _Delivery(self.loader._get_iterator() if busy else iter(self.loader))  # noqa: SLF001 torch's iter()
        if not busy:
            self._latest = weakref.ref(batches)
        return batches

    def close(self) -> None:
        """End the workers that persist."""
        self.loader._iterator = None  # noqa: SLF001 torch offers no other way


class _Delivery:
    """Counts batches. After an exception the next one can be had, as from torch's own iterator."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches, self.progress = batches, Progress(0)
        self._failed = self.closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        self.progress.batches += self._failed
        self._failed = True
        try:
            batch = next(self._batches, self)
        except Exception as error:  # noqa: BLE001 re-raised
            # Torch's frames would hold its iterator in a cycle, whose collection waits 5 s for each worker.
            raise error.with_traceback(None)  # noqa: B904 it is the same one
        self._failed = False
        if batch is self:
            self.progress.done |= not self.closed
            self.close()
            raise StopIteration
        self.progress.batches += 1
        return batch

    def close(self) -> None:
        """Let go of torch's iterator, and so of workers that do not persist. May be called twice."""
        self._batches, self.closed = iter(()), True
