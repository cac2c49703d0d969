"""States of a dataset and of its iterator, taken after each batch, as torchdata's StatefulDataLoader takes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from inspect import isgeneratorfunction
from itertools import chain, repeat
from typing import Any, NamedTuple

from torch.utils.data import IterableDataset, IterDataPipe, get_worker_info

from pytest_loaderperf.errors import DataError


class State(NamedTuple):
    """``state_dict()`` of a dataset and of its iterator, None where it has none, after ``batches`` of a worker's.

    A dataset that is its own iterator has the iterator's alone. ``ended``: a batch was short, so the iterator has
    ended, and the dataset may stand at its begin again. ``over``: the next epoch goes on from the end of that one.
    """

    batches: int
    dataset: Any
    iterator: Any
    ended: bool = False
    over: bool = False


class Stated(NamedTuple):
    """A batch of a worker process, and the state of the worker's dataset after it."""

    batch: Any
    worker: int
    state: State


class Passed:
    """Stands in a resumed worker for a sample, and for a batch, that was delivered before the restart."""


def is_stateful(one: Any) -> bool:
    """Whether ``one`` has a ``state_dict()`` and takes it back."""
    return hasattr(one, "state_dict") and hasattr(one, "load_state_dict")


def taken(dataset: Any, iterator: Any = None, batches: int = 0, *, ended: bool = False) -> State | None:
    """The state of ``dataset`` and of its ``iterator`` now, None where neither has one."""
    own, place = (_taken(one) for one in (None if dataset is iterator else dataset, iterator))
    return None if own is None and place is None else State(batches, own, place, ended)


def _taken(one: Any) -> Any:
    try:
        return copy.deepcopy(one.state_dict()) if is_stateful(one) else None
    except NotImplementedError:  # of a class that leaves it to others
        return None


def standing(dataset: Any) -> State | None:
    """The state of ``dataset`` now, between epochs."""
    state = taken(dataset, dataset if isinstance(dataset, Iterator) else None, ended=True)
    return state and lasting(dataset, state)


def lasting(dataset: Any, state: State) -> State | None:
    """What the next epoch goes on from after ``state``, the latest one; None where only its iterator has a state."""
    if state.dataset is None and not isinstance(dataset, Iterator):
        return None
    return state._replace(batches=0, ended=state.ended or not isinstance(dataset, IterableDataset), over=True)


def load(one: Any, state: Any) -> None:
    """Let ``one``, a dataset or its iterator, go on from ``state``, unless that is None. Raises DataError."""
    if state is None:
        return
    if not is_stateful(one):
        raise DataError(
            f"expected a {type(one).__name__} with load_state_dict(), for the state holds one of its own, got one "
            "without. Restart with the dataset that the state was taken with."
        )
    one.load_state_dict(copy.deepcopy(state))


def resumed(dataset: Any, state: State | None) -> Iterator[Any]:
    """The samples of an iterable ``dataset`` after ``state``; None: all of them."""
    rest = iter(()) if state is None else settle(dataset, state)
    return iter(dataset) if state is None or state.over else rest


def settle(dataset: Any, state: State) -> Iterator[Any]:
    """Let ``dataset`` stand where ``state`` says. The rest of its samples, if it is iterable."""
    load(dataset, state.dataset)
    if state.ended and not isinstance(dataset, Iterator):
        return iter(())
    samples: Iterator[Any] = iter(dataset)
    load(samples, state.iterator)
    while state.over and not state.ended and next(samples, Passed) is not Passed:
        pass  # to the end, where it may change the dataset
    return iter(()) if state.ended else samples


class Copies:
    """The copies of ``dataset``, one in each worker process, whose states come back with the batches.

    ``batch_size``: of an iterable dataset. ``resumed``: by worker, what those that start now go on from.
    """

    def __init__(self, dataset: Any, batch_size: int | None = None) -> None:
        self.dataset, self._batch_size = dataset, batch_size
        self.resumed: dict[int, State] = {}
        self._batches = 0
        self._iterator: Any = None

    def resume(self) -> None:
        """Let this worker's copy of a map-style dataset go on."""
        if (state := self._own()) is not None:
            load(self.dataset, state.dataset)

    def samples(self) -> Iterator[Any]:
        """The samples of this worker's copy of an iterable dataset, after a Passed for each that was delivered."""
        state = self._own()
        self._iterator = resumed(self.dataset, state)
        self._batches = 0 if state is None else state.batches
        samples = map(next, repeat(self._iterator))  # chain would ask for an iterator once more, which may begin anew
        return chain(repeat(Passed, self._batches * (self._batch_size or 1)), samples)

    def _own(self) -> State | None:
        info = get_worker_info()
        state = None if info is None else self.resumed.get(info.id)
        self.resumed = {}
        return state

    def with_state(self, batch: Any, samples: Any) -> Any:
        """``batch``, which this worker has made of ``samples``, Stated where its dataset or iterator has a state."""
        self._batches += 1
        ended = self._batch_size is not None and len(samples) < self._batch_size
        state = taken(self.dataset, self._iterator, self._batches, ended=ended)
        info: Any = get_worker_info()
        return batch if state is None else Stated(batch, info.id, state)


class Stream(IterableDataset[Any]):
    """An iterable dataset as workers see it whose states are kept; ``dataset`` is the caller's own."""

    def __init__(self, copies: Copies) -> None:
        self.copies, self.dataset = copies, copies.dataset

    def __iter__(self) -> Iterator[Any]:
        return self.copies.samples()

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return repr(self.dataset)


def may_have_states(dataset: Any) -> bool:
    """Whether an iterable ``dataset`` or its iterator, which a worker alone makes, can have a state."""
    if isinstance(dataset, IterDataPipe):  # torch itself looks into its graph
        return False
    return is_stateful(dataset) or not isgeneratorfunction(type(dataset).__iter__)


def passed(samples: Any) -> bool:
    """Whether ``samples``, those of a batch or a single one, were delivered before the restart."""
    return samples is Passed or (type(samples) is list and bool(samples) and samples[0] is Passed)
