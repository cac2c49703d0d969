"""Worker processes: torch's own DataLoader, with the settings that pay."""

from __future__ import annotations

import math
import pickle
import weakref
from collections.abc import Callable, Iterator
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_storage, reduce_tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data.dataloader import _BaseDataLoaderIter

from pytest_loaderperf.data.arrays.columns import RowDataset, is_named
from pytest_loaderperf.data.arrays.indices import positions_of
from pytest_loaderperf.data.arrays.place import pass_over
from pytest_loaderperf.loader.collate import SHARED_NBYTES, vectorized_collate
from pytest_loaderperf.loader.progress import Counted, Feed, Progress
from pytest_loaderperf.loader.samples import MapSamples
from pytest_loaderperf.loader.states import Copies, Passed, Stated, passed


class Indices:
    """The index sampler of the wrapped loader: that of a prepared epoch once, else the caller's."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.make_feed: Callable[[], Feed] | None = None
        self.passed: list[Any] = []  # comes before those of the prepared epoch

    def __iter__(self) -> Iterator[Any]:
        # Taken by the first index: torch makes two iterators for the first epoch, and uses the second. No variable of
        # this frame may hold make_feed, for that holds the loader, which holds this.
        indices = self.sampler if self.make_feed is None else self.make_feed()
        passed, self.make_feed, self.passed = self.passed, None, []
        yield from passed
        yield from indices

    def __len__(self) -> int:
        return len(self.sampler)


class Noted(MapSamples):
    """A map-style dataset whose exceptions name the sample, before they leave a worker as text."""

    __getitem__, __getitems__ = MapSamples.fetch_one, MapSamples.fetch


class Continued(Noted):
    """A dataset whose copies go on from states: each worker is handed what it is, first of all, to pass over."""

    def __getitem__(self, index: Any) -> Any:
        return index if passed(index) else self.fetch_one(index)

    def __getitems__(self, indices: Any) -> Any:
        return indices if passed(indices) else self.fetch(indices)


class Good(Noted):
    """A dataset whose samples come as lists of (index, sample), with a Failure for each that raises."""

    __getitems__ = MapSamples.fetch_good

    def __getitem__(self, index: Any) -> Any:
        return self.fetch_good([index])


class Gathered(Noted):
    """Columns that give whole batches, which are not collated any more."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        self._rows = RowDataset(dataset)

    def __getitems__(self, indices: Any) -> Any:
        columns = self._rows.current()
        positions = None if columns is None else positions_of(len(columns), indices)
        if columns is None or positions is None:
            return vectorized_collate(self.fetch(indices))
        return columns.rows_at(positions)


class Packed:
    """Samples or a batch that leave a worker as one message, with the storage of a tensor below ``least_shared`` bytes.

    Others lie in shared memory, as torch sends them, where each takes an open file.
    """

    def __init__(self, samples: Any, least_shared: float = math.inf) -> None:
        self._samples, self._least_shared = samples, least_shared

    def __reduce__(self) -> tuple[Any, ...]:
        file = BytesIO()
        pickler = ForkingPickler(file, pickle.HIGHEST_PROTOCOL)
        own: Any = {torch.Tensor: _resolved, torch.UntypedStorage: self._reduced}
        pickler.dispatch_table = pickler.dispatch_table | own
        pickler.dump(self._samples)
        return pickle.loads, (file.getvalue(),)

    def _reduced(self, storage: torch.UntypedStorage) -> Any:
        if storage.nbytes() >= self._least_shared or storage.is_shared() or storage.device.type != "cpu":
            return reduce_storage(storage)  # type: ignore[no-untyped-call]  # torch's
        return _storage_over, (torch.empty(0, dtype=torch.uint8).set_(storage).numpy(),)


def _resolved(tensor: torch.Tensor) -> Any:
    return reduce_tensor(tensor.resolve_conj().resolve_neg())  # type: ignore[no-untyped-call]  # it sends neither bit


def _storage_over(items: np.ndarray) -> torch.UntypedStorage:
    return torch.from_numpy(items).untyped_storage()


def sent(collate: Callable[[Any], Any], samples: Any) -> Packed:
    """``collate(samples)``, which leaves a worker in the cheaper way."""
    return Packed(collate(samples), SHARED_NBYTES)


def sent_with_state(copies: Copies, collate: Callable[[Any], Any], samples: Any) -> Any:
    """As `sent`, with the state of the worker's dataset; Passed for samples that were delivered before."""
    return Passed if passed(samples) else Packed(copies.with_state(collate(samples), samples), SHARED_NBYTES)


def init_worker(worker_init_fn: Callable[[int], None] | None, copies: Copies | None, worker_id: int) -> None:
    """Show a worker the caller's own dataset, call the caller's ``worker_init_fn``, then let the dataset go on."""
    info: Any = get_worker_info()
    dataset = info.dataset.dataset
    if type(dataset) is RowDataset and is_named(dataset.source):  # in which a loader wraps dicts and tuples
        dataset = dataset.source
    object.__setattr__(info, "dataset", dataset)  # torch forbids setting it plainly
    if worker_init_fn is not None:
        worker_init_fn(worker_id)
    if copies is not None:
        copies.resume()


