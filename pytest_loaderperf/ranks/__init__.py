"""The ranks of a job: processes that a launcher such as torchrun starts, and that measure together."""

from __future__ import annotations

from pytest_loaderperf.errors import LoaderPerfError


class RankError(LoaderPerfError):
    """Another rank failed, or the ranks cannot work together; names the rank, its host and its stage."""


class LostRankError(RankError):
    """A rank is gone for good: nothing more can be measured with it."""
