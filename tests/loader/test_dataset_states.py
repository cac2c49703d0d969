"""Datasets with a ``state_dict()`` of their own go on where they were, as with torchdata's StatefulDataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

BATCH_SIZE = 3
KINDS: dict[str, dict[str, Any]] = {
    "here": {"num_workers": 0},
    "one worker": {"num_workers": 1, "worker_kind": "processes"},
    "two workers": {"num_workers": 2, "worker_kind": "processes"},
    "workers that persist": {"num_workers": 2, "worker_kind": "processes", "persistent_workers": True},
}


def share() -> tuple[int, int]:
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


class Stream(IterableDataset):
    """Gives each worker numbers of its own, unequally many; goes on from its state without making what was before."""

    def __init__(self) -> None:
        self.position = 0
        self.made: list[int] = []

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker, workers = share()
        while self.position < 40 // workers + 5 * worker:
            self.position += 1
            yield torch.tensor([worker, self.position])
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class Place:
    """An iterator with a state of its own, over a dataset without one."""

    def __init__(self, worker: int) -> None:
        self.worker, self.position = worker, 0

    def __iter__(self) -> Place:
        return self

    def __next__(self) -> torch.Tensor:
        if self.position == 20:
            raise StopIteration
        self.position += 1
        return torch.tensor([self.worker, self.position])

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class OfPlaces(IterableDataset):
    def __iter__(self) -> Place:
        return Place(share()[0])


class Even(IterableDataset):
    """Its shares fill their batches, and it counts the epochs that it has given to their end."""

    def __init__(self) -> None:
        self.position = self.epochs = 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        while self.position < 4 * BATCH_SIZE:
            self.position += 1
            yield torch.tensor([share()[0], self.position, self.epochs])
        self.position = 0
        self.epochs += 1

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position, self.epochs = state["position"], state["epochs"]


class Own(IterableDataset):
    """Its own iterator, which has a state only once it was asked for, and begins anew each time that it is."""

    asked = 0

    def __iter__(self) -> Own:
        self.asked += 1
        self.place = Place(share()[0])
        return self

    def __next__(self) -> torch.Tensor:
        return next(self.place)

    def state_dict(self) -> dict[str, int]:
        return self.place.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place.load_state_dict(state)


class Counting:
    """A map-style dataset whose samples depend on how many were asked for before them."""

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> torch.Tensor:
        self.asked += 1
        return torch.tensor([index, self.asked])

    def state_dict(self) -> dict[str, int]:
        return {"asked": self.asked}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.asked = state["asked"]


class Drawing(Counting):
    """Draws at random, and has the state of that in its own."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.cat([super().__getitem__(index), torch.randint(1000, (1,))])

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked, "random": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        torch.set_rng_state(state["random"])


class DrawingStream(Drawing, IterableDataset):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[index] for index in range(self.asked % 40, 40))


def epoch(loader: ReferenceLoader) -> list[Any]:
    return [batch.tolist() for batch in loader]


@pytest.fixture
def uninterrupted(kept: dict[Any, Any], kind: str, dataset: Any) -> list[Any]:
    """Three epochs of the dataset, that nothing interrupts; made once for all tests of it."""
    if (kind, dataset) not in kept:
        with ReferenceLoader(dataset(), BATCH_SIZE, **KINDS[kind]) as whole:
            kept[kind, dataset] = [epoch(whole) for _ in range(3)]
    return kept[kind, dataset]


