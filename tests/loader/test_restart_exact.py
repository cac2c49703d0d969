"""A restart at any place, of any order, gives what an uninterrupted run gives, or an error that says what to seed."""

from __future__ import annotations

import random
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, BATCH_SIZE = 23, 4
KINDS: dict[str, dict[str, Any]] = {
    "here": {"num_workers": 0},
    "threads": {"num_workers": 2, "worker_kind": "threads"},
    "processes": {"num_workers": 2, "worker_kind": "processes"},
}


class Numbers:
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> int:
        return index


class Sharded(IterableDataset):
    def __iter__(self):
        worker = get_worker_info()
        return iter(range(12) if worker is None else range(worker.id, 12, worker.num_workers))


def shuffled(generator: Any) -> dict[str, Any]:
    return {"shuffle": True, "generator": generator}


def in_batches(make_sampler: Any) -> Any:
    def make(generator: Any) -> dict[str, Any]:
        sampler = make_sampler(generator)["sampler"]
        return {"batch_sampler": BatchSampler(sampler, BATCH_SIZE, drop_last=False)}

    return make


def sampled(make_sampler: Any) -> Any:
    return lambda generator: {"sampler": make_sampler(generator)}


numbers = range(SAMPLES)
SAMPLINGS = {
    "shuffle": shuffled,
    "random": sampled(lambda generator: RandomSampler(numbers, generator=generator)),
    "with replacement": sampled(lambda generator: RandomSampler(numbers, replacement=True, generator=generator)),
    "more with replacement": sampled(
        lambda generator: RandomSampler(numbers, replacement=True, num_samples=70, generator=generator)
    ),
    "fewer": sampled(lambda generator: RandomSampler(numbers, num_samples=14, generator=generator)),
    "more": sampled(lambda generator: RandomSampler(numbers, num_samples=2 * SAMPLES, generator=generator)),
    "weighted": sampled(lambda generator: WeightedRandomSampler(torch.arange(SAMPLES) + 1.0, 30, generator=generator)),
    "subset": sampled(lambda generator: SubsetRandomSampler(range(0, SAMPLES, 2), generator=generator)),
}
SAMPLINGS |= {
    f"batches of {name}": in_batches(make) for name, make in SAMPLINGS.items() if name not in {"shuffle", "random"}
}
SAMPLINGS["batches of random"] = in_batches(SAMPLINGS["random"])


def lists(batches: Any) -> list[Any]:
    return [batch.tolist() for batch in batches]


def make_loader(sampling: str, kind: str, generator: Any, **arguments: Any) -> ReferenceLoader[Any]:
    chosen = SAMPLINGS[sampling](generator)
    size = {} if "batch_sampler" in chosen else {"batch_size": BATCH_SIZE}
    if "batch_sampler" in chosen:
        arguments.pop("drop_last", None)
    return ReferenceLoader(Numbers(), **size, **chosen, **KINDS[kind], **arguments)


