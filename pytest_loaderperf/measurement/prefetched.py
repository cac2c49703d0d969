"""How many batches a loader may have ready before they are requested."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

from pytest_loaderperf.measurement.activity import children_of_this_thread, thread_ids
from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES

READY_NS = 5_000_000  # a ready batch takes less, even if it is large
_UNKNOWN_PREFETCH = 16  # batches: for loaders that prefetch without declaring how many
_LONG_TRIES = 3  # to find out how many; a loader that is always ahead of its consumer is not read forever
_MOST_UNTIMED, _LONGEST_UNTIMED_NS = 1024, 100_000_000  # then; ready batches take about 0.1 ms
_REMEMBERED_TRIALS = 4  # one of them may have started before all batches were ready, or was disturbed
_LATE = 4  # the last quarter shows the usual time
_BLOCKS = 4  # of that quarter
_NOTABLE_NS = 1_000_000  # by which they are faster: a trial takes 20 ms or more
_FAR_QUICKER = 3.0  # than batches that were not ready


def helpers() -> frozenset[int]:
    """Threads of this process, including those of native code, and the children that this thread has started."""
    return thread_ids() | children_of_this_thread()


class Ready:
    """How many batches a side may have ready before they are requested: as its loader declares, or as measured.

    ``said``: what the loader declares. Without a declaration it can have none, unless it has its own threads or
    processes. ``unknown``: it has these, but declares nothing, or no workers. Then fast batches at the beginning were
    ready; the untimed part of its first trials is long, to see where they end.
    """

    __slots__ = ("_seen", "_tries", "said", "unknown")

    def __init__(self) -> None:
        self.said, self.unknown, self._tries = 0, False, 0
        self._seen: deque[int] = deque([0], maxlen=_REMEMBERED_TRIALS)

    def ask(self, loader: Any, *, works_aside: bool) -> None:
        """Read what ``loader`` declares."""
        declared = declared_prefetch(loader)
        aside = works_aside and not isinstance(loader, (list, tuple))
        self.said = declared if declared is not None else _UNKNOWN_PREFETCH * aside
        self.unknown = aside and not declared

    def batches(self, epoch_batches: int | None) -> int:
        """What may be ready; a measured number is limited so that a trial and half of an epoch remain."""
        seen = max(self._seen) if self.unknown else 0
        if epoch_batches is not None:
            seen = min(seen, epoch_batches // 2, max(0, epoch_batches - MIN_TRIAL_BATCHES))
        return max(self.said, seen)

    def more(self, untimed_ns: Sequence[int]) -> bool:
        """Whether to take more batches before a trial, after those that took ``untimed_ns``."""
        searches = self.unknown and self._tries < _LONG_TRIES
        return searches and len(untimed_ns) < _MOST_UNTIMED and sum(untimed_ns) < _LONGEST_UNTIMED_NS

    def note(self, waits_ns: Sequence[int]) -> None:
        """Remember how many of the batches before and in a trial were ready."""
        if self.unknown:
            self._tries += 1
            ready = ready_at_first(waits_ns)
            # Up to a power of two, so that similar sides take the same number, and stay in step.
            self._seen.append(1 << (ready - 1).bit_length() if ready else 0)


def ready_at_first(waits_ns: Sequence[int]) -> int:
    """How many batches in a row were ready when they were requested, if the first ones were far faster."""
    block = len(waits_ns) // (_LATE * _BLOCKS)
    if block == 0:
        return 0
    late, first = waits_ns[-block * _BLOCKS :], waits_ns[: -block * _BLOCKS]
    # If the consumer waits for a loader, most blocks include a wait; otherwise a disturbance affects only one of them.
    pace_ns = statistics.median_low([statistics.fmean(late[n : n + block]) for n in range(0, len(late), block)])
    quick_ns = pace_ns / _FAR_QUICKER
    behind_ns = [taken_ns - n * quick_ns for n, taken_ns in enumerate(itertools.accumulate(first), 1)]
    least_ns = min(behind_ns)  # from then on, batches are no longer fast
    return behind_ns.index(least_ns) + 1 if least_ns < -_NOTABLE_NS else 0


def declared_prefetch(loader: Any) -> int | None:
    """The declared number; None if there is none: workers without a prefetch factor declare nothing."""
    depth = getattr(loader, "prefetch_depth", None)
    if isinstance(depth, int):
        return depth
    workers = getattr(loader, "num_workers", None)
    if not isinstance(workers, int):
        return None
    factor = getattr(loader, "prefetch_factor", None)
    return workers * factor if workers and isinstance(factor, int) else (None if workers else 0)
