"""How many batches a loader may have ready before they are asked for."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

from pytest_loaderperf.measurement.activity import children_of_this_thread, thread_ids
from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES

READY_NS = 5_000_000  # in which a batch that is ready comes, even if it is large
_UNKNOWN_PREFETCH = 16  # batches: for loaders that run ahead without saying how far
_LONG_TRIES = 3  # to see how far; a loader that is always ahead of its consumer is not drained for ever
_MOST_UNTIMED, _LONGEST_UNTIMED_NS = 1024, 100_000_000  # then; batches that are ready come within some 0.1 ms
_REMEMBERED_TRIALS = 4  # one of them may have begun before all was ready, or have been disturbed
_LATE = 4  # the last quarter shows the pace
_BLOCKS = 4  # of that quarter
_NOTABLE_NS = 1_000_000  # by which they come sooner: a trial takes 20 ms or more
_FAR_QUICKER = 3.0  # than those that had to be waited for


def helpers() -> frozenset[int]:
    """Threads of this process, those of native code among them, and the children that this thread has started."""
    return thread_ids() | children_of_this_thread()


class Ready:
    """How many batches a side may have ready before they are asked for: as its loader says, or as was seen.

    ``said``: what the loader says; one that does not say can have none, unless it works on threads or in processes of
    its own. ``unknown``: it has such, and does not say, or says that it has no workers. Then what comes quickly at the
    beginning was ready; of its first trials the untimed part is long, to see the end of it.
    """

    __slots__ = ("_seen", "_tries", "said", "unknown")

    def __init__(self) -> None:
        self.said, self.unknown, self._tries = 0, False, 0
        self._seen: deque[int] = deque([0], maxlen=_REMEMBERED_TRIALS)

    def ask(self, loader: Any, *, works_aside: bool) -> None:
        """Ask ``loader`` what it says of itself."""
        declared = declared_prefetch(loader)
        aside = works_aside and not isinstance(loader, (list, tuple))
        self.said = declared if declared is not None else _UNKNOWN_PREFETCH * aside
        self.unknown = aside and not declared

    def batches(self, epoch_batches: int | None) -> int:
        """What may be ready; of what was seen no more than leaves a trial and half of an epoch to time."""
        seen = max(self._seen) if self.unknown else 0
        if epoch_batches is not None:
            seen = min(seen, epoch_batches // 2, max(0, epoch_batches - MIN_TRIAL_BATCHES))
        return max(self.said, seen)

    def more(self, untimed_ns: Sequence[int]) -> bool:
        """Whether to take still more batches before a trial than those which took ``untimed_ns``."""
        searches = self.unknown and self._tries < _LONG_TRIES
        return searches and len(untimed_ns) < _MOST_UNTIMED and sum(untimed_ns) < _LONGEST_UNTIMED_NS

    def note(self, waits_ns: Sequence[int]) -> None:
        """Remember how many were ready, of the batches before a trial and in it."""
        if self.unknown:
            self._tries += 1
            ready = ready_at_first(waits_ns)
            # Up to a power of two: sides that are alike shall take as many, and go through an epoch in step.
            self._seen.append(1 << (ready - 1).bit_length() if ready else 0)


def ready_at_first(waits_ns: Sequence[int]) -> int:
    """How many of batches in a row were ready when they were asked for, if the first ones came far more quickly."""
    block = len(waits_ns) // (_LATE * _BLOCKS)
    if block == 0:
        return 0
    late, first = waits_ns[-block * _BLOCKS :], waits_ns[: -block * _BLOCKS]
    # Of a loader that is waited for, most blocks hold a wait; of one that is not, a disturbance strikes one of them.
    pace_ns = statistics.median_low([statistics.fmean(late[n : n + block]) for n in range(0, len(late), block)])
    quick_ns = pace_ns / _FAR_QUICKER
    behind_ns = [taken_ns - n * quick_ns for n, taken_ns in enumerate(itertools.accumulate(first), 1)]
    least_ns = min(behind_ns)  # from then on, batches are no longer quick
    return behind_ns.index(least_ns) + 1 if least_ns < -_NOTABLE_NS else 0


def declared_prefetch(loader: Any) -> int | None:
    """The same as the loader says it; None if it does not: workers without a prefetch factor say nothing."""
    depth = getattr(loader, "prefetch_depth", None)
    if isinstance(depth, int):
        return depth
    workers = getattr(loader, "num_workers", None)
    if not isinstance(workers, int):
        return None
    factor = getattr(loader, "prefetch_factor", None)
    return workers * factor if workers and isinstance(factor, int) else (None if workers else 0)
