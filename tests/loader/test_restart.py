"""Restarting in the middle of an epoch: what a state holds, whom it fits, and what goes on as if nothing had been."""

from __future__ import annotations

import json
import pickle
import time
from itertools import islice, product
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, BATCH_SIZE = 50, 4
BATCHES = 13
PATIENCE_S = 60
ARRAY = torch.arange(SAMPLES)
KINDS: dict[str, dict[str, Any]] = {
    "here": {"num_workers": 0},
    "a thread": {"num_workers": 1, "worker_kind": "threads"},
    "threads": {"num_workers": 3, "worker_kind": "threads"},
    "auto": {},
    "a process": {"num_workers": 1, "worker_kind": "processes"},
    "processes": {"num_workers": 2, "worker_kind": "processes"},
}
FEW_KINDS = ("here", "threads", "processes")
over_kinds = pytest.mark.parametrize("kind", FEW_KINDS)


class Numbers:
    """0, 1, 2 and so on; those in ``bad`` raise."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad
        self.fetched = 0

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> torch.Tensor:
        self.fetched += 1
        if index in self.bad:
            raise ValueError(f"sample {index} is broken")
        return torch.tensor(index)


class Count(IterableDataset):
    def __init__(self) -> None:
        self.given = 0

    def __iter__(self):
        for number in range(SAMPLES):
            self.given += 1
            yield number


@pytest.fixture
def make():
    made = []

    def make_one(dataset: Any = None, kind: str = "here", **arguments: Any) -> ReferenceLoader[Any]:
        dataset = Numbers() if dataset is None else dataset
        chosen = {} if "batch_sampler" in arguments else {"batch_size": BATCH_SIZE}
        made.append(ReferenceLoader(dataset, **chosen | KINDS[kind] | arguments))
        return made[-1]

    yield make_one
    for loader in made:
        loader.close()


def lists(batches: Any) -> list[Any]:
    return [batch.tolist() for batch in batches]


def goes_on(make_loader, taken: int, epochs: int = 2) -> tuple[list[Any], list[Any]]:
    """What comes after ``taken`` batches of the second epoch, from the loader itself and from a restarted one.

    Where nothing of that epoch is left, the next one comes.
    """
    loader = make_loader()
    lists(loader)
    iterator = iter(loader)
    lists(islice(iterator, taken))
    state = loader.state_dict()
    rest = lists(iterator)
    kept = [rest] * bool(rest) + [lists(loader) for _ in range(epochs + (not rest))]
    restarted = make_loader()
    restarted.load_state_dict(state)
    return kept, [lists(restarted) for _ in range(epochs + 1)]


class TestTheState:
    def test_counts_batches_that_were_delivered_not_those_made_ahead(self, make):
        dataset = Numbers()
        loader = make(dataset, "threads", prefetch_factor=4)
        iterator = iter(loader)
        assert loader.state_dict()["batches"] == 0
        next(iterator)
        for delivered in (2, 3, 4):
            next(iterator)
            deadline_s = time.monotonic() + PATIENCE_S
            while dataset.fetched <= (delivered + 3) * BATCH_SIZE:
                assert time.monotonic() < deadline_s
                time.sleep(0.001)
            assert loader.state_dict()["batches"] == delivered

    def test_of_processes_counts_no_batch_that_waits_in_their_queue(self, make):
        loader = make(kind="processes", prefetch_factor=4)
        iterator = iter(loader)
        lists(islice(iterator, 3))
        assert loader.state_dict()["batches"] == 3

    def test_says_how_far_the_epoch_is_and_what_must_stay_the_same(self, make):
        loader = make(shuffle=True, seed=7, rank=1, world_size=2)
        lists(loader)
        next(iter(loader))
        assert loader.state_dict() == {
            "epoch": 1,
            "batches": 1,
            "skipped": 0,
            "dealt": 0,
            "order_seed": None,
            "draws_seed": False,
            "generator_state": None,
            "default_state": None,
            "indices": None,
            "samples": 50,
            "sampler_epoch": None,
            "shards": None,
            "states": {},
            "rank": None,
            "batch_size": BATCH_SIZE,
            "world_size": 2,
            "shuffle": True,
            "seed": 7,
        }

    @pytest.mark.parametrize("taken", [0, 3])
    @pytest.mark.parametrize("with_generator", [False, True])
    def test_is_plain_data_that_every_format_keeps(self, make, tmp_path, taken, with_generator):
        loader = make(shuffle=True, generator=torch.Generator() if with_generator else None)
        iterator = iter(loader)
        lists(islice(iterator, taken))
        state = loader.state_dict()
        torch.save(state, tmp_path / "state.pt")
        came = torch.load(tmp_path / "state.pt", weights_only=True), pickle.loads(pickle.dumps(state))  # noqa: S301 ours
        generator_state = state.pop("generator_state")
        assert isinstance(generator_state, torch.Tensor) is with_generator
        for copy in came:
            assert not with_generator or torch.equal(copy["generator_state"], generator_state)
            del copy["generator_state"]
            assert copy == state
        assert json.loads(json.dumps(state)) == state

    def test_is_not_changed_by_going_on(self, make):
        loader = make()
        iterator = iter(loader)
        next(iterator)
        state = loader.state_dict()
        next(iterator)
        assert state["batches"] == 1

    def test_just_loaded_is_given_back(self, make):
        loader = make(shuffle=True, generator=torch.Generator().manual_seed(3))
        next(iter(loader))
        state = loader.state_dict()
        other = make(shuffle=True, generator=torch.Generator().manual_seed(4))
        lists(other)
        other.load_state_dict(state)
        again = other.state_dict()
        assert torch.equal(again.pop("generator_state"), state.pop("generator_state"))
        assert again == state


class TestTheOrderGoesOn:
    @pytest.mark.parametrize("taken", [0, 1, 5, BATCHES])
    @pytest.mark.parametrize("dataset", [None, ARRAY], ids=["map-style", "array"])
    def test_with_a_seed(self, make, dataset, taken):
        kept, came = goes_on(lambda: make(dataset, "threads", shuffle=True, seed=3), taken)
        assert came == kept

    @pytest.mark.parametrize("dataset", [None, ARRAY], ids=["map-style", "array"])
    @pytest.mark.parametrize(
        "kind, taken", [("here", 0), ("here", 5), ("threads", 1), ("threads", 5), ("processes", 5)]
    )
    def test_with_a_generator_that_the_new_loader_has_anew(self, make, dataset, kind, taken):
        kept, came = goes_on(
            lambda: make(dataset, kind, shuffle=True, generator=torch.Generator().manual_seed(3)), taken
        )
        assert came == kept
        assert len({str(epoch) for epoch in kept}) == 3

    @pytest.mark.parametrize("batch_size", [BATCH_SIZE, None])
    @over_kinds
    def test_of_the_epoch_with_torchs_default_generator(self, make, kind, batch_size):
        kept, came = goes_on(lambda: make(None, kind, shuffle=True, batch_size=batch_size), 5, epochs=1)
        assert came[0] == kept[0]
        assert came[1] != kept[1]

    @pytest.mark.parametrize("kind, taken", [("here", 5), ("threads", 0)])
    @pytest.mark.parametrize(
        "make_sampler",
        [
            lambda generator: WeightedRandomSampler(torch.arange(SAMPLES) + 1.0, SAMPLES, generator=generator),
            lambda generator: SubsetRandomSampler(range(0, SAMPLES, 2), generator=generator),
            lambda generator: RandomSampler(range(SAMPLES), replacement=True, generator=generator),
            lambda generator: RandomSampler(range(SAMPLES), num_samples=30, generator=generator),
        ],
        ids=["weighted", "subset", "with replacement", "fewer"],
    )
    def test_of_a_sampler_with_a_generator(self, make, make_sampler, kind, taken):
        kept, came = goes_on(lambda: make(None, kind, sampler=make_sampler(torch.Generator().manual_seed(3))), taken)
        assert came == kept
        assert kept[1] != kept[2]

    @over_kinds
    @pytest.mark.parametrize(
        "sampling",
        [
            {"sampler": list(range(SAMPLES))[::-1]},
            {"batch_sampler": BatchSampler(SequentialSampler(ARRAY), 7, drop_last=True)},
            {"batch_sampler": [[5], [1, 2, 3], [9, 8], [7], [6, 4, 0], [11, 12], [13]]},
        ],
        ids=["sampler", "batch_sampler", "batches of varying size"],
    )
    def test_of_an_own_sampler_that_gives_the_same_again(self, make, sampling, kind):
        kept, came = goes_on(lambda: make(None, kind, **sampling), 3)
        assert came == kept

    @pytest.mark.parametrize("before, after", list(product(KINDS, KINDS)))
    def test_on_another_kind_and_number_of_workers(self, make, before, after):
        first, second = make(None, before, shuffle=True, seed=3), make(None, after, shuffle=True, seed=3)
        iterator = iter(first)
        lists(islice(iterator, 5))
        second.load_state_dict(first.state_dict())
        assert lists(second) == lists(iterator)

    @pytest.mark.parametrize("before, after", list(product(FEW_KINDS, FEW_KINDS)))
    def test_on_another_kind_of_workers_over_an_array_by_a_generator(self, make, before, after):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        first, second = (
            make(ARRAY, kind, shuffle=True, generator=generator)
            for kind, generator in zip((before, after), generators, strict=True)
        )
        iterator = iter(first)
        lists(islice(iterator, 5))
        second.load_state_dict(first.state_dict())
        assert lists(second) == lists(iterator)

    @pytest.mark.parametrize("epochs", [0, 2])
    @over_kinds
    def test_in_a_loader_that_was_in_use(self, make, kind, epochs):
        loader = make(None, kind, shuffle=True, seed=3)
        for _ in range(epochs):
            lists(loader)
        iterator = iter(loader)
        lists(islice(iterator, 5))
        state = loader.state_dict()
        rest = lists(iterator)
        lists(loader)
        loader.load_state_dict(state)
        assert lists(loader) == rest
        assert loader.epoch == epochs + 1

    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("batch_size, taken", [(BATCH_SIZE, 12), (None, 3)])
    def test_of_an_iterable_dataset_by_passing_over_what_was_delivered(self, make, num_workers, batch_size, taken):
        first, dataset = make(Count(), batch_size=batch_size), Count()
        second = make(dataset, batch_size=batch_size, num_workers=num_workers, worker_kind="threads")
        iterator = iter(first)
        for _ in range(taken // (batch_size or 1)):
            next(iterator)
        second.load_state_dict(first.state_dict())
        batches = iter(second)
        assert dataset.given == 0
        came = next(batches)
        assert came == taken if batch_size is None else came.tolist() == [12, 13, 14, 15]
        assert dataset.given >= taken + (batch_size or 1)

    @over_kinds
    def test_behind_a_batch_that_raised(self, make, kind):
        loader = make(Numbers(bad=(9,)), kind)
        iterator = iter(loader)
        lists(islice(iterator, 2))
        with pytest.raises(ValueError, match="sample 9 is broken") as caught:
            next(iterator)
        caught.value.with_traceback(None)  # torch's error hangs in a cycle with the iterator, slow to collect
        assert loader.state_dict()["batches"] == 2
        assert next(iterator).tolist() == [12, 13, 14, 15]
        assert loader.state_dict()["batches"] == 4
        other = make(None, kind)
        other.load_state_dict(loader.state_dict())
        assert lists(other) == lists(iterator)


class TestSkipping:
    BAD = (1, 2, 9, 15, 30, 31, 49)

    def all_good(self, order: Any = range(SAMPLES)) -> list[int]:
        return [index for index in order if index not in self.BAD]

    @pytest.mark.parametrize("taken", range(11))
    def test_each_good_sample_comes_once_wherever_it_was_restarted(self, make, taken):
        loaders = [make(Numbers(self.BAD), on_error="skip", error_limit=7) for _ in range(2)]
        iterator = iter(loaders[0])
        came = lists(islice(iterator, taken))
        loaders[1].load_state_dict(loaders[0].state_dict())
        came += lists(loaders[1])
        assert [len(batch) for batch in came] == [4] * 10 + [3]
        assert [index for batch in came for index in batch] == self.all_good()

    @over_kinds
    def test_after_the_last_batch_the_next_epoch_is_whole(self, make, kind):
        loaders = [make(Numbers(self.BAD), kind, on_error="skip", error_limit=7) for _ in range(2)]
        iterator = iter(loaders[0])
        whole = lists(islice(iterator, 11))
        loaders[1].load_state_dict(loaders[0].state_dict())
        assert lists(loaders[1]) == whole

    @pytest.mark.parametrize("before, after", list(product(FEW_KINDS, FEW_KINDS)))
    def test_shuffled_on_other_workers(self, make, before, after):
        loaders = [
            make(Numbers(self.BAD), kind, on_error="skip", error_limit=1.0, shuffle=True, seed=1)
            for kind in (before, after)
        ]
        iterator = iter(loaders[0])
        lists(islice(iterator, 5))
        state = loaders[0].state_dict()
        loaders[1].load_state_dict(state)
        assert lists(loaders[1]) == lists(iterator)
        assert lists(loaders[1]) == lists(loaders[0])

    @over_kinds
    def test_of_own_batches_some_of_which_were_left_out(self, make, kind):
        batches = [[0, 3], [1, 2], [4, 9], [5, 6, 7], [30, 31], [8], [10, 15, 11]]
        loaders = [
            make(Numbers(self.BAD), kind, batch_sampler=batches, on_error="skip", error_limit=7) for _ in range(2)
        ]
        iterator = iter(loaders[0])
        assert lists(islice(iterator, 2)) == [[0, 3], [4]]
        loaders[1].load_state_dict(loaders[0].state_dict())
        assert lists(loaders[1]) == lists(iterator) == [[5, 6, 7], [8], [10, 11]]

    @over_kinds
    def test_of_single_samples(self, make, kind):
        loaders = [make(Numbers(self.BAD), kind, batch_size=None, on_error="skip", error_limit=7) for _ in range(2)]
        iterator = iter(loaders[0])
        assert lists(islice(iterator, 2)) == [0, 3]
        loaders[1].load_state_dict(loaders[0].state_dict())
        assert lists(loaders[1]) == lists(iterator) == self.all_good()[2:]


class TestTheNextEpoch:
    @over_kinds
    def test_counts_on_from_the_restarted_one(self, make, kind):
        loader = make(None, kind, seed=1, shuffle=True)
        loader.set_epoch(4)
        next(iter(loader))
        other = make(None, kind, seed=1, shuffle=True)
        other.load_state_dict(loader.state_dict())
        assert other.epoch == 4
        lists(other)
        assert (other.epoch, other.state_dict()["epoch"], other.state_dict()["batches"]) == (5, 5, 0)

    def test_set_epoch_to_the_one_that_was_loaded_keeps_the_place_in_it(self, make):
        loader = make()
        loader.load_state_dict(make().state_dict() | {"epoch": 3, "batches": 12})
        loader.set_epoch(3)
        assert lists(loader) == [[48, 49]]

    def test_set_epoch_to_another_one_begins_that_from_its_start(self, make):
        loader = make(seed=1, shuffle=True)
        loader.load_state_dict(loader.state_dict() | {"epoch": 3, "batches": 12})
        loader.set_epoch(4)
        wanted = make(seed=1, shuffle=True)
        wanted.set_epoch(4)
        assert lists(loader) == lists(wanted)


class TestAWrongState:
    def refusal(self, loader, state: Any) -> str:
        with pytest.raises(DataError) as caught:
            loader.load_state_dict(state)
        return str(caught.value)

    @pytest.mark.parametrize("state", [None, [], {}, {"epoch": 1}], ids=repr)
    def test_that_is_none_of_ours_is_refused(self, make, state):
        assert self.refusal(make(), state) == (
            "expected what state_dict() gives, with epoch, batches, skipped, dealt, order_seed, draws_seed, "
            "generator_state, default_state, indices, samples, sampler_epoch, shards, states, rank, batch_size, "
            f"world_size, shuffle, seed, got {state!r}."
        )

    @pytest.mark.parametrize(
        "arguments, name, was, has",
        [
            ({"shuffle": True}, "shuffle", False, True),
            ({"seed": 1}, "seed", None, 1),
        ],
    )
    def test_of_another_order_is_refused(self, make, arguments, name, was, has):
        assert self.refusal(make(**arguments), make().state_dict()) == (
            f"the state was taken with {name}={was!r}, but this loader has {has!r}, so its order would be another. "
            "Give it the same, or begin a new epoch."
        )

    def test_with_a_generator_fits_no_loader_without_one(self, make):
        loaders = make(shuffle=True, generator=torch.Generator()), make(shuffle=True)
        assert self.refusal(loaders[1], loaders[0].state_dict()) == (
            "the state was taken with a generator, but this loader's sampler has none, so its order would be another."
        )
        assert self.refusal(loaders[0], loaders[1].state_dict()) == (
            "the state was taken without a generator, but this loader's sampler has one, so its order would be another."
        )

    @pytest.mark.parametrize("arguments", [{}, {"seed": 1}, {"shuffle": True}, {"rank": 1, "world_size": 2}], ids=str)
    @pytest.mark.parametrize("place", [{"batches": 10**9}, {"dealt": 10**9}, {"skipped": 10**9}], ids=str)
    def test_beyond_the_end_of_an_epoch_is_refused(self, make, arguments, place):
        loader = make(**arguments)
        state = loader.state_dict() | place
        after = place.get("dealt") or (place.get("skipped") or 4 * 10**9) * (loader.world_size or 1)
        assert self.refusal(loader, state) == (
            f"expected a state after at most 50 samples of an epoch, got one after {after}. Restart with the dataset "
            "that it was taken with, or begin a new epoch."
        )

    def test_of_a_longer_dataset_is_refused_and_of_a_shorter_one_goes_on(self, make):
        longer = make(torch.arange(100))
        iterator = iter(longer)
        lists(islice(iterator, 14))
        assert "after at most 50 samples of an epoch, got one after 56." in self.refusal(make(), longer.state_dict())
        shorter = make()
        lists(islice(iter(shorter), 12))
        longer.load_state_dict(shorter.state_dict())
        assert [index for batch in lists(longer) for index in batch] == list(range(48, 100))

    @pytest.mark.parametrize("name", ["epoch", "batches", "skipped", "dealt"])
    def test_with_a_negative_count_is_refused(self, make, name):
        said = f"the state's {name} must be a whole number from 0 up, got -1."
        assert self.refusal(make(), make().state_dict() | {name: -1}) == said

    def test_after_more_than_any_run_delivers_is_refused(self, make):
        for loader in (make(Count()), make(sampler=SubsetRandomSampler(range(SAMPLES)))):
            said = self.refusal(loader, loader.state_dict() | {"batches": 10**30})
            assert said.startswith(f"expected a state after at most {1 << 48} samples of an epoch, got one after 4")

    @pytest.mark.parametrize(
        "kind, batch_size, batches, said, given",
        [
            ("here", 4, 14, "56 samples", 50),
            ("a thread", None, 51, "51 samples", 50),
            ("a process", 4, 14, "14 batches", 13),
        ],
    )
    def test_of_a_longer_iterable_dataset_is_refused_where_it_ends(  # noqa: PLR0917 as pytest names them
        self, make, kind, batch_size, batches, said, given
    ):
        loader = make(Count(), kind, batch_size=batch_size)
        loader.load_state_dict(loader.state_dict() | {"batches": batches})
        with pytest.raises(DataError) as caught:
            lists(loader)
        assert str(caught.value) == (
            f"expected the iterable dataset to give the same {said} as before the restart, got {given}. Restart with "
            "the same dataset, or begin a new epoch."
        )
        assert sum(1 for _ in loader) == (50 if batch_size is None else 13)

    def test_far_beyond_the_end_of_an_iterable_dataset_in_processes_is_refused_at_once(self, make):
        loader = make(Count(), "a process")
        loader.load_state_dict(loader.state_dict() | {"batches": 10**9})
        with pytest.raises(DataError, match="the same 1000000000 batches as before the restart, got 13"):
            iter(loader)

    def test_leaves_the_loader_as_it_was(self, make):
        loader = make()
        iterator = iter(loader)
        next(iterator)
        self.refusal(loader, loader.state_dict() | {"seed": 9})
        assert loader.state_dict()["batches"] == 1
        assert lists(loader)[0] == [0, 1, 2, 3]
