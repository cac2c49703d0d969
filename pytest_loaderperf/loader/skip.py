"""Leave out the samples that raise, up to a limit, and keep the batches full."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from pytest_loaderperf.data.arrays.structure import SampleMismatchError
from pytest_loaderperf.loader.fetch import Fetch
from pytest_loaderperf.loader.progress import Progress
from pytest_loaderperf.loader.samples import Failure

Pair = tuple[Any, Any]  # index and sample
_log = logging.getLogger("pytest_loaderperf")
_LOGGED = 10  # skipped samples an epoch that are logged one by one


class Skipped(NamedTuple):
    """A sample that was left out: its index, and the exception's type and text."""

    index: Any
    error: str


class SkipPolicy:
    """Counts what one epoch skips. ``limit``: that many samples, or as a float that share of ``samples``."""

    def __init__(self, limit: float, samples: int) -> None:
        self._limit = limit
        self._most = limit if isinstance(limit, int) else math.ceil(limit * samples)
        self._samples = samples
        self.skipped: list[Skipped] = []

    def note(self, failure: Failure) -> None:
        """Record a failure; re-raise it where it is one too many."""
        error = failure.error
        self.skipped.append(Skipped(failure.index, failure.text))
        if len(self.skipped) > self._most:
            error.add_note(
                f"on_error='skip': {len(self.skipped)} of {self._samples} samples failed, which is more than "
                f"error_limit={self._limit} allows. First: sample {self.skipped[0].index!r}, {self.skipped[0].error}"
            )
            raise error
        if len(self.skipped) <= _LOGGED:
            _log.warning("skipped sample %r: %s", *self.skipped[-1])

    def good(self, pairs: list[Pair]) -> Iterator[Pair]:
        """Those of ``pairs`` whose sample came; the others are noted."""
        for index, sample in pairs:
            if isinstance(sample, Failure):
                self.note(sample)
            else:
                yield index, sample


def kept_full(
    fetched: Any, fetch: Fetch, policy: SkipPolicy, batch_size: int | None, progress: Progress, *, drop_last: bool
) -> Iterator[Any]:
    """Batches of the samples that came, each filled up with those that follow.

    ``fetched`` gives pairs of index and sample, those of one task at a time, a Failure for each that failed, and is
    closed at the end. ``batch_size`` None: the caller's own batches, or single samples, which cannot be filled up.
    """
    size = batch_size or sys.maxsize
    tasks = map(policy.good, fetched)
    sources = [chain.from_iterable(tasks)] if batch_size else tasks  # no batch is filled from two of them
    skipped_before = progress.skipped
    latest: list[Pair] = []
    try:
        for number, source in enumerate(sources, progress.batches + 1):
            pairs: list[Pair] = []
            while pairs := [*pairs, *islice(source, size - len(pairs))]:
                if drop_last and len(pairs) < size:
                    break
                try:
                    batch, slab = _collated(fetch, pairs)
                except SampleMismatchError as error:
                    odd, error = _odd(fetch, pairs, latest, error)
                    policy.note(Failure(pairs.pop(odd)[0], error))
                    continue
                progress.batches = progress.batches + 1 if batch_size else number
                progress.skipped = skipped_before + len(policy.skipped)
                yield batch
                del batch
                if slab is not None:
                    fetch.buffers.put(slab)
                latest, pairs = pairs[-1:], []
        progress.done = True
    finally:
        fetched.close()  # its traceback would keep an error's workers


def _collated(fetch: Fetch, pairs: list[Pair]) -> Any:
    samples = [sample for _, sample in pairs]
    return fetch.collate(samples if fetch.batched else samples[0], [index for index, _ in pairs])


def _odd(
    fetch: Fetch, pairs: list[Pair], latest: list[Pair], error: SampleMismatchError
) -> tuple[int, SampleMismatchError]:
    """Which of ``pairs`` to leave out where they are not alike, and why: the first one if most are unlike it."""
    first, *others = pairs + latest
    unlike = [found for pair in others if (found := _mismatch(fetch, [pair, first])) is not None]
    return (0, unlike[0]) if 2 * len(unlike) > len(others) + 1 else (error.position, error)


def _mismatch(fetch: Fetch, pairs: list[Pair]) -> SampleMismatchError | None:
    try:
        _collated(fetch, pairs)
    except SampleMismatchError as error:
        return error
    return None
