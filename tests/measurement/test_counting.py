"""Samples in a batch: channels are never counted as samples, and what cannot be told is asked for."""

from __future__ import annotations

import re
from collections import namedtuple

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, TensorDataset

from pytest_loaderperf import Collate, ReferenceLoader
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.counting import Declared, checked_samples, count_samples, counter

IMAGE = torch.zeros(3, 32, 32)
Pair = namedtuple("Pair", "x y")  # noqa: PYI024 as users write it


class Images(Dataset):
    def __init__(self, *, ragged=False, labels=False):
        self.ragged, self.labels = ragged, labels

    def __len__(self):
        return 22  # a last batch of 6, and of 1

    def __getitem__(self, index):
        image = torch.zeros(3, 32 + index * self.ragged, 32)
        return (image, index) if self.labels else image


class Streamed(IterableDataset):
    def __init__(self, item, batch_size=None):
        self.item = item
        if batch_size is not None:
            self.batch_size = batch_size

    def __iter__(self):
        return iter([self.item] * 22)


def same(samples):
    return samples


def transposed(samples):
    return tuple(zip(*samples, strict=True))


EIGHTS = {
    "list of images": lambda: DataLoader(Images(), 8, collate_fn=list),
    "tuple of images": lambda: DataLoader(Images(), 8, collate_fn=tuple),
    "own function": lambda: DataLoader(Images(), 8, collate_fn=same),
    "samples with labels": lambda: DataLoader(Images(labels=True), 8, collate_fn=same),
    "images and labels": lambda: DataLoader(Images(labels=True), 8, collate_fn=transposed),
    "our list": lambda: ReferenceLoader(Images(), 8, collate_fn=Collate(ragged="list")),
    "our list, ragged": lambda: ReferenceLoader(Images(ragged=True), 8, collate_fn=Collate(ragged="list")),
    "our list with labels": lambda: ReferenceLoader(
        Images(ragged=True, labels=True), 8, collate_fn=Collate(ragged="list")
    ),
    "stacked": lambda: DataLoader(Images(), 8),
    "stacked fields": lambda: DataLoader(TensorDataset(torch.zeros(22, 4), torch.zeros(22, 4)), 8),
    "batch sampler": lambda: DataLoader(
        Images(), batch_sampler=BatchSampler(SequentialSampler(range(22)), 8, drop_last=False), collate_fn=same
    ),
    "sampler of lists": lambda: DataLoader(
        TensorDataset(torch.zeros(22, 3, 4)),
        batch_size=None,
        sampler=BatchSampler(SequentialSampler(range(22)), 8, drop_last=False),
    ),
}


@pytest.mark.parametrize("make", EIGHTS.values(), ids=EIGHTS)
def test_each_batch_is_counted_by_what_the_loader_says_of_it(make):
    loader = make()
    batches = list(loader)
    count = counter(batches[0], Declared.by(loader))
    assert [count(batch) for batch in batches] == [8, 8, 6]


@pytest.mark.parametrize("fields", [False, True])
def test_where_lists_and_fields_agree_on_the_first_batch_a_shorter_one_is_counted_right(fields):
    data = TensorDataset(*[torch.zeros(22, 4)] * 3) if fields else Images()
    collate = (lambda samples: [torch.stack(part) for part in transposed(samples)]) if fields else same
    loader = DataLoader(data, 3, collate_fn=collate)
    batches = list(loader)
    count = counter(batches[0], Declared.by(loader))
    assert [count(batch) for batch in batches] == [3] * 7 + [1]


@pytest.mark.parametrize(
    "item, batch_size, samples",
    [
        ((torch.zeros(5, 3, 4, 4), torch.zeros(5)), None, 5),
        ({"image": torch.zeros(5, 3, 4, 4), "name": ["a"] * 5}, None, 5),
        (torch.zeros(5, 8), 5, 5),
        ([IMAGE] * 5, 5, 5),
        (torch.tensor(3.0), None, 1),
        ({"x": 1.0, "y": 2}, None, 1),
    ],
)
def test_without_automatic_batching_a_stream_of_batches_or_scalars_is_counted(item, batch_size, samples):
    loader = DataLoader(Streamed(item, batch_size), batch_size=None)
    assert count_samples(next(iter(loader)), Declared.by(loader)) == samples


