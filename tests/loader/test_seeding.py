from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

DATASETS = {"array": np.arange(100), "map-style": list(range(100))}


@pytest.fixture(params=DATASETS.values(), ids=DATASETS, autouse=True)
def dataset(request):
    with torch.random.fork_rng():
        yield request.param


def epochs(dataset: object, number: int = 2, **arguments: object) -> list[list[int]]:
    loader = ReferenceLoader(dataset, 8, shuffle=True, **arguments)
    return [torch.cat(list(loader)).tolist() for _ in range(number)]


def test_without_a_seed_torchs_own_seed_makes_the_order_reproducible(dataset):
    torch.manual_seed(1)
    first = epochs(dataset)
    torch.manual_seed(1)
    assert epochs(dataset) == first
    torch.manual_seed(2)
    assert epochs(dataset) != first


def test_without_a_seed_each_epoch_has_an_order_of_its_own(dataset):
    first, second = epochs(dataset)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(100))


def test_with_a_seed_torchs_default_generator_is_neither_read_nor_advanced(dataset):
    torch.manual_seed(1)
    first = epochs(dataset, seed=4)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert epochs(dataset, seed=4) == first


def test_the_number_of_workers_does_not_change_the_order(dataset):
    assert epochs(dataset, seed=4, num_workers=0) == epochs(dataset, seed=4, num_workers=2)


def test_a_seed_beyond_what_torchs_generator_takes_is_refused_at_once(dataset):
    with pytest.raises(DataError, match="seed"):
        ReferenceLoader(dataset, 8, shuffle=True, seed=2**64)
