"""What a factory must give, and what its loader is called."""

from __future__ import annotations

import re

import pytest
from torch.utils.data import DataLoader

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.factory import call_factory, describe


def forgets():
    pass


def counts():
    return 4


class Raises:
    def __call__(self):
        raise ValueError("no such file.")


@pytest.mark.parametrize(
    "factory, words",
    [
        (forgets, "forgets() returned None. Expected a loader: is its return statement missing?"),
        (counts, "counts() returned a int, which cannot be iterated. Expected a loader."),
        (
            Raises(),
            "Raises() raised ValueError: no such file. Expected a loader; the traceback above says where.",
        ),
    ],
)
def test_a_factory_that_gives_no_loader_is_named(factory, words):
    with pytest.raises(LoaderError, match=f"^{re.escape(f'the loader factory {words}')}$"):
        call_factory(factory, "the loader")


def test_a_loader_without_a_repr_is_described_by_its_dataset_and_settings():
    assert describe(DataLoader([1, 2], batch_size=2, num_workers=1, prefetch_factor=3)) == (
        "DataLoader(list, batch_size=2, num_workers=1, prefetch_factor=3, persistent_workers=False, pin_memory=False, "
        "drop_last=False)"
    )
