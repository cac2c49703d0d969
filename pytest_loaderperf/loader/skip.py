"""Leave out the samples that raise, up to a limit, and keep the batches full."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_loaderperf.data.structure import SampleMismatchError
from pytest_loaderperf.loader.fetch import Fetch
from pytest_loaderperf.loader.progress import Progress
from pytest_loaderperf.loader.samples import Failure

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


def kept_full(
    fetched: Any,
    fetch: Fetch,
    policy: SkipPolicy,
    batch_size: int | None,
    progress: Progress,
    *,
    drop_last: bool,
) -> Iterator[Any]:
    """Batches of the samples that came, each filled up with those that follow.

    ``fetched`` gives pairs of index and sample, those of one task at a time, a Failure for each that failed, and is
    closed at the end. ``batch_size`` None: the caller's own batches, or single samples, which cannot be filled up.
    """
    stock = _Stock(fetch, policy, batch_size, progress)
    try:
        for pairs in fetched:
            stock.add(pairs)
            yield from stock.batches(batch_size or 1)
        if not drop_last:
            yield from stock.batches(1)
        progress.done = True
    finally:
        fetched.close()  # its traceback would keep an error's workers


class _Stock:
    """Samples that wait for a batch of theirs to be full."""

    def __init__(self, fetch: Fetch, policy: SkipPolicy, batch_size: int | None, progress: Progress) -> None:
        self._fetch, self._policy, self._size, self._progress = fetch, policy, batch_size, progress
        self._samples: list[tuple[int, Any, Any]] = []  # position in the epoch, index, sample
        self._delivered: list[Any] = []  # one sample
        self._position = progress.batches * (batch_size or 1) + progress.skipped
        self._tasks = progress.batches

    def add(self, pairs: list[tuple[Any, Any]]) -> None:
        self._tasks += 1
        for index, sample in pairs:
            if isinstance(sample, Failure):
                self._policy.note(sample)
            else:
                self._samples.append((self._position, index, sample))
            self._position += 1

    def batches(self, least: int) -> Iterator[Any]:
        """Batches as long as there are ``least`` samples."""
        while len(self._samples) >= least:
            chosen = self._samples[: self._size]
            samples = [sample for _, _, sample in chosen]
            try:
                batch, slab = self._fetch.collate(
                    samples if self._fetch.batched else samples[0], [index for _, index, _ in chosen]
                )
            except SampleMismatchError as error:
                odd, error = self._odd(chosen, error)
                self._policy.note(Failure(self._samples.pop(odd)[1], error))
                continue
            self._delivered = samples[-1:]
            del self._samples[: self._size]
            self._count(chosen[-1][0])
            yield batch
            del batch
            if slab is not None:
                self._fetch.buffers.put(slab)

    def _odd(self, chosen: list[tuple[int, Any, Any]], error: SampleMismatchError) -> tuple[int, SampleMismatchError]:
        """Which of ``chosen`` to leave out where they are not alike, and why: the first one if most are unlike it."""
        (_, index, first), *others = chosen
        others_and_earlier = [sample for _, _, sample in others] + self._delivered
        errors = [self._mismatch(sample, first, index) for sample in others_and_earlier]
        unlike = [one for one in errors if one is not None]
        return (0, unlike[0]) if 2 * len(unlike) > len(errors) + 1 else (error.position, error)

    def _mismatch(self, sample: Any, other: Any, index: Any) -> SampleMismatchError | None:
        try:
            self._fetch.collate([sample, other], index)
        except SampleMismatchError as error:
            return error
        return None

    def _count(self, last_position: int) -> None:
        if self._size is None:
            self._progress.batches = self._tasks
        else:
            self._progress.batches += 1
            self._progress.skipped = last_position + 1 - self._progress.batches * self._size