def restarted_equals_uninterrupted(
    sampling: str, kinds: tuple[str, str], *, own: bool, epoch: int, taken: int, **arguments: Any
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        generators = [torch.Generator().manual_seed(seed) if own else None for seed in (5, 6)]
        with make_loader(sampling, kinds[0], generators[0], **arguments) as loader:
            for _ in range(epoch):
                lists(loader)
            iterator = iter(loader)
            lists(islice(iterator, taken))
            state, default = loader.state_dict(), torch.get_rng_state()
            rest = lists(iterator)
            wanted = [*([rest] if rest else []), *(lists(loader) for _ in range(2))]
        torch.set_rng_state(default if not own else torch.Generator().manual_seed(99).get_state())
        with make_loader(sampling, kinds[1], generators[1], **arguments) as other:
            other.load_state_dict(state)
            assert [lists(other) for _ in wanted] == wanted


@pytest.mark.parametrize("own", [False, True], ids=["default generator", "own generator"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_each_of_torchs_samplers_goes_on_exactly(sampling, own):
    for epoch, taken in ((0, 0), (0, 3), (2, 1), (2, 99)):
        restarted_equals_uninterrupted(sampling, ("here", "threads"), own=own, epoch=epoch, taken=taken)


@settings(max_examples=30, deadline=None)
@given(
    sampling=st.sampled_from(sorted(SAMPLINGS)),
    kinds=st.sampled_from(["here", "threads", "here", "threads", "processes"]).map(lambda kind: (kind, kind)),
    own=st.booleans(),
    epoch=st.integers(0, 2),
    taken=st.integers(0, 20),
    drop_last=st.booleans(),
    persistent_workers=st.sampled_from([None, False, True]),
)
def test_a_restart_anywhere_equals_an_uninterrupted_run(  # noqa: PLR0917 pytest and Hypothesis give them by name
    sampling, kinds, own, epoch, taken, drop_last, persistent_workers
):
    if kinds[0] == "here":
        persistent_workers = None
    arguments = {"drop_last": drop_last, "persistent_workers": persistent_workers}
    restarted_equals_uninterrupted(sampling, kinds, own=own, epoch=epoch, taken=taken, **arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_a_batch_sampler", [False, True])
@pytest.mark.parametrize("taken", [2, 99])
def test_the_epoch_of_a_distributed_sampler_is_kept(kind, in_a_batch_sampler, taken):
    def make() -> tuple[Any, ReferenceLoader[Any]]:
        sampler = DistributedSampler(range(SAMPLES), num_replicas=2, rank=1)
        if in_a_batch_sampler:
            batches = BatchSampler(sampler, BATCH_SIZE, drop_last=False)
            return sampler, ReferenceLoader(Numbers(), batch_sampler=batches, **KINDS[kind])
        return sampler, ReferenceLoader(Numbers(), BATCH_SIZE, sampler=sampler, **KINDS[kind])

    (sampler, loader), (other_sampler, other) = make(), make()
    with loader, other:
        sampler.set_epoch(3)
        iterator = iter(loader)
        lists(islice(iterator, taken))
        state = loader.state_dict()
        rest = lists(iterator)
        other.load_state_dict(state)
        assert other_sampler.epoch == 3
        assert lists(other) == (rest or lists(loader))
        for one in (sampler, other_sampler):
            one.set_epoch(4)
        assert lists(other) == lists(loader)


class Unseeded(Sampler[int]):
    """Draws by ``permutation``, and from nothing that a state keeps."""

    def __init__(self, permutation: Any) -> None:
        self.permutation = permutation

    def __iter__(self):
        yield from self.permutation()

    def __len__(self) -> int:
        return SAMPLES


def one_by_one():
    left = list(numbers)
    while left:
        yield left.pop(int(torch.randint(len(left), ())))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "permutation",
    [lambda: random.sample(numbers, SAMPLES), lambda: np.random.permutation(SAMPLES), one_by_one],  # noqa: NPY002
    ids=["random", "NumPy", "torch, one by one"],
)
@pytest.mark.parametrize("in_a_batch_sampler", [False, True])
def test_a_sampler_that_gives_another_order_is_refused(kind, permutation, in_a_batch_sampler):
    sampler: Any = Unseeded(permutation)
    sampling = {"batch_size": BATCH_SIZE, "sampler": sampler}
    if in_a_batch_sampler:
        sampling = {"batch_sampler": BatchSampler(sampler, BATCH_SIZE, drop_last=False)}
    position = 3 if in_a_batch_sampler else 12
    with ReferenceLoader(Numbers(), **sampling, **KINDS[kind]) as loader:
        lists(islice(iter(loader), 3))
        loader.load_state_dict(loader.state_dict())
        with pytest.raises(DataError) as caught:
            lists(loader)
    caught.value.with_traceback(None)
    assert str(caught.value) == (
        f"expected the sampler to give the same first {position} indices as before the restart, got others. "
        "Give it a generator or a seed of its own, or the loader seed=; where it has set_epoch(), call that with "
        "the epoch of the state; the dataset, and the rank of a DistributedSampler, must be the same."
    )


class Rows:
    def __getitem__(self, key: Any) -> Any:
        return np.arange(30)[int(key.name) if isinstance(key, Path) else key]


@pytest.mark.parametrize(
    "make_key", [lambda i: slice(i, i + 1), lambda i: range(i, i + 1), lambda i: Path(str(i)), lambda i: {i}]
)
def test_an_order_of_other_keys_than_numbers_is_compared_too(make_key):
    keys = list(map(make_key, range(30)))
    if isinstance(keys[0], set):
        make = partial(ReferenceLoader, Numbers(), batch_sampler=Unseeded(lambda: random.sample(keys, 23)))
    else:
        make = partial(ReferenceLoader, Rows(), batch_size=None, sampler=Unseeded(lambda: random.sample(keys, 30)))
    with make() as loader:
        lists(islice(iter(loader), 9))
        loader.load_state_dict(loader.state_dict())
        with pytest.raises(DataError, match="expected the sampler to give the same first 9 indices"):
            lists(loader)


@pytest.mark.parametrize("seeding", [{"seed": 1}, {}])
def test_a_shuffled_dataset_of_another_length_is_refused(seeding):
    first, other = (ReferenceLoader(list(range(length)), 4, shuffle=True, **seeding) for length in (20, 24))
    next(iter(first))
    other.load_state_dict(first.state_dict())
    with pytest.raises(
        DataError, match=r"^expected a shuffled order of 20 indices as before the restart, got one of 24"
    ):
        lists(other)


def test_a_dataset_in_its_own_order_may_have_grown():
    first, other = (ReferenceLoader(list(range(length)), 4) for length in (10, 14))
    lists(islice(iter(first), 2))
    other.load_state_dict(first.state_dict())
    assert lists(other) == [[8, 9, 10, 11], [12, 13]]


@pytest.mark.parametrize(
    "workers, batch_size, drop_last",
    [(0, 5, False), (0, 5, True), (0, 4, False), (0, None, False), (1, 5, True), (2, 4, False), (2, 5, False)],
)
def test_after_the_last_batch_of_a_stream_the_next_epoch_is_whole(batch_size, drop_last, workers):
    first, other = (ReferenceLoader(Sharded(), batch_size, drop_last=drop_last, num_workers=workers) for _ in range(2))
    with first, other:
        whole = [str(batch) for batch in first]
        lasting = iter(first)
        assert [str(next(lasting)) for _ in whole] == whole
        other.load_state_dict(first.state_dict())
        assert [str(batch) for batch in other] == whole
        assert other.epoch == 3
        assert [str(batch) for batch in other] == whole


def test_set_epoch_to_a_finished_one_gives_nothing_of_the_next():
    first, other = (ReferenceLoader(Sharded(), 4) for _ in range(2))
    lasting = iter(first)
    lists(islice(lasting, 3))
    other.load_state_dict(first.state_dict())
    other.set_epoch(0)
    assert [lists(other), len(lists(other))] == [[], 3]


@pytest.mark.parametrize("before, after", [(0, 2), (2, 0), (1, 2), (2, 1)])
def test_a_sharded_stream_goes_on_with_as_many_workers_alone(before, after):
    first, other = (ReferenceLoader(Sharded(), 2, num_workers=workers) for workers in (before, after))
    with first, other:
        lists(islice(iter(first), 3))
        words = {0: "1 worker", 1: "1 worker", 2: "2 workers"}
        with pytest.raises(DataError) as caught:
            other.load_state_dict(first.state_dict())
        assert str(caught.value) == (
            f"expected {words[before]} as when the state was taken, got {words[after]}: an iterable dataset may share "
            "its samples out by worker, so some would be lost and others repeated, and a dataset with a state_dict() "
            f"of its own has another state in each worker. Restart with {words[before]}, or begin a new epoch."
        )


@pytest.mark.parametrize("before, after", [(0, 1), (1, 0), (2, 2)])
def test_a_sharded_stream_goes_on_exactly(before, after):
    first, other = (ReferenceLoader(Sharded(), 2, num_workers=workers) for workers in (before, after))
    with first, other:
        iterator = iter(first)
        lists(islice(iterator, 3))
        other.load_state_dict(first.state_dict())
        assert lists(other) == lists(iterator)


def test_between_epochs_a_stream_may_change_its_workers():
    first, other = (ReferenceLoader(Sharded(), 2, num_workers=workers) for workers in (2, 0))
    with first, other:
        lists(first)
        other.load_state_dict(first.state_dict())
        assert lists(other) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def test_without_order_a_place_in_mid_epoch_is_refused():
    with ReferenceLoader(Numbers(), BATCH_SIZE, num_workers=2, in_order=False) as loader:
        iterator = iter(loader)
        loader.state_dict()
        next(iterator)
        with pytest.raises(DataError) as caught:
            loader.state_dict()
        lists(iterator)
        assert loader.state_dict()["epoch"] == 1
    assert str(caught.value) == (
        "expected in_order=True for a state in mid-epoch, got in_order=False with 2 worker processes: which batches "
        "were delivered is not known. Take the state between epochs, or leave in_order out."
    )


@pytest.mark.parametrize("kind", [{"num_workers": 0}, {"num_workers": 1}, KINDS["threads"]])
def test_without_order_one_after_the_other_goes_on_exactly(kind):
    with ReferenceLoader(Numbers(), BATCH_SIZE, in_order=False, **kind) as loader:
        iterator = iter(loader)
        lists(islice(iterator, 2))
        state = loader.state_dict()
        rest = lists(iterator)
        loader.load_state_dict(state)
        assert lists(loader) == rest
