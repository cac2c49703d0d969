"""Datasets that write their samples to the rows of the batch by ``__getitem_into__``."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, random_split

from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, SIDE = 50, 24
BATCH_SIZE = 8


@dataclass
class Picture:
    pixels: torch.Tensor
    at: int


STRUCTURES = {
    "tuple": lambda pixels, at: (pixels, at),
    "dict": lambda pixels, at: {"pixels": pixels, "where": {"at": at}},
    "flat dict": lambda pixels, at: {"pixels": pixels, "at": at},
    "dataclass": Picture,
    "alone": lambda pixels, _at: pixels,
    "list": lambda pixels, at: [pixels, at],
}


def the_pixels(sample):
    if isinstance(sample, Picture):
        return sample.pixels
    if isinstance(sample, dict):
        return sample["pixels"]
    return sample if isinstance(sample, torch.Tensor | np.ndarray) else sample[0]


class Pictures:
    """Sample ``i`` is made of ``i`` alone, and written to what it is given."""

    def __init__(self, structure="tuple", kind=torch.Tensor, dtype=np.uint8, side=SIDE):
        self.structure, self.kind, self.dtype, self.side = STRUCTURES[structure], kind, dtype, side
        self.written, self.fetched = [], []

    def __len__(self):
        return SAMPLES

    def pixels(self, index):
        return np.full((self.side, self.side, 3), index, self.dtype)

    def __getitem__(self, index):
        self.fetched.append(index)
        pixels = self.pixels(index)
        return self.structure(pixels if self.kind is np.ndarray else torch.from_numpy(pixels), index)

    def __getitem_into__(self, index, out):
        self.written.append(index)
        pixels = the_pixels(out)
        assert isinstance(pixels, self.kind)
        assert pixels.shape == (self.side, self.side, 3)
        pixels[:] = index
        return self.structure(pixels, index)


def same(left, right):
    if isinstance(left, Picture):
        left, right = vars(left), vars(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return all(same(*both) for both in zip(left, right, strict=True))
    return torch.equal(left, right) and left.dtype == right.dtype


class Plain(Pictures):
    __getitem_into__ = None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("side", [1, SIDE, 200])
@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
@pytest.mark.parametrize("structure", list(STRUCTURES))
def test_batches_are_those_of_getitem_written_in_place(structure, kind, side, workers):
    dataset = Pictures(structure, kind, side=side)
    torch.manual_seed(0)
    with ReferenceLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=workers, worker_kind="threads") as loader:
        batches = [batch for _epoch in range(2) for batch in loader]
    torch.manual_seed(0)
    with ReferenceLoader(
        Plain(structure, kind, side=side), BATCH_SIZE, shuffle=True, num_workers=workers, worker_kind="threads"
    ) as loader:
        expected = [batch for _epoch in range(2) for batch in loader]
    assert len(batches) == len(expected)
    assert all(map(same, batches, expected))
    assert sorted(dataset.written + dataset.fetched) == sorted([*range(SAMPLES)] * 2)
    assert len(dataset.fetched) <= BATCH_SIZE * (1 + workers)  # the first batches show what samples are like


def test_a_batch_is_the_memory_that_was_written_to():
    places = {}

    class Noting(Pictures):
        def __getitem_into__(self, index, out):
            places[index] = out[0].data_ptr()
            return super().__getitem_into__(index, out)

    for pixels, numbers in ReferenceLoader(Noting(), BATCH_SIZE, num_workers=0):
        for row, number in zip(pixels, numbers.tolist(), strict=True):
            if number in places:
                assert places[number] == row.data_ptr()
    assert len(places) == SAMPLES - BATCH_SIZE


@pytest.mark.parametrize(
    "wrap", [lambda dataset: Subset(dataset, range(10, 40)), lambda dataset: random_split(dataset, [30, 20])[0]]
)
def test_a_subset_asks_its_dataset_to_write(wrap):
    dataset = Pictures()
    loader = ReferenceLoader(wrap(dataset), BATCH_SIZE, num_workers=0)
    for pixels, numbers in loader:
        assert pixels[:, 0, 0, 0].tolist() == numbers.tolist()
    assert len(dataset.written) == 30 - BATCH_SIZE


def test_what_is_returned_counts_not_what_was_written():
    class Other(Pictures):
        def __getitem_into__(self, index, out):
            out[0][:] = 99
            if index % 2:
                return torch.from_numpy(self.pixels(index)), index
            return super().__getitem_into__(index, out)

    for pixels, numbers in ReferenceLoader(Other(), BATCH_SIZE, num_workers=0):
        assert pixels[:, -1, -1, -1].tolist() == numbers.tolist()


@pytest.mark.parametrize("shape", [(SIDE, SIDE, 4), (SIDE + 1, SIDE, 3)])
def test_a_sample_of_another_shape_is_the_error_that_it_is_without(shape):
    class Odd(Pictures):
        def __getitem__(self, index):
            return (torch.zeros(shape, dtype=torch.uint8), index) if index == 20 else super().__getitem__(index)

        def __getitem_into__(self, index, out):
            return self[index] if index == 20 else super().__getitem_into__(index, out)

    with pytest.raises(RuntimeError, match=r"sample 4 of the batch differs in field '\[0\]'"):
        list(ReferenceLoader(Odd(), BATCH_SIZE, num_workers=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_says_which_sample_raised_it(workers):
    class Broken(Pictures):
        def __getitem_into__(self, index, out):
            if index == 21:
                raise ValueError("cut")
            return super().__getitem_into__(index, out)

    loader = ReferenceLoader(Broken(), BATCH_SIZE, num_workers=workers, worker_kind="threads")
    with loader, pytest.raises(ValueError, match="cut") as caught:
        list(loader)
    assert caught.value.__notes__ == ["raised in stage fetch, for sample 21"]


def test_batches_that_are_held_are_never_written_to():
    loader = ReferenceLoader(Pictures(), BATCH_SIZE, num_workers=2, worker_kind="threads")
    held = list(loader)
    list(loader)
    assert [row for pixels, _ in held for row in pixels[:, 0, 0, 0].tolist()] == list(range(SAMPLES))
    loader.close()


def test_it_is_used_before_getitems():
    class Both(Pictures):
        def __getitems__(self, indices):
            raise AssertionError("asked for a batch at once")

    assert len(list(ReferenceLoader(Both(), BATCH_SIZE, num_workers=0))) == 7


@pytest.mark.parametrize(
    "options", [{"batch_size": None}, {"collate_fn": list}, {"worker_kind": "processes", "num_workers": 2}]
)
def test_elsewhere_samples_are_those_of_getitem(options):
    dataset = Pictures()
    with ReferenceLoader(dataset, **options) as loader:
        ours = list(loader)
    theirs = list(DataLoader(dataset, **{key: value for key, value in options.items() if key != "worker_kind"}))
    assert len(ours) == len(theirs)
    assert not dataset.written


def test_samples_that_raise_are_skipped_as_ever():
    class Broken(Pictures):
        def __getitem__(self, index):
            if index == 21:
                raise ValueError("cut")
            return super().__getitem__(index)

    loader = ReferenceLoader(Broken(), BATCH_SIZE, num_workers=0, on_error="skip")
    assert sum(len(numbers) for _, numbers in loader) == SAMPLES - 1


@pytest.mark.parametrize(
    "odd",
    [
        lambda sample: {"at": sample["at"], "pixels": sample["pixels"]},
        lambda sample: {**sample, "more": 1},
        lambda sample: {"pixels": sample["pixels"]},
        OrderedDict,
        lambda sample: {**sample, "at": float(sample["at"])},
        lambda sample: {**sample, "at": True},
        lambda sample: {**sample, "at": 1 << 64},
    ],
    ids=["another order", "a key more", "a key less", "another dict", "a float", "a bool", "no int64"],
)
@pytest.mark.parametrize("at", [16, 20])
def test_a_dict_unlike_those_before_is_what_it_is_without(at, odd):
    class Odd(Pictures):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return odd(sample) if index == at else sample

        def __getitem_into__(self, index, out):
            sample = super().__getitem_into__(index, out)
            return odd(sample) if index == at else sample

    class OddPlain(Odd):
        __getitem_into__ = None

    def outcome(dataset):
        try:
            return [
                (list(batch), batch["at"].tolist()) for batch in ReferenceLoader(dataset, BATCH_SIZE, num_workers=0)
            ]
        except Exception as error:  # noqa: BLE001 whatever it is, it is the same
            return type(error), str(error)

    assert outcome(Odd("flat dict")) == outcome(OddPlain("flat dict"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [Pictures, Plain])
def test_a_first_sample_with_its_keys_in_another_order_has_its_own_content(kind, workers):
    class Turned(kind):
        def __getitem__(self, index):
            return self.turned(super().__getitem__(index), index)

        def turned(self, sample, index):
            return dict(reversed(sample.items())) if index >= 2 * BATCH_SIZE else sample

    if kind is Pictures:
        Turned.__getitem_into__ = lambda self, index, out: self.turned(
            Pictures.__getitem_into__(self, index, out), index
        )
    with ReferenceLoader(
        Turned("flat dict", side=200), BATCH_SIZE, num_workers=workers, worker_kind="threads"
    ) as loader:
        for _epoch in range(2):
            batches = list(loader)
            assert [at for batch in batches for at in batch["at"].tolist()] == [*range(SAMPLES)]
            assert [at for batch in batches for at in batch["pixels"][:, 0, 0, 0].tolist()] == [*range(SAMPLES)]
