from __future__ import annotations

import pytest

from pytest_loaderperf.data.formats import writing


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    """The paths that writers waited for, without the wait, which takes longer than all else in these tests."""
    paths = []
    monkeypatch.setattr(writing, "_sync", paths.append)
    return paths
