"""Which dataset gives whole batches, and which one around it hides that."""

from __future__ import annotations

import pytest
from torch.utils.data import ConcatDataset, Dataset, Subset

from pytest_loaderperf.diagnosis.passes.passing import hidden_getitems, hiding, takes_indices


class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index


class Batches(Rows):
    def __getitems__(self, indices):
        return indices


class Around(Rows):
    def __init__(self, inner):
        self.inner = inner


class Named(Around):
    """Gives all that it has not itself of the inner one, also its ``__getitems__``."""

    def __getattr__(self, name):
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


def subset(dataset):
    return Subset(dataset, range(4))


@pytest.mark.parametrize(
    "dataset, takes",
    [
        (Rows(), False),
        (Batches(), True),
        (subset(Rows()), False),
        (subset(subset(Rows())), False),
        (subset(subset(Batches())), True),
        (Named(Batches()), True),
        (subset(Named(Batches())), True),
        (Named(Rows()), False),
        (subset(ConcatDataset([Batches()])), False),
        (ConcatDataset([Batches()]), False),
    ],
)
def test_a_subset_takes_indices_if_what_it_is_of_does(dataset, takes):
    assert takes_indices(dataset) is takes


@pytest.mark.parametrize(
    "dataset, name",
    [
        (ConcatDataset([Batches()]), "ConcatDataset"),
        (subset(ConcatDataset([Batches()])), "ConcatDataset"),
        (subset(Around(Batches())), "Around"),
        (Around(subset(Batches())), "Around"),
        (subset(subset(Around(ConcatDataset([Batches()])))), "ConcatDataset"),
    ],
)
def test_the_dataset_that_asks_for_single_samples_hides_the_one_inside(dataset, name):
    hidden = hidden_getitems(dataset)
    assert type(hiding(dataset, hidden)).__name__ == name


@pytest.mark.parametrize("dataset", [Rows(), Batches(), subset(Batches()), subset(Rows()), Around(Rows())])
def test_nothing_is_hidden_where_nothing_gives_batches_or_the_outermost_does(dataset):
    assert hidden_getitems(dataset) is None


@pytest.mark.parametrize("dataset", [Named(Batches()), subset(Named(Batches()))])
def test_what_torch_asks_through_another_dataset_is_not_hidden(dataset):
    assert hidden_getitems(dataset) is None