@pytest.mark.parametrize("dataset", [Stream, pytest.param(Even, marks=pytest.mark.slow), Own, OfPlaces, Counting])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_and_the_next_epoch_are_those_of_an_uninterrupted_run(
    kind: str, dataset: Any, uninterrupted: list[Any]
) -> None:
    first, second, _ = uninterrupted
    places = {"here": (0, 1, 2, 5, 9, len(first)), "two workers": (1, 5, len(first))}.get(kind, (2, len(first)))
    for taken in sorted({min(batches, len(first)) for batches in places}):
        with ReferenceLoader(dataset(), BATCH_SIZE, **KINDS[kind]) as broken:
            iterator = iter(broken)
            for _ in range(taken):
                next(iterator)
            state = broken.state_dict()
            iterator.close()
        with ReferenceLoader(dataset(), BATCH_SIZE, **KINDS[kind]) as restarted:
            restarted.load_state_dict(state)
            assert epoch(restarted) == (first[taken:] or second), taken
            if taken < len(first):
                assert epoch(restarted) == second, taken


@pytest.mark.parametrize(
    ("kind", "batches"),
    [(kind, batches) for kind in KINDS for batches in ((1,) if kind == "one worker" else (None, 0, 1))],
)
@pytest.mark.parametrize("dataset", [Stream, pytest.param(Even, marks=pytest.mark.slow), Own, Counting])
def test_a_later_epoch_goes_on_as_an_uninterrupted_run(
    kind: str, dataset: Any, batches: int | None, uninterrupted: list[Any]
) -> None:
    _, second, third = uninterrupted
    with ReferenceLoader(dataset(), BATCH_SIZE, **KINDS[kind]) as broken:
        epoch(broken)
        if batches is not None:
            iterator = iter(broken)
            assert [next(iterator).tolist() for _ in range(batches)] == second[:batches]
        state = broken.state_dict()
    with ReferenceLoader(dataset(), BATCH_SIZE, **KINDS[kind]) as restarted:
        restarted.load_state_dict(state)
        assert epoch(restarted) == second[batches or 0 :]
        assert epoch(restarted) == third


def test_the_dataset_itself_is_put_back_to_where_an_epoch_began() -> None:
    dataset = Counting()
    loader = ReferenceLoader(dataset, BATCH_SIZE)
    iterator = iter(loader)
    state = loader.state_dict()
    first = [batch.tolist() for batch in iterator]
    again = ReferenceLoader(dataset, BATCH_SIZE)
    again.load_state_dict(state)
    assert epoch(again) == first


@pytest.mark.parametrize("batches", [None, 0, 1, 5])
@pytest.mark.parametrize(
    ("dataset", "settings"),
    [(Drawing, {}), (Drawing, {"shuffle": True}), (DrawingStream, {})],
    ids=["map", "shuffled", "stream"],
)
def test_draws_are_the_same_where_the_dataset_keeps_the_state_of_the_generator(
    dataset: Any, settings: dict[str, Any], batches: int | None
) -> None:
    torch.manual_seed(1)
    whole = ReferenceLoader(dataset(), BATCH_SIZE, **settings)
    _, second, third = epoch(whole), epoch(whole), epoch(whole)
    torch.manual_seed(1)
    broken = ReferenceLoader(dataset(), BATCH_SIZE, **settings)
    epoch(broken)
    if batches is not None:
        iterator = iter(broken)
        assert [next(iterator).tolist() for _ in range(batches)] == second[:batches]
    state = broken.state_dict()
    torch.manual_seed(2)
    restarted = ReferenceLoader(dataset(), BATCH_SIZE, **settings)
    restarted.load_state_dict(state)
    assert epoch(restarted) == second[batches or 0 :]
    assert epoch(restarted) == third


@pytest.mark.parametrize("iterated", [False, True])
def test_the_copies_of_workers_that_persist_are_put_back_to_the_begin(iterated: bool) -> None:
    with ReferenceLoader(Counting(), BATCH_SIZE, **KINDS["workers that persist"]) as loader:
        iterator = iter(loader) if iterated else loader
        state = loader.state_dict()
        first = [batch.tolist() for batch in iterator]
        loader.load_state_dict(state)
        assert epoch(loader) == first


def test_threads_keep_the_state_between_epochs() -> None:
    def threads(dataset: Any) -> ReferenceLoader:
        return ReferenceLoader(dataset, BATCH_SIZE, num_workers=2, worker_kind="threads")

    with threads(Counting()) as loader:
        epoch(loader)
        state = loader.state_dict()
    dataset = Counting()
    with threads(dataset) as restarted:
        restarted.load_state_dict(state)
        iter(restarted)
        assert dataset.asked == 40


