"""A side of a source, started."""

from __future__ import annotations

import pytest

from pytest_loaderperf.measurement import Side, Watchdog
from pytest_loaderperf.measurement.ahead import torch_threads


@pytest.fixture
def side():
    torch_threads()
    made, watchdog = [], Watchdog(60, pytest.fail)

    def make(source, count=None):
        made.append(Side("loader", source, watchdog, count=count, deliver=None))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()
    watchdog.close()
