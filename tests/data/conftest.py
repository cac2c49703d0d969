"""Shared by the tests of data."""

from __future__ import annotations

import pytest

from pytest_loaderperf.data.checks import isolated


class _Kept(isolated._Child):
    """A child that serves one check after the other: each that is started imports torch."""

    last: _Kept | None = None

    def close(self):
        """Stays for the next check; it ends with this process, which closes its standard input."""


def _kept():
    if _Kept.last is None or _Kept.last.ended:
        _Kept.last = _Kept()
        _Kept.last._receiver.name = "kept"  # other tests look for threads of ours that were left
    return _Kept.last


@pytest.fixture(autouse=True)
def _one_child_for_all_checks(request, monkeypatch):
    if request.module.__name__ != "tests.data.checks.test_isolated":
        monkeypatch.setattr(isolated, "_Child", _kept)