def test_workers_that_persist_and_were_left_early_have_no_state_before_their_first_batch() -> None:
    with ReferenceLoader(Counting(), BATCH_SIZE, **KINDS["workers that persist"]) as loader:
        next(iter(loader))
        iterator = iter(loader)
        next(iterator)
        with pytest.raises(DataError) as caught:
            loader.state_dict()
        next(iterator)
        assert set(loader.state_dict()["states"]) == {0, 1}
    assert str(caught.value) == (
        "expected a batch of each of 2 persistent workers before a state, for the epoch before was left early, got "
        "batches of 1: the state of the Counting in the others is not known. Take it some batches later."
    )


@pytest.mark.parametrize("kind", ["here", "one worker"])
def test_a_dataset_is_asked_for_its_iterator_once_an_epoch(kind: str) -> None:
    class Asked(Own):
        def __next__(self) -> torch.Tensor:
            return torch.cat([super().__next__(), torch.tensor([self.asked])])

    with ReferenceLoader(Asked(), BATCH_SIZE, **KINDS[kind]) as loader:
        assert {sample[-1] for batch in epoch(loader) for sample in batch} == {1}


def test_a_stream_goes_on_without_making_again_what_was_delivered() -> None:
    broken = ReferenceLoader(Stream(), BATCH_SIZE)
    assert len(list(islice(broken, 4))) == 4
    state = broken.state_dict()
    stream = Stream()
    restarted = ReferenceLoader(stream, BATCH_SIZE)
    restarted.load_state_dict(state)
    iter(restarted)
    assert stream.position == 4 * BATCH_SIZE


def test_the_state_of_a_delivered_batch_is_not_that_of_those_made_ahead() -> None:
    with ReferenceLoader(Stream(), BATCH_SIZE, num_workers=1, worker_kind="processes") as loader:
        iterator = iter(loader)
        next(iterator), next(iterator)
        assert loader.state_dict()["states"] == {
            0: {"batches": 2, "dataset": {"position": 2 * BATCH_SIZE}, "iterator": None, "ended": False, "over": False}
        }
        iterator.close()


def test_a_state_is_not_changed_by_what_is_delivered_after_it() -> None:
    class Live(Stream):
        def __init__(self) -> None:
            super().__init__()
            self.log: list[int] = []

        def state_dict(self) -> Any:
            self.log.append(self.position)
            return {"position": self.position, "log": self.log}

    loader = ReferenceLoader(Live(), BATCH_SIZE)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    before = repr(state["states"])
    next(iterator)
    assert repr(state["states"]) == before


def test_a_state_of_another_number_of_workers_is_refused() -> None:
    with ReferenceLoader(Counting(), BATCH_SIZE, num_workers=2, worker_kind="processes") as loader:
        iterator = iter(loader)
        next(iterator)
        state = loader.state_dict()
        iterator.close()
    with pytest.raises(DataError, match="expected 2 workers as when the state was taken, got 1 worker"):
        ReferenceLoader(Counting(), BATCH_SIZE).load_state_dict(state)


def test_threads_that_fetch_ahead_keep_no_state() -> None:
    with ReferenceLoader(Counting(), BATCH_SIZE, num_workers=2, worker_kind="threads") as loader:
        next(iter(loader))
        with pytest.raises(DataError, match="no threads, and on_error='raise', for a state in mid-epoch of a Counting"):
            loader.state_dict()


def test_a_dataset_that_takes_no_state_back_is_refused() -> None:
    class Forgetful(IterableDataset):
        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter(Stream())

    loader = ReferenceLoader(Stream(), BATCH_SIZE)
    next(iter(loader))
    other = ReferenceLoader(Forgetful(), BATCH_SIZE)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(DataError, match=r"expected a Forgetful with load_state_dict\(\)"):
        iter(other)


