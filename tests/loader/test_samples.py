from __future__ import annotations

import pytest
import torch
from torch.utils.data import IterableDataset

from pytest_loaderperf.loader import ReferenceLoader


class Numbers:
    """0, 1, 2 ... 9 as tensors; sample 5 raises if ``bad``."""

    def __init__(self, *, bad: bool = False) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.bad and index == 5:
            raise KeyError("broken")
        return torch.tensor(index)


class NumbersAtOnce(Numbers):
    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        assert type(indices) is list
        return torch.stack([self[i] for i in indices])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(10))


def as_list(batch: torch.Tensor) -> list[int]:
    return batch.tolist()


def broken(samples: object) -> None:
    raise ValueError("no batch")


@pytest.fixture(params=[0, 2])
def num_workers(request):
    return request.param


@pytest.mark.parametrize(
    "dataset, collate_fn, error, note",
    [
        (Numbers(bad=True), None, KeyError, "raised in stage fetch, for sample 5"),
        (NumbersAtOnce(bad=True), as_list, KeyError, "raised in stage fetch, for samples 4, 5, 6, 7"),
        (Numbers(), broken, ValueError, "raised in stage collate, for samples 0, 1, 2, 3"),
        (Stream(), broken, ValueError, "raised in stage collate, for samples of the iterable dataset"),
    ],
)
def test_a_failure_comes_with_a_note_that_names_stage_and_sample(dataset, collate_fn, error, note, num_workers):
    with ReferenceLoader(dataset, 4, collate_fn=collate_fn, num_workers=num_workers, worker_kind="threads") as loader:
        for _epoch in range(2):
            with pytest.raises(error) as caught:
                list(loader)
            assert caught.value.__notes__ == [note]


def test_a_note_about_a_large_batch_names_its_first_samples_and_their_number(num_workers):
    with (
        ReferenceLoader(Numbers(), 10, collate_fn=broken, num_workers=num_workers, worker_kind="threads") as loader,
        pytest.raises(ValueError, match="no batch") as caught,
    ):
        list(loader)
    assert caught.value.__notes__ == ["raised in stage collate, for samples 0, 1, 2, 3, ... (10 in all)"]


def test_batches_before_a_failure_are_delivered(num_workers):
    with ReferenceLoader(Numbers(bad=True), 2, num_workers=num_workers, worker_kind="threads") as loader:
        batches = iter(loader)
        assert [next(batches).tolist(), next(batches).tolist()] == [[0, 1], [2, 3]]
        with pytest.raises(KeyError, match="broken"):
            next(batches)


def test_getitems_is_preferred_and_its_result_goes_to_collate(num_workers):
    with ReferenceLoader(
        NumbersAtOnce(), 4, collate_fn=as_list, num_workers=num_workers, worker_kind="threads"
    ) as loader:
        assert list(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
