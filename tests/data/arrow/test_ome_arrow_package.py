"""The package ome-arrow reads what we write, and we write its type."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array, ome_arrow_type


@pytest.fixture
def ome_arrow(monkeypatch):
    """Imports one of its modules, without those that need its viewers: its own ``__init__`` imports all."""
    found = find_spec("ome_arrow")
    if found is None:
        pytest.skip("ome-arrow is not installed: pip install --no-deps -r requirements/ome-arrow.txt")
    package = ModuleType("ome_arrow")
    package.__path__ = found.submodule_search_locations
    monkeypatch.setitem(sys.modules, "ome_arrow", package)
    yield lambda name: import_module(f"ome_arrow.{name}")
    for name in [name for name in sys.modules if name.startswith("ome_arrow.")]:
        del sys.modules[name]


def test_the_type_is_that_of_the_package(ome_arrow):
    assert ome_arrow_type() == ome_arrow("meta").OME_ARROW_STRUCT


@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 5, 7, 6), (1, 3, 1, 4, 4)], ids=str)
def test_the_package_reads_back_what_we_write(ome_arrow, shape):
    images = np.random.Generator(np.random.PCG64(0)).integers(0, 1 << 16, (3, *shape), np.uint16)
    column = ome_arrow_array(images)
    read = [ome_arrow("export").to_numpy(column[i]) for i in range(3)]
    assert np.array_equal(np.stack(read), images.reshape(3, *(1,) * (5 - len(shape)), *shape))
