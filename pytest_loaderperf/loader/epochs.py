"""Iterating as torch's DataLoader does: epochs, their restart, and what torch warns of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Self, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data._utils.pin_memory import pin_memory

from pytest_loaderperf.data.order import Draw, EpochSampler, generator_of
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.arguments import check_whole
from pytest_loaderperf.loader.engines import Engines
from pytest_loaderperf.loader.gather import Gather
from pytest_loaderperf.loader.mover import Mover
from pytest_loaderperf.loader.processes import Processes
from pytest_loaderperf.loader.progress import Feed, Progress
from pytest_loaderperf.loader.samples import StreamSamples
from pytest_loaderperf.loader.skip import Skipped, SkipPolicy, kept_full

T_co = TypeVar("T_co", covariant=True)
_SAME = ("batch_size", "world_size", "shuffle", "seed")
_STATE = ("epoch", "batches", "skipped", "order_seed", "generator_state", *_SAME)


class Epochs(DataLoader[T_co]):
    """A DataLoader whose epochs come from an engine of ours; who derives from it makes that in ``_begin``."""

    epoch: int
    seed: int | None
    on_error: str
    error_limit: float
    world_size: int | None
    _engine: Any
    _engines: Engines
    _mover: Mover | None
    _policy: SkipPolicy
    _progress: Progress | None
    _resumed: Progress | None
    _workers: int | None
    _persists: bool | None

    def _refresh(self) -> None:
        """Make the engine anew where something asks for another one."""
        raise NotImplementedError

    def __iter__(self) -> Any:  # an iterator; torch promises its own private class
        self._refresh()
        progress, self._resumed = self._resumed or Progress(self.epoch), None
        self._progress = progress
        self.epoch = progress.epoch + 1
        if (generator := generator_of(self._fed_by)) is not None:
            progress.began.repeat(generator)
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(progress.epoch)
        if self._mover is None:
            return _Epoch(self._batches(progress), self._engines.indices)
        made = replace(progress)  # what is made ahead of what is delivered
        batches = self._mover.delivered(self._batches(made), self._engine, progress, made)
        return _Epoch(batches, self._engines.indices)

    def _batches(self, progress: Progress) -> Any:
        engine: Any = self._engine
        make_feed = partial(self._feed, progress)
        if isinstance(engine, Processes):
            told: Any = self._IterableDataset_len_called
            if told is not None:
                len(engine.loader)  # then it warns if more comes
            if self.on_error == "raise":
                return engine.epoch(make_feed, progress)
            return self._skipping(make_feed, progress)
        self._as_torch_begins()
        batches = self._made_here(engine, make_feed, progress)
        if self.pin_memory and self._mover is None and torch.accelerator.is_available():
            return map(partial(pin_memory, device=torch.accelerator.current_accelerator()), batches)
        return batches

    def _made_here(self, engine: Any, make_feed: Callable[[], Feed], progress: Progress) -> Any:
        dataset: Any = self.dataset
        if isinstance(dataset, IterableDataset):
            taken = progress.batches * (self.batch_size or 1)
            stream = StreamSamples(dataset, drop_last=self.drop_last, skip=taken)
            batches = engine.stream(stream, self.batch_size, progress)
            told: Any = self._IterableDataset_len_called  # what len(dataset) said when len(loader) asked for it
            return batches if told is None else self._warning_of_length(batches, progress, told)
        if self.on_error == "skip" and not isinstance(engine, Gather):
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

    def _as_torch_begins(self) -> None:
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
        if self.seed is None and not persisting:  # torch draws the workers' base seed, also where there are none
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
        drops = self.drop_last and (self.on_error == "raise" or isinstance(self._engine, Gather))
        return Feed(self._fed_by, self.batch_size, progress, drop_last=drops)

    @property
    def _fed_by(self) -> Any:
        """What gives the indices that a Feed takes."""
        return self.batch_sampler if self.batch_size is None and self.batch_sampler is not None else self.sampler

    def state_dict(self) -> dict[str, Any]:
        """Where the latest epoch stands: the batches delivered so far, not those prefetched. Plain values and tensors.

        A custom sampler must give the same indices again, so seed it; an iterable dataset the same samples.
        """
        progress = self._resumed or self._progress
        if progress is None or progress.done:
            progress = Progress(self.epoch)
            if (generator := generator_of(self._fed_by)) is not None:
                progress.began.repeat(generator)
        drawn = progress.draw if progress.batches else progress.began
        return {
            "epoch": progress.epoch,
            "batches": progress.batches,
            "skipped": progress.skipped,
            "order_seed": progress.draw.seed,
            "generator_state": drawn.generator_state,
            **{name: getattr(self, name) for name in _SAME},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where ``state`` was taken, whatever the number of workers. Raises DataError."""
        if not isinstance(state, Mapping) or set(state) != set(_STATE):
            raise DataError(f"expected what state_dict() gives, with {', '.join(_STATE)}, but {state!r} came.")
        for name in _SAME:
            if state[name] != getattr(self, name):
                raise DataError(
                    f"the state was taken with {name}={state[name]!r}, but this loader has {getattr(self, name)!r}. "
                    "Delivered batches can only be counted in one order and in batches of one size."
                )
        for name in ("epoch", "batches", "skipped"):
            check_whole(f"the state's {name}", state[name], 0)
        drawn, draws = (one is not None for one in (state["generator_state"], generator_of(self._fed_by)))
        if drawn != draws:
            raise DataError(
                f"the state was taken {'with' if drawn else 'without'} a generator, but this loader's sampler has "
                f"{'one' if draws else 'none'}, so its order would be another."
            )
        progress = Progress(state["epoch"], state["batches"], state["skipped"], draw=Draw(state["order_seed"]))
        (progress.draw if progress.batches else progress.began).generator_state = state["generator_state"]
        self._resumed, self.epoch = progress, progress.epoch

    @property
    def skipped(self) -> list[Skipped]:
        """The samples that the latest epoch left out."""
        return self._policy.skipped

    def set_epoch(self, epoch: int) -> None:
        """Make ``epoch`` the next one to be iterated, as torch's DistributedSampler does."""
        check_whole("epoch", epoch, 0)
        if self._resumed is not None and self._resumed.epoch != epoch:
            self._resumed = None
        self.epoch = epoch


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
