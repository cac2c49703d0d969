"""Iterating as torch's DataLoader does: epochs, their restart, and what torch warns of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Self

import torch
from torch.utils.data import IterableDataset
from torch.utils.data._utils.pin_memory import pin_memory

from pytest_loaderperf.data.arrays.order import EpochSampler, generator_of, innermost
from pytest_loaderperf.data.arrays.randomness import seeded_indices
from pytest_loaderperf.data.stores.augment import is_augmented
from pytest_loaderperf.loader.engines import Engines
from pytest_loaderperf.loader.mover import Mover
from pytest_loaderperf.loader.processes import Processes
from pytest_loaderperf.loader.progress import Feed, Progress
from pytest_loaderperf.loader.restart import Restart, T_co
from pytest_loaderperf.loader.samples import StreamSamples
from pytest_loaderperf.loader.skip import Skipped, SkipPolicy, kept_full
from pytest_loaderperf.loader.states import settle


class Epochs(Restart[T_co]):
    """A DataLoader whose epochs come from an engine of ours; who derives from it makes that in ``_begin``."""

    on_error: str
    worker_kind: Any
    error_limit: float
    _engines: Engines
    _mover: Mover | None
    _policy: SkipPolicy
    _workers: int | None

    def _refresh(self) -> None:
        """Make the engine anew where something asks for another one."""
        raise NotImplementedError

    @property
    def _iterator(self) -> Any:
        """Torch's iterator whose workers persist: who ends a training shuts it down, and sets this to None."""
        engine = self.__dict__.get("_engine")
        return engine.loader._iterator if isinstance(engine, Processes) else None  # noqa: SLF001 torch's name

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        engine = self.__dict__.get("_engine")
        if iterator is None and isinstance(engine, Processes):
            engine.close()

    def __iter__(self) -> Any:  # an iterator; torch promises its own private class
        self._refresh()
        own = innermost(self._fed_by)
        if isinstance(own, EpochSampler) and (asked := own.asked()) is not None and self._resumed is None:
            self.set_epoch(asked)
        progress = self._resumed or Progress(self.epoch, lasting=self._lasting(self._progress))
        self._resumed = None
        self._progress = progress
        self._next_epoch = progress.epoch + 1
        if (generator := generator_of(self._fed_by)) is not None:
            progress.began.repeat(generator)
        if isinstance(own, EpochSampler):
            own.epoch = progress.epoch
        if progress.draws_seed:
            epoch = self._epoch(progress)
            progress.draws_seed = False
            return epoch
        if generator is None and not isinstance(self.dataset, IterableDataset):
            self._begin_feed(progress)
        stands = torch.get_rng_state()
        epoch = self._epoch(progress)
        if isinstance(self._engine, Processes):  # the base seed was drawn before the restart, or would not have been
            torch.set_rng_state(stands)
        if (progress.batches or progress.dealt) and not self._keeps_epoch:
            epoch = _Epoch(_Rest(epoch, self), self._engines.indices)
        return epoch

    def _epoch(self, progress: Progress) -> _Epoch:
        if self._mover is None:
            return _Epoch(self._batches(progress), self._engines.indices)
        made = replace(progress)  # what is made ahead of what is delivered
        batches = self._batches(made)
        progress.states = made.states
        return _Epoch(self._mover.delivered(batches, self._engine, progress, made), self._engines.indices)

    def _batches(self, progress: Progress) -> Any:
        engine: Any = self._engine
        make_feed: Any = partial(self._feed, progress)
        if self.seed is not None and self.worker_kind != "threads" and is_augmented(self.dataset):
            ranks = self.world_size or 1
            first = progress.dealt + ranks * progress.position(self.batch_size) + (self.rank or 0)
            seeds = self.seed, progress.epoch, first
            make_feed = partial(seeded_indices, make_feed, *seeds, step=ranks, single=self.batch_size is None)
        if isinstance(engine, Processes):
            told: Any = self._IterableDataset_len_called
            if told is not None:
                len(engine.loader)  # then it warns if more comes
            if self.on_error == "raise":
                return engine.epoch(make_feed, progress)
            return self._skipping(make_feed, progress)
        if (state := progress.states.get(0)) is not None and state.over:
            settle(self.dataset, state)
            progress.states = {}
        self._as_torch_begins(draws_seed=progress.draws_seed)
        batches = self._made_here(engine, make_feed, progress)
        if self.pin_memory and self._mover is None and torch.accelerator.is_available():
            return map(partial(pin_memory, device=torch.accelerator.current_accelerator()), batches)
        return batches

    def _made_here(self, engine: Any, make_feed: Callable[[], Feed], progress: Progress) -> Any:
        dataset: Any = self.dataset
        if isinstance(dataset, IterableDataset):
            size, after = self.batch_size or 1, progress.states.get(0)
            skip = progress.batches * size
            stream = StreamSamples(dataset, drop_last=self.drop_last, skip=skip, size=size, after=after)
            batches = engine.stream(stream, self.batch_size, progress)
            told: Any = self._IterableDataset_len_called  # what len(dataset) said when len(loader) asked for it
            return batches if told is None else self._warning_of_length(batches, progress, told)
        if self._leaves_out:
            return self._skipping(make_feed, progress)
        return engine.epoch(make_feed, progress)

    def _skipping(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        engine, sampler = self._engine, self.sampler
        if isinstance(engine, Processes):
            fetch, pairs = self._engines.fetch(0), engine.epoch(make_feed, replace(progress))
        else:
            fetch, pairs = engine, engine.pairs(make_feed)
        self._policy = SkipPolicy(self.error_limit, len(sampler) if isinstance(sampler, Sized) else 0)
        return kept_full(pairs, fetch, self._policy, self.batch_size, progress, drop_last=self.drop_last)

    def _as_torch_begins(self, *, draws_seed: bool) -> None:
        if self.timeout and self._workers == 0:
            raise AssertionError("_SingleProcessDataLoaderIter requires timeout == 0")  # torch's words
        if self.pin_memory and self.pin_memory_device:
            warnings.warn(
                "pin_memory_device is deprecated, the current accelerator will be used as the device,"
                f"ignore pin_memory_device='{self.pin_memory_device}'.",
                stacklevel=4,
            )
        if self.pin_memory and not torch.accelerator.is_available():
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, "
                "then device pinned memory won't be used.",
                stacklevel=4,
            )
        persisting = self._persists and self.num_workers and self.epoch > 1
        if self.seed is None and draws_seed and not persisting:  # workers' base seed: drawn also where there are none
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)

    def _warning_of_length(self, batches: Iterator[Any], progress: Progress, told: int) -> Iterator[Any]:
        for batch in batches:
            if progress.batches > told:
                warnings.warn(
                    f"Length of IterableDataset {self.dataset} was reported to be {told}"
                    f"(when accessing len(dataloader)), but {progress.batches} samples have been fetched. ",
                    stacklevel=2,
                )
            yield batch

    def _feed(self, progress: Progress) -> Feed:
        feed, progress.trail.feed = progress.trail.feed, None
        if feed is not None:
            return feed
        return Feed(self._fed_by, self.batch_size, progress, drop_last=self.drop_last and not self._leaves_out)

    @property
    def skipped(self) -> list[Skipped]:
        """The samples that the latest epoch left out."""
        return self._policy.skipped


class _Epoch(chain[Any]):
    """An iterator over ``batches``, as fast as they come, with the length that torch's iterators have."""

    _batches: Any
    _indices: Any

    def __new__(cls, batches: Iterator[Any], indices: Any) -> Self:
        epoch = super().__new__(cls, batches)
        epoch._batches, epoch._indices = batches, indices
        return epoch

    def __len__(self) -> int:
        return len(self._indices)

    def close(self) -> None:
        """Let go of what was made ahead."""
        if hasattr(self._batches, "close"):
            self._batches.close()


class _Rest:
    """``batches`` of an epoch that was restarted; where nothing of it is left, all of the next epoch of ``loader``."""

    def __init__(self, batches: Any, loader: Epochs[Any]) -> None:
        self._batches = batches
        self._loader: Epochs[Any] | None = loader  # until the first batch came

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        loader, self._loader = self._loader, None
        try:
            return next(self._batches)
        except StopIteration:
            if loader is None:
                raise
        self._batches = iter(loader)
        return next(self._batches)

    def close(self) -> None:
        """Let go of what was made ahead."""
        self._batches.close()
