"""A run on some ranks goes on with others, and in batches of another size: each sample of the epoch comes once."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrays.order import epoch_order
from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, SEED = 50, 7
KINDS: dict[str, dict[str, Any]] = {
    "here": {"num_workers": 0},
    "threads": {"num_workers": 2, "worker_kind": "threads"},
    "processes": {"num_workers": 2, "worker_kind": "processes"},
}
DATASETS = {"an array": torch.arange, "samples": lambda samples: list(range(samples))}


def loaders_of(dataset: Any, ranks: int | None, size: int | None = 4, **arguments: Any) -> list[ReferenceLoader[Any]]:
    state = arguments.pop("state", None)
    shares = [{}] if ranks is None else [{"rank": rank, "world_size": ranks} for rank in range(ranks)]
    chosen = {"shuffle": True, "seed": SEED, **KINDS["here"], **arguments}
    loaders = [ReferenceLoader(dataset, size, **share, **chosen) for share in shares]
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(state)
    return loaders


def lists(batches: Any) -> list[list[Any]]:
    """The samples of each batch; a single sample is a batch of one."""
    return [np.atleast_1d(batch).tolist() for batch in batches]


def in_turns(batches: list[list[list[int]]]) -> list[list[int]]:
    """The batches of all ranks as global ones, in the order that they were dealt in."""
    assert len({tuple(map(len, own)) for own in batches}) == 1, "ranks differ in the sizes of their batches"
    return [list(chain.from_iterable(zip(*step, strict=True))) for step in zip(*batches, strict=True)]


def steps(loaders: list[ReferenceLoader[Any]], taken: int | None = None) -> tuple[list[list[int]], dict[str, Any]]:
    """The next ``taken`` global batches (None: all of the epoch), and the state then, which is that of every rank."""
    iterators = [iter(loader) for loader in loaders]
    came = in_turns([lists(islice(iterator, taken)) for iterator in iterators])
    states = [loader.state_dict() for loader in loaders]
    for loader, iterator in zip(loaders, iterators, strict=True):
        iterator.close()
        loader.close()
    assert all(other == states[0] for other in states), "a state of one rank is not that of the others"
    return came, json.loads(json.dumps(states[0]))


def order(samples: int, epoch: int, *, shuffle: bool = True) -> list[int]:
    return list(map(int, epoch_order(samples, shuffle=shuffle, seed=SEED, epoch=epoch)))


@settings(max_examples=100, deadline=None)
@given(
    samples=st.integers(1, 60),
    runs=st.lists(
        st.tuples(st.none() | st.integers(1, 6), st.none() | st.integers(1, 5), st.integers(0, 8)),
        min_size=2,
        max_size=5,
    ),
    dataset=st.sampled_from(sorted(DATASETS)),
    shuffle=st.booleans(),
    seeded=st.booleans(),
    drop_last=st.booleans(),
)
def test_each_sample_of_an_epoch_comes_once_whatever_ranks_and_batches_go_on(  # noqa: PLR0917 Hypothesis names them
    samples, runs, dataset, shuffle, seeded, drop_last
):
    epochs: dict[int, list[int]] = defaultdict(list)
    state = None
    for number, (ranks, size, taken) in enumerate(runs, 1):
        drops = drop_last and size is not None
        seed = SEED if shuffle or seeded else None
        arguments = {"shuffle": shuffle, "seed": seed, "drop_last": drops, "state": state}
        loaders = loaders_of(DATASETS[dataset](samples), ranks, size, **arguments)
        before = 0 if state is None else state["epoch"]
        came, state = steps(loaders, None if number == len(runs) else taken)
        epoch = loaders[0].epoch - 1
        epochs[epoch] += chain.from_iterable(came)
        wanted, given_now = order(samples, epoch, shuffle=shuffle), epochs[epoch]
        assert given_now == (wanted * (2 + (ranks or 1)))[: len(given_now)]
        if state["epoch"] > epoch:  # it is over
            step = (ranks or 1) * (size or 1)
            assert len(given_now) < samples + (ranks or 1)  # that is, fewer repeats than ranks
            assert len(given_now) > samples - step if drops else len(given_now) >= samples
        for over in range(before, epoch):  # nothing was left of it but what drop_last leaves out
            assert drops
            assert len(epochs[over]) > samples - (ranks or 1) * size


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("before, after", [("here", "threads"), ("threads", "processes"), ("processes", "here")])
def test_any_kind_of_workers_goes_on(dataset, before, after):
    data = DATASETS[dataset](SAMPLES)
    first, state = steps(loaders_of(data, 4, 4, **KINDS[before]), 2)
    rest, state = steps(loaders_of(data, 3, 4, state=state, **KINDS[after]))
    came = list(chain.from_iterable(first + rest))
    assert came == order(SAMPLES, 0)
    assert (state["epoch"], state["batches"], state["dealt"]) == (1, 0, 0)


@pytest.mark.parametrize("kept", [{}, {"cache": "compressed"}, {"background": True}], ids=str)
def test_a_table_in_a_store_goes_on(kept, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"x": range(SAMPLES)}), tmp_path / "table.parquet")
    store = optimize(open_table(tmp_path / "table.parquet"), **kept)
    state, came = None, []
    for ranks, taken in ((4, 1), (6, 1), (None, None)):
        for loader in loaders_of(store, ranks, state=state):
            came += [x for batch in islice(loader, taken) for x in batch["x"].tolist()]
        state = loader.state_dict()
    assert sorted(came) == list(range(SAMPLES))


@pytest.mark.parametrize("ranks, size", [(2, 12), (1, 24), (None, 24), (6, 4), (24, 1), (24, None)])
def test_with_a_constant_global_batch_every_step_has_the_samples_of_the_uninterrupted_run(ranks, size):
    data = torch.arange(100)
    whole, _ = steps(loaders_of(data, 4, 6))
    first, state = steps(loaders_of(data, 4, 6), 2)
    rest, _ = steps(loaders_of(data, ranks, size, state=state))
    assert [step[: 100 - 24 * number] for number, step in enumerate(first + rest)] == whole


def test_the_same_ranks_and_batches_go_on_as_if_nothing_had_been():
    data = torch.arange(SAMPLES)
    whole, _ = steps(loaders_of(data, 4))
    first, state = steps(loaders_of(data, 4), 2)
    assert state["dealt"] == 0
    assert first + steps(loaders_of(data, 4, state=state))[0] == whole


def test_after_the_last_batch_other_ranks_begin_the_next_epoch():
    for drop_last in (False, True):
        loaders = loaders_of(list(range(SAMPLES)), 4, drop_last=drop_last)
        _, state = steps(loaders, len(loaders[0]))
        assert (state["epoch"], state["dealt"]) == (1, 0)
        came, _ = steps(loaders_of(list(range(SAMPLES)), 3, 5, state=state))
        assert list(chain.from_iterable(came))[:SAMPLES] == order(SAMPLES, 1)


def test_where_drop_last_leaves_nothing_for_more_ranks_the_next_epoch_comes():
    _, state = steps(loaders_of(torch.arange(SAMPLES), 4, drop_last=True), 2)
    loaders = loaders_of(torch.arange(SAMPLES), 6, drop_last=True, state=state)
    came, state = steps(loaders)
    assert (loaders[0].epoch, state["epoch"]) == (2, 2)
    assert list(chain.from_iterable(came)) == order(SAMPLES, 1)[:48]


def test_the_length_is_that_of_a_whole_epoch_on_the_new_ranks():
    _, state = steps(loaders_of(torch.arange(SAMPLES), 4), 2)
    (loader, *_) = loaders_of(torch.arange(SAMPLES), 3, state=state)
    assert [len(loader), len(list(loader)), len(loader), len(list(loader))] == [5, 2, 5, 5]


def test_set_epoch_keeps_the_place_in_the_loaded_epoch_and_leaves_it_for_another():
    _, state = steps(loaders_of(torch.arange(SAMPLES), 4), 2)
    (kept,) = loaders_of(torch.arange(SAMPLES), None)
    kept.load_state_dict(state)
    kept.set_epoch(0)
    assert list(chain.from_iterable(lists(kept))) == order(SAMPLES, 0)[32:]
    kept.load_state_dict(state)
    kept.set_epoch(3)
    assert list(chain.from_iterable(lists(kept))) == order(SAMPLES, 3)


def test_a_state_just_loaded_is_that_of_the_same_place():
    _, state = steps(loaders_of(torch.arange(SAMPLES), 4), 2)
    (loader, *_) = loaders_of(torch.arange(SAMPLES), 3, state=state)
    again = loader.state_dict()
    assert (again["dealt"], again["batches"], again["world_size"]) == (32, 0, 3)
    rest, _ = steps(loaders_of(torch.arange(SAMPLES), 2, state=again))
    assert list(chain.from_iterable(rest)) == order(SAMPLES, 0)[32:]


def test_without_a_seed_several_ranks_have_an_order_of_their_own_which_goes_on():
    first, state = steps(loaders_of(torch.arange(SAMPLES), 4, seed=None), 2)
    rest, _ = steps(loaders_of(torch.arange(SAMPLES), 2, seed=None, state=state))
    assert sorted(chain.from_iterable(first + rest)) == list(range(SAMPLES))


def test_a_state_from_before_ranks_could_change_still_loads():
    _, state = steps(loaders_of(torch.arange(SAMPLES), None), 5)
    del state["dealt"], state["rank"]
    rest, _ = steps(loaders_of(torch.arange(SAMPLES), 3, state=state))
    assert list(chain.from_iterable(rest)) == order(SAMPLES, 0)[20:]


def noisy(sample):
    return torch.tensor([sample, torch.rand(())])


def test_augmentation_by_a_seed_is_the_same_on_any_ranks():
    store = optimize(list(range(SAMPLES)), transform=noisy)

    def augmented(loaders, taken=None):
        rows = [row for loader in loaders for batch in islice(loader, taken) for row in batch.tolist()]
        return dict(map(tuple, rows)), loaders[0].state_dict()

    whole, _ = augmented(loaders_of(store, None, 5))
    first, state = augmented(loaders_of(store, 4, 4), 1)
    second, state = augmented(loaders_of(store, 3, 2, state=state), 2)
    rest, _ = augmented(loaders_of(store, 2, 3, state=state, **KINDS["processes"]))
    assert len(whole) == SAMPLES
    assert {**first, **second, **rest} == whole


class Numbers:
    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> int:
        if index in self.bad:
            raise ValueError("bad")
        return index


class Counting(Numbers):
    """Has a state of its own."""

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(SAMPLES))


def test_from_a_single_rank_what_was_skipped_goes_on():
    bad = order(SAMPLES, 0)[1:40:4]
    arguments: dict[str, Any] = {"on_error": "skip", "error_limit": 1.0}
    for alone in (None, 1):
        first, state = steps(loaders_of(Numbers(bad), alone, 4, **arguments), 5)
        rest = [lists(loader) for loader in loaders_of(Numbers(bad), 3, state=state, **arguments)]
        came = list(chain.from_iterable(chain(first, *rest)))
        assert set(came) == set(range(SAMPLES)) - set(bad)
        assert len(came) - len(set(came)) <= 2  # the first samples again, where three ranks cannot share evenly


def state_of(loader: ReferenceLoader[Any], taken: int = 2) -> Any:
    iterator = iter(loader)
    lists(islice(iterator, taken))
    state = loader.state_dict()
    iterator.close()
    return state


OWN = "only the loader's own order (seed=, rank=, world_size=) can be dealt anew, not that of a sampler"
SKIPS: dict[str, Any] = {"batch_size": 4, "on_error": "skip", "rank": 0}
SAMPLED: dict[str, Any] = {"sampler": list(range(20))}
OWN_BATCHES = BatchSampler(SequentialSampler(range(SAMPLES)), 4, drop_last=False)
FOUR, FIVE = {"batch_size": 4}, {"batch_size": 5}
REFUSED: dict[str, tuple[Any, dict[str, Any], dict[str, Any], tuple[str, str, str]]] = {
    "shuffled without a seed": (
        Numbers(),
        FOUR | {"shuffle": True},
        FOUR | {"shuffle": True, "rank": 0, "world_size": 2},
        ("world_size=None", "world_size=2", OWN),
    ),
    "shuffled without a seed afterwards": (
        Numbers(),
        FOUR | {"shuffle": True, "rank": 0, "world_size": 2},
        FOUR | {"shuffle": True},
        ("world_size=2", "world_size=None", OWN),
    ),
    "in other batches without a seed": (
        Numbers(),
        FOUR | {"shuffle": True},
        FIVE | {"shuffle": True},
        ("batch_size=4", "batch_size=5", OWN),
    ),
    "a sampler": (Numbers(), FOUR | SAMPLED, FIVE | SAMPLED, ("batch_size=4", "batch_size=5", OWN)),
    "a sampler before": (Numbers(), FOUR | SAMPLED, FIVE, ("batch_size=4", "batch_size=5", OWN)),
    "own batches": (Numbers(), {"batch_sampler": OWN_BATCHES}, FOUR, ("batch_size=None", "batch_size=4", OWN)),
    "torch's DistributedSampler": (
        Numbers(),
        FOUR | {"sampler": DistributedSampler(range(SAMPLES), 4, 0)},
        FOUR | {"sampler": DistributedSampler(range(SAMPLES), 3, 0)},
        ("world_size=4", "world_size=3", OWN),
    ),
    "a dataset with a state": (
        Counting(),
        {"batch_size": 4, "rank": 0, "world_size": 4},
        {"batch_size": 8, "rank": 0, "world_size": 2},
        (
            "batch_size=4 and world_size=4",
            "batch_size=8 and world_size=2",
            "a dataset with a state_dict() of its own has another state on each rank",
        ),
    ),
    "skipping": (
        Numbers(),
        SKIPS | {"world_size": 4},
        SKIPS | {"world_size": 3},
        ("world_size=4", "world_size=3", "with on_error='skip' each rank left out samples of its own"),
    ),
    "an iterable dataset": (
        Stream(),
        FOUR,
        FIVE,
        ("batch_size=4", "batch_size=5", "what each rank was given of an iterable dataset is not known"),
    ),
}
over_refused = pytest.mark.parametrize("dataset, before, after, words", REFUSED.values(), ids=REFUSED)


@over_refused
def test_what_cannot_be_dealt_anew_is_refused_by_name(dataset, before, after, words):
    was, has, why = words
    state = state_of(ReferenceLoader(dataset, **before))
    with pytest.raises(DataError) as caught:
        ReferenceLoader(dataset, **after).load_state_dict(state)
    assert str(caught.value) == (
        f"expected {was} as when the state was taken, got {has}: {why}. Restart with {was}, or begin a new epoch."
    )


@over_refused
def test_between_epochs_all_but_a_dataset_with_a_state_goes_on(dataset, before, after, words):
    state = state_of(ReferenceLoader(dataset, **before), 99)
    loader = ReferenceLoader(dataset, **after)
    if isinstance(dataset, Counting):
        with pytest.raises(DataError, match="another state on each rank"):
            loader.load_state_dict(state)
    else:
        loader.load_state_dict(state)
        whole = ReferenceLoader(dataset, **after)
        assert (loader.epoch, len(lists(loader))) == (1, len(lists(whole)))


def test_an_iterable_dataset_goes_on_in_as_many_processes_alone(monkeypatch):
    loader = ReferenceLoader(Stream(), 4)
    alone = state_of(loader)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    loader.load_state_dict(alone)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    state = state_of(loader)
    loader.load_state_dict(state)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(DataError, match=r"^expected world_size=4 as when the state was taken, got world_size=3: what"):
        loader.load_state_dict(state)


@pytest.mark.parametrize("dataset, arguments", [(Numbers(), {"on_error": "skip"}), (Counting(), {})])
def test_a_state_of_one_rank_that_is_not_that_of_all_is_refused_by_another(dataset, arguments):
    first, second = loaders_of(dataset, 2, **arguments)
    state = state_of(first)
    with pytest.raises(DataError) as caught:
        second.load_state_dict(state)
    assert str(caught.value) == (
        "expected a state of rank 1, got one of rank 0: with on_error='skip', or a dataset that has a state_dict() of "
        "its own, ranks differ. Save and load one for each rank."
    )
    first.load_state_dict(state)
    assert first.state_dict()["batches"] == 2


def test_another_sampler_after_a_restart_in_other_batches_is_refused():
    loader = ReferenceLoader(Numbers(), 5)
    loader.load_state_dict(state_of(ReferenceLoader(Numbers(), 4)))
    state = loader.state_dict()
    assert state["dealt"] == 8
    for sampler in (list(range(SAMPLES)), RandomSampler(range(SAMPLES))):
        other = ReferenceLoader(Numbers(), 5, sampler=sampler)
        other.load_state_dict(state)
        with pytest.raises(
            DataError, match=r"another order|the same first 8 indices as before the restart, got others"
        ):
            lists(other)


def test_a_shuffled_dataset_that_grew_by_less_than_a_share_is_refused():
    before, after = (loaders_of(list(range(samples)), 2)[0] for samples in (49, 50))
    after.load_state_dict(state_of(before))
    with pytest.raises(
        DataError, match=r"^expected a shuffled order of 49 indices as before the restart, got one of 50"
    ):
        lists(after)


@pytest.mark.parametrize("name, value", [("world_size", 0), ("world_size", "4"), ("batch_size", -1), ("dealt", -1)])
def test_a_malformed_state_is_refused_by_name(name, value):
    (loader,) = loaders_of(Numbers(), None)
    with pytest.raises(DataError, match=f"^the state's {name} must be a whole number from"):
        loader.load_state_dict(loader.state_dict() | {name: value})
