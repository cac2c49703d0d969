from __future__ import annotations

import pytest

from pytest_loaderperf.loader import engines, fetch, plan
from tests.loader import paths


@pytest.fixture
def source():
    return paths.FEATURES.copy()


@pytest.fixture
def make_loader(path, source, monkeypatch):
    """Makes loaders of ``path``, on a machine of four cores, where no batch is too small to hand over or to buffer."""
    monkeypatch.setattr(engines, "usable_cores", lambda: 4)
    monkeypatch.setattr(plan, "HANDOVER_NBYTES", 0)
    monkeypatch.setattr(fetch, "BUFFERED_NBYTES", 0)
    made = []

    def make(**arguments):
        made.append(path.make_loader(source, **arguments))
        return made[-1]

    yield make
    for loader in made:
        loader.close()