def test_an_error_in_a_worker_loses_and_repeats_nothing() -> None:
    class Failing(Counting):
        def __getitem__(self, index: int) -> torch.Tensor:
            if index == 4:
                raise ValueError("sample 4")
            return torch.tensor([index])

    seen: list[int] = []
    with ReferenceLoader(Failing(), BATCH_SIZE, num_workers=2, worker_kind="processes") as loader:
        iterator = iter(loader)
        seen += next(iterator).flatten().tolist()
        with pytest.raises(ValueError, match="sample 4"):
            next(iterator)
        seen += next(iterator).flatten().tolist()
        state = loader.state_dict()
        iterator.close()
    with ReferenceLoader(Failing(), BATCH_SIZE, num_workers=2, worker_kind="processes") as restarted:
        restarted.load_state_dict(state)
        seen += [index for batch in restarted for index in batch.flatten().tolist()]
    assert seen == [0, 1, 2, *range(6, 40)]


def test_an_error_in_a_stream_is_not_taken_for_a_delivered_batch() -> None:
    class Failing(Place):
        def __next__(self) -> torch.Tensor:
            sample = super().__next__()
            if self.worker == 0 and self.position == 4:
                raise ValueError("position 4")
            return sample

    class OfFailing(IterableDataset):
        def __iter__(self) -> Place:
            return Failing(share()[0])

    loader = ReferenceLoader(OfFailing(), BATCH_SIZE, num_workers=2, worker_kind="processes")
    iterator = iter(loader)
    next(iterator), next(iterator)
    with pytest.raises(ValueError, match="position 4"):
        next(iterator)
    seen = [next(iterator).tolist(), next(iterator).tolist()]
    assert seen == [[[1, 4], [1, 5], [1, 6]], [[0, 5], [0, 6], [0, 7]]]
    state = loader.state_dict()
    iterator.close()
    with ReferenceLoader(OfFailing(), BATCH_SIZE, num_workers=2, worker_kind="processes") as restarted:
        restarted.load_state_dict(state)
        rest = sorted(tuple(sample) for batch in restarted for sample in batch.tolist())
    assert rest == [(0, place) for place in range(8, 21)] + [(1, place) for place in range(7, 21)]


def test_a_state_that_a_class_leaves_to_others_is_none() -> None:
    class Abstract(Counting):
        def state_dict(self) -> dict[str, int]:
            raise NotImplementedError

    loader = ReferenceLoader(Abstract(), BATCH_SIZE)
    next(iter(loader))
    assert loader.state_dict()["states"] == {}


def test_a_batch_beyond_the_length_that_was_promised_is_neither_lost_nor_given_twice() -> None:
    class Understated(Stream):
        def __len__(self) -> int:
            return 4 * BATCH_SIZE

    arguments: dict[str, Any] = {"num_workers": 1, "worker_kind": "processes", "persistent_workers": True}
    with ReferenceLoader(Understated(), BATCH_SIZE, **arguments) as whole:
        expected = epoch(whole)
    with ReferenceLoader(Understated(), BATCH_SIZE, **arguments) as broken:
        iterator = iter(broken)
        for _ in range(4):
            next(iterator)
        assert not iterator._batches.is_over()
        state = broken.state_dict()
        iterator.close()
    with ReferenceLoader(Understated(), BATCH_SIZE, **arguments) as restarted:
        restarted.load_state_dict(state)
        assert [batch.tolist() for batch in restarted] == expected[4:]


@pytest.mark.parametrize("states", [None, 3, {"first": {}}, {0: 1}, {0: {"batches": 1}}, {0: {"other": 1}}])
def test_states_that_are_none_of_ours_are_refused(states: Any) -> None:
    loader = ReferenceLoader(Stream(), BATCH_SIZE)
    with pytest.raises(DataError, match="expected the state's states by worker"):
        loader.load_state_dict({**loader.state_dict(), "states": states})
