"""``on_error="skip"``: bad samples are left out and listed, batches stay full, and too many of them are an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from pytest_loaderperf.data.arrays.structure import SampleMismatchError
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, BATCH_SIZE = 50, 4
BAD = (0, 1, 7, 20, 21, 22, 23, 24, 49)
FIRST = "sample 0, ValueError: sample 0 is broken"
GOOD = [index for index in range(SAMPLES) if index not in BAD]
WORKERS: dict[str, dict[str, Any]] = {
    "here": {"num_workers": 0},
    "a thread": {"num_workers": 1, "worker_kind": "threads"},
    "threads": {"num_workers": 3, "worker_kind": "threads"},
    "left open": {},
    "a process": {"num_workers": 1, "worker_kind": "processes"},
    "processes": {"num_workers": 2, "worker_kind": "processes"},
}
over_workers = pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
here_and_apart = pytest.mark.parametrize(
    "workers", [WORKERS["here"], WORKERS["threads"], WORKERS["a process"]], ids=["here", "threads", "a process"]
)


class Numbers:
    """0, 1, 2 and so on as tensors, those in ``bad`` raise."""

    def __init__(self, bad: tuple[int, ...] = BAD) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            raise ValueError(f"sample {index} is broken")
        return torch.tensor(index)


class AtOnce(Numbers):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Shapes(Numbers):
    """Pairs of number and zeros, those in ``bad`` with one zero more."""

    def __getitem__(self, index: int) -> Any:
        return index, torch.zeros(3 if index in self.bad else 2)


def skipping(dataset: Any, **arguments: Any) -> ReferenceLoader[Any]:
    chosen = {} if "batch_sampler" in arguments else {"batch_size": BATCH_SIZE}
    return ReferenceLoader(dataset, **chosen | {"on_error": "skip", "error_limit": len(BAD)} | arguments)


def lists(batches: Any) -> list[Any]:
    return [batch.tolist() for batch in batches]


def full(indices: list[int]) -> list[list[int]]:
    return [indices[start : start + BATCH_SIZE] for start in range(0, len(indices), BATCH_SIZE)]


class TestBatches:
    @over_workers
    @pytest.mark.parametrize("dataset", [Numbers(), AtOnce()], ids=["one by one", "__getitems__"])
    def test_stay_full_and_in_order(self, dataset, workers):
        with skipping(dataset, **workers) as loader:
            for _ in range(2):
                assert lists(loader) == full(GOOD)

    @over_workers
    def test_of_a_shuffled_epoch_come_in_its_order(self, workers):
        order = lists(ReferenceLoader(Numbers(bad=()), 1, shuffle=True, seed=6, num_workers=0))
        with skipping(Numbers(), shuffle=True, seed=6, **workers) as loader:
            assert lists(loader) == full([index for (index,) in order if index not in BAD])

    @here_and_apart
    def test_are_all_full_with_drop_last(self, workers):
        with skipping(Numbers(), drop_last=True, **workers) as loader:
            assert lists(loader) == full(GOOD)[:-1]

    @pytest.mark.parametrize("workers", [{"num_workers": 0}, WORKERS["a process"]])
    def test_of_arrays_obey_drop_last_though_nothing_can_fail_there(self, workers):
        with skipping(torch.arange(10), drop_last=True, **workers) as loader:
            assert lists(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]

    @here_and_apart
    def test_that_the_sampler_makes_only_get_shorter_and_the_empty_ones_are_left_out(self, workers):
        batches = [[0, 2, 3], [20, 21], [4], [49], [5, 7, 6, 8], [1, 22]]
        with skipping(Numbers(), batch_sampler=batches, **workers) as loader:
            assert lists(loader) == [[2, 3], [4], [5, 6, 8]]
            assert [skipped.index for skipped in loader.skipped] == [0, 20, 21, 49, 7, 1, 22]

    @here_and_apart
    def test_of_no_size_are_the_samples_that_came(self, workers):
        with skipping(Numbers(), batch_size=None, **workers) as loader:
            assert lists(loader) == GOOD
            assert tuple(skipped.index for skipped in loader.skipped) == BAD

    @here_and_apart
    def test_that_are_kept_are_never_overwritten(self, workers):
        with skipping(Numbers(), **workers) as loader:
            kept = list(loader)
            lists(loader)
            assert lists(kept) == full(GOOD)

    def test_keep_the_memory_budget(self):
        with skipping(Numbers(), num_workers=3, worker_kind="threads", memory_budget=3 * BATCH_SIZE * 8) as loader:
            assert lists(loader) == full(GOOD)

    @here_and_apart
    def test_are_none_where_every_sample_fails(self, workers):
        with skipping(Numbers(bad=tuple(range(SAMPLES))), error_limit=1.0, **workers) as loader:
            assert list(loader) == []
            assert len(loader.skipped) == SAMPLES

    def test_can_be_left_early_and_begun_anew(self):
        with skipping(Numbers(), **WORKERS["threads"]) as loader:
            for _ in range(3):
                assert lists(islice(loader, 2)) == full(GOOD)[:2]
            assert lists(loader) == full(GOOD)

    @here_and_apart
    def test_from_many_small_tensors_take_no_open_file_for_each(self, workers):
        resource = pytest.importorskip("resource")  # which not every system has
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        try:
            with skipping(Shapes(bad=()), batch_size=SAMPLES, sampler=[*range(SAMPLES)] * 20, **workers) as loader:
                assert sum(len(numbers) for numbers, _ in loader) == 20 * SAMPLES
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @pytest.mark.parametrize(
        "sample",
        [
            torch.ones(3, dtype=torch.bfloat16),
            torch.ones(2, 3).T,
            torch.tensor([1 + 2j]).conj(),
            torch.ones(2).expand(3, 2),
            np.ones(3, "f4"),
            {"a": (torch.tensor(1), "b", None)},
        ],
        ids=["bfloat16", "transposed", "conjugated", "expanded", "array", "nested"],
    )
    def test_from_a_process_are_those_made_here(self, sample):
        here, apart = (skipping([sample] * 3, **WORKERS[kind]) for kind in ("here", "a process"))
        with apart:
            (ours,), (theirs,) = list(here), list(apart)
        assert str(ours) == str(theirs)
        assert type(ours) is type(theirs)


class TestSkipped:
    @over_workers
    def test_lists_index_and_error(self, workers):
        with skipping(Numbers(), **workers) as loader:
            assert loader.skipped == []
            lists(loader)
            assert loader.skipped == [(index, f"ValueError: sample {index} is broken") for index in BAD]

    @here_and_apart
    def test_begins_anew_with_each_epoch(self, workers):
        with skipping(Numbers(bad=(3,)), **workers) as loader:
            for _ in range(3):
                lists(loader)
                assert [skipped.index for skipped in loader.skipped] == [3]
            iter(loader)
            assert loader.skipped == []

    def test_grows_as_the_epoch_goes_on(self):
        loader = skipping(Numbers(), num_workers=0)
        batches = iter(loader)
        next(batches)
        assert [skipped.index for skipped in loader.skipped] == [0, 1]
        next(batches)
        assert [skipped.index for skipped in loader.skipped] == [0, 1, 7]

    @here_and_apart
    def test_names_keys_that_are_no_numbers(self, workers):
        with skipping(Keyed(), sampler=["a", "b", "c"], **workers) as loader:
            assert lists(loader) == [[1, 3]]
            assert loader.skipped == [("b", "LookupError: no b here")]

    def test_is_empty_where_errors_are_raised(self):
        assert ReferenceLoader(Numbers()).skipped == []


class Keyed:
    def __getitem__(self, key: str) -> int:
        if key == "b":
            raise LookupError("no b here")
        return {"a": 1, "c": 3}[key]


class TestTheLimit:
    @here_and_apart
    @pytest.mark.parametrize("limit", [len(BAD), len(BAD) / SAMPLES, 1.0])
    def test_as_count_or_share_may_be_reached(self, limit, workers):
        with skipping(Numbers(), error_limit=limit, **workers) as loader:
            assert lists(loader) == full(GOOD)

    @pytest.mark.parametrize("workers", [WORKERS["here"], WORKERS["threads"]], ids=["here", "threads"])
    @pytest.mark.parametrize("limit", [8, 0.16])
    def test_may_not_be_exceeded_by_one(self, limit, workers):
        with skipping(Numbers(), error_limit=limit, **workers) as loader:
            came = []
            with pytest.raises(ValueError, match="sample 49 is broken") as caught:
                came.extend(loader)
        assert lists(came) == full(GOOD)[:10]
        assert caught.value.__notes__ == [
            "raised in stage fetch, for sample 49",
            f"on_error='skip': 9 of 50 samples failed, which is more than error_limit={limit} allows. First: {FIRST}",
        ]
        assert [entry.name for entry in caught.traceback][-1] == "__getitem__"

    def test_exceeded_in_a_process_raises_what_is_left_of_the_exception(self):
        with (
            skipping(Numbers(), error_limit=1, **WORKERS["a process"]) as loader,
            pytest.raises(RuntimeError) as caught,
        ):
            lists(loader)
        first, *traceback, last, note = str(caught.value).strip().splitlines()
        assert (first, last) == ("Caught in a worker process.", "ValueError: sample 1 is broken")
        assert traceback[0] == "Original Traceback (most recent call last):"
        assert note == "raised in stage fetch, for sample 1"
        assert caught.value.__notes__ == [
            f"on_error='skip': 2 of 50 samples failed, which is more than error_limit=1 allows. First: {FIRST}"
        ]

    @pytest.mark.parametrize("limit", [0, 0.0])
    def test_of_none_raises_at_the_first(self, limit):
        loader = skipping(Numbers(bad=(5,)), error_limit=limit, num_workers=0)
        batches = iter(loader)
        assert next(batches).tolist() == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="sample 5 is broken") as caught:
            next(batches)
        assert caught.value.__notes__[1] == (
            f"on_error='skip': 1 of 50 samples failed, which is more than error_limit={limit} allows. "
            "First: sample 5, ValueError: sample 5 is broken"
        )

    def test_as_a_share_is_rounded_up_to_whole_samples(self):
        assert len(lists(skipping(Numbers(bad=(5,)), error_limit=0.001, num_workers=0))) == 13

    def test_by_default_is_a_twentieth(self):
        def loader(bad: int) -> ReferenceLoader[Any]:
            return ReferenceLoader(Numbers(bad=tuple(range(bad))), BATCH_SIZE, on_error="skip", num_workers=0)

        assert len(lists(loader(3))) == 12
        with pytest.raises(ValueError, match="sample 3 is broken"):
            lists(loader(4))

    def test_as_a_share_is_one_of_the_ranks_share(self):
        loader = skipping(Numbers(bad=(0, 2, 4)), error_limit=0.1, rank=0, world_size=2, num_workers=0)
        assert len(lists(loader)) == 6
        assert len(loader.skipped) == 3

    def test_counts_each_epoch_for_itself(self):
        loader = skipping(Numbers(), num_workers=0)
        for _ in range(3):
            assert lists(loader) == full(GOOD)


class TestOtherShapes:
    @here_and_apart
    @pytest.mark.parametrize("odd", [(5,), (4,), (7,), (4, 13), (48,), (0,), (5, 6), (9, 10)])
    def test_are_skipped_wherever_in_a_batch_they_are(self, odd, workers):
        with skipping(Shapes(bad=odd), **workers) as loader:
            came = list(loader)
            assert [numbers.tolist() for numbers, _ in came] == full([i for i in range(SAMPLES) if i not in odd])
            assert all(zeros.shape[1:] == (2,) for _, zeros in came)
            assert [skipped.index for skipped in loader.skipped] == list(odd)

    @pytest.mark.parametrize("odd, position", [(6, 2), (4, 1)], ids=["in the middle", "at the front"])
    def test_are_listed_with_what_was_expected_and_what_came(self, odd, position):
        loader = skipping(Shapes(bad=(odd,)), num_workers=0)
        list(loader)
        ((index, error),) = loader.skipped
        assert index == odd
        assert error.startswith(
            f"SampleMismatchError: sample {position} of the batch differs in field '[1]': "
            "expected torch.float32 tensor of shape (2,), got torch.float32 tensor of shape (3,)."
        )

    def test_count_towards_the_limit(self):
        loader = skipping(Shapes(bad=(6, 9)), error_limit=1, num_workers=0)
        with pytest.raises(SampleMismatchError) as caught:
            list(loader)
        assert caught.value.__notes__[-1].startswith(
            "on_error='skip': 2 of 50 samples failed, which is more than error_limit=1 allows. First: sample 6, "
        )

    def test_of_whole_batches_are_taken_for_what_they_are(self):
        """A batch may differ from the one before, as where a sampler puts samples of one length together."""
        batches = [[1, 2, 3], [10, 11, 12], [4, 5, 6], [13, 20, 14]]
        loader = skipping(Shapes(bad=(10, 11, 12, 13, 14)), batch_sampler=batches, num_workers=0)
        assert [numbers.tolist() for numbers, _ in loader] == [[1, 2, 3], [10, 11, 12], [4, 5, 6], [13, 14]]
        assert [skipped.index for skipped in loader.skipped] == [20]


@here_and_apart
def test_an_error_of_the_collate_function_is_raised(workers):
    with (
        skipping(Numbers(bad=()), collate_fn=refuse, **workers) as loader,
        pytest.raises(ArithmeticError, match="no batch") as caught,
    ):
        list(loader)
    assert caught.value.__notes__ == ["raised in stage collate, for samples 0, 1, 2, 3"]


def refuse(samples: Any) -> Any:
    raise ArithmeticError("no batch")


@here_and_apart
def test_an_own_collate_function_gets_what_torch_would_give_it(workers):
    with skipping(Numbers(), collate_fn=list, **workers) as loader:
        assert [[sample.item() for sample in batch] for batch in loader] == full(GOOD)


@pytest.mark.parametrize("workers", [WORKERS["here"], WORKERS["threads"]], ids=["here", "threads"])
def test_at_most_ten_an_epoch_are_logged_one_by_one(caplog, workers):
    caplog.set_level(logging.WARNING, "pytest_loaderperf")
    with skipping(Numbers(bad=tuple(range(30))), error_limit=30, **workers) as loader:
        for _ in range(2):
            caplog.clear()
            lists(loader)
            logged = [record.getMessage() for record in caplog.records if record.name == "pytest_loaderperf"]
            assert logged == [f"skipped sample {index}: ValueError: sample {index} is broken" for index in range(10)]


def test_an_iterable_dataset_cannot_skip():
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    with pytest.raises(DataError) as caught:
        ReferenceLoader(Stream(), on_error="skip")
    assert str(caught.value) == (
        "on_error='skip' needs a map-style dataset: an iterator that has raised is at its end, and what it would have "
        "given is lost. Catch the error inside the dataset's __iter__."
    )