class Processes:
    """Drives ``loader``, a DataLoader of torch, whose index sampler is ``indices`` unless its dataset is iterable.

    With a ``seed``, the seeds of the workers are a pure function of it and of the epoch that they start in.
    ``copies``: of the dataset in the workers, None where it has no state.
    """

    def __init__(
        self, loader: DataLoader[Any], indices: Indices | None, *, seed: int | None, copies: Copies | None = None
    ) -> None:
        self.loader, self._indices, self._seed, self._copies = loader, indices, seed, copies
        self._latest: Callable[[], _Delivery | None] = lambda: None

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch; the workers start now."""
        workers = getattr(self.loader._iterator, "_workers", ())  # noqa: SLF001 torch offers no other way
        if progress.states or not all(worker.is_alive() for worker in workers):
            self.close()  # new ones, where torch would keep a dead worker of those that persist for ever
        if self._indices is not None:
            self._indices.make_feed = make_feed
        if self._seed is not None:
            self.loader.generator.manual_seed(self._seed + progress.epoch)
        self._take_over()
        made = self._started(progress)
        if self._indices is None and not progress.states:  # only a dataset knows what it would give: it does so again
            pass_over(made, progress.batches, "batches")
        batches = _Delivery(made, progress, None if self._indices is not None else _length(self.loader))
        self._latest = weakref.ref(batches)
        return batches

    def _started(self, progress: Progress) -> Any:
        """Torch's iterator, whose workers go on from the states of ``progress``."""
        if self._copies is None:
            return iter(self.loader)
        if self._indices is not None:  # so that each of the rest comes to the worker that it would have come to
            over = progress.batches % self.loader.num_workers if progress.states else 0
            self._indices.passed = [Passed if self.loader.batch_sampler is None else [Passed]] * over
        self._copies.resumed = dict(progress.states)
        try:
            return iter(self.loader)
        finally:
            self._copies.resumed = {}

    @property
    def persisting(self) -> bool:
        """Whether workers are there already, which the next epoch uses again."""
        return self.loader._iterator is not None  # noqa: SLF001 torch offers no other way

    def _take_over(self) -> None:
        """Let the next epoch use the workers that persist, of which one iterator at a time has the use, as in torch."""
        latest = self._latest()
        if self.persisting and latest is not None and not latest.is_over():
            latest.end(
                "expected one iterator at a time, for persistent_workers=True was given, got a second one: "
                "leave persistent_workers out to have several."
            )

    def close(self) -> None:
        """End the workers that persist."""
        self.loader._iterator = None  # noqa: SLF001 torch offers no other way


class _Delivery(Counted):
    """The batches of torch's iterator, which lets go of it, and so of workers that do not persist, at the last of them.

    ``length``: of the epoch, None where the iterator itself tells its end, as that of a map-style dataset does.
    """

    def __init__(self, made: Any, progress: Progress, length: float | None) -> None:
        super().__init__(made, progress)
        self._length = length
        self._beyond: list[Any] = []  # a batch, or the error instead of it, that came beyond the length
        self._error: Exception | None = None

    def _next(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        batch = self._beyond.pop() if self._beyond else self._received()
        if type(batch) is Stated:
            self.progress.states = {**self.progress.states, batch.worker: batch.state}
            batch = batch.batch
        return batch

    def _received(self) -> Any:
        try:
            while (batch := super()._next()) is Passed:
                pass
        except Exception as raised:  # noqa: BLE001 re-raised
            # Torch's frames would hold its iterator in a cycle, whose collection waits 5 s for each worker.
            raise raised.with_traceback(None)  # noqa: B904 it is the same one
        self._let_go()
        return batch

    def _let_go(self) -> None:
        if self._length is None and getattr(self._made, "_task_info", None) == {}:  # no batch is under way
            self._made = iter(())

    def is_over(self) -> bool:
        """Whether nothing is left. Of a stream at its length that is found out by asking for another batch."""
        self._let_go()
        if self._length is not None and self.progress.batches >= self._length and not self._beyond:
            try:
                self._beyond = [self._received()]
            except StopIteration:
                self._made = iter(())
            except Exception as error:  # noqa: BLE001 raised where the batch is asked for
                self._error = error
        return not isinstance(self._made, _BaseDataLoaderIter) and not self._beyond and self._error is None

    def end(self, reason: str) -> None:
        """Give no batch any more, but raise RuntimeError with ``reason`` once."""
        self.close()
        self._error = RuntimeError(reason)


def _length(loader: DataLoader[Any]) -> float:
    """Batches of an iterable dataset, infinity where it has no length."""
    try:
        samples = len(loader.dataset)  # type: ignore[arg-type]  # where it has one
    except (TypeError, NotImplementedError):
        return math.inf
    size = loader.batch_size or 1
    return samples // size if loader.drop_last else math.ceil(samples / size)