@pytest.mark.parametrize(
    "loader, words",
    [
        (DataLoader(Images(), batch_size=None), "of type Tensor, may be one sample, or a batch of 3 samples."),
        (ReferenceLoader(Images(), batch_size=None), "of type Tensor, may be one sample, or a batch of 3 samples."),
        (DataLoader(Images(labels=True), batch_size=None), "of type list, may be one sample, or a batch of 3 samples."),
        (DataLoader(Streamed(IMAGE), batch_size=None), "of type Tensor, may be one sample, or a batch of 3 samples."),
        (
            DataLoader(Streamed((torch.zeros(8, 8, 3), torch.zeros(8, 8))), batch_size=None),
            "of type list, may be one sample, or a batch of 8 samples.",
        ),
        (
            DataLoader(Streamed((IMAGE, torch.zeros(10))), batch_size=None),
            "of type list, may be one sample, or a batch of differing numbers of samples.",
        ),
    ],
)
def test_without_automatic_batching_a_count_is_asked_for(loader, words):
    whole = (
        f"cannot count the samples: the loader has batch_size=None, and what its dataset gives, {words} Expected a "
        "batch_size. Give count=, such as count=lambda sample: 1, or count=len where the dataset makes the batches."
    )
    with pytest.raises(LoaderError, match=f"^{re.escape(whole)}$"):
        counter(next(iter(loader)), Declared.by(loader))


@pytest.mark.parametrize(
    "batch, batch_size, called, expected",
    [
        (
            [IMAGE] * 8,
            None,
            "a list of 8 Tensors of shape (3, 32, 32)",
            "a batch_size that says which",
        ),
        (
            [IMAGE] * 8,
            32,
            "a list of 8 Tensors of shape (3, 32, 32)",
            "one of them to be the batch_size, 32",
        ),
        (
            {"image": [IMAGE] * 8},
            None,
            "a dict",
            "a batch_size that says which",
        ),
        (
            (IMAGE,) * 8,
            None,
            "a tuple of 8 Tensors of shape (3, 32, 32)",
            "a batch_size that says which",
        ),
    ],
)
def test_where_lists_may_be_samples_or_fields_a_count_is_asked_for(batch, batch_size, called, expected):
    whole = (
        f"cannot count the samples of a batch: {called} may be 3 or 8 samples: are its lists of samples, or of fields? "
        f"Expected {expected}. Give count=, such as count=len for a list of samples, or count=lambda batch: "
        "len(batch[0]) for fields."
    )
    with pytest.raises(LoaderError, match=f"^{re.escape(whole)}$"):
        counter(batch, Declared(batch_size))


@pytest.mark.parametrize("pair", [[IMAGE] * 2, (IMAGE,) * 2])
def test_two_images_are_two_samples_where_the_batch_size_says_so(pair):
    assert count_samples(pair, Declared(batch_size=2)) == 2


def test_a_list_of_two_may_be_samples():
    with pytest.raises(LoaderError, match=r"a list of 2 Tensors .* may be 2 or 3 samples"):
        count_samples([IMAGE] * 2)


@pytest.mark.parametrize("rows", [5, 1])
def test_the_rows_of_an_input_and_a_target_are_counted_in_shorter_batches_too(rows):
    count = counter((torch.zeros(8, 4), torch.zeros(8, 4)))
    assert count((torch.zeros(rows, 4), torch.zeros(rows, 4))) == rows


def test_two_images_that_differ_in_their_first_dimension_are_two_samples():
    assert count_samples((torch.zeros(3, 4), torch.zeros(5, 4))) == 2


X = torch.zeros(4, 8)


@pytest.mark.parametrize(
    "batch",
    [
        [X],
        (X, X.long()),
        (X, X.double()),
        [X, torch.zeros(4)],
        Pair(X, X),
        (X, X),
        (X.numpy(), X.numpy()),
        {"pair": (X, X)},
        ((X, X), X),
        {"x": X, "y": [X]},
        {"images": [IMAGE] * 4, "labels": torch.zeros(4)},
        (X, (224, 224)),
    ],
    ids=range(12),
)
def test_fields_that_cannot_be_samples_are_fields(batch):
    assert count_samples(batch) == 4


def test_a_size_that_is_no_size_is_not_believed():
    class Odd:
        batch_size = "auto"

    assert Declared.by(Odd()) == Declared()
    assert Declared.by([X]) == Declared()


@pytest.mark.parametrize("samples", [0, -1, True, 2.0, None, "2"])
def test_a_number_of_samples_that_cannot_be_is_refused(samples):
    whole = (
        f"base: expected an integer of at least 1 as the number of samples of a batch, got {samples!r}. "
        "Fix count=, or keep empty batches out of the loader."
    )
    with pytest.raises(LoaderError, match=f"^{re.escape(whole)}$"):
        checked_samples("base", samples)
    assert checked_samples("base", 1) == 1
