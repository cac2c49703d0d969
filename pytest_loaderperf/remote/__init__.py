"""Sides whose loader lives in another process: a replay, another interpreter, or the base commit."""

from __future__ import annotations

from pytest_loaderperf.errors import LoaderPerfError


class RemoteError(LoaderPerfError):
    """Another process cannot measure what it should."""
