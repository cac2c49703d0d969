"""How many batches a loader may have ready before they are asked for."""

from __future__ import annotations

from typing import Any

from pytest_loaderperf.measurement.activity import children_of_this_thread, thread_ids

_UNKNOWN_PREFETCH = 16  # batches: for loaders that run ahead without saying how far


def helpers() -> frozenset[int]:
    """Threads of this process, those of native code among them, and the children that this thread has started."""
    return thread_ids() | children_of_this_thread()


def prefetched_batches(loader: Any, *, works_aside: bool) -> int:
    """How many batches the loader may have ready before they are asked for.

    One that does not say can have none unless it ``works_aside``, on threads or in processes of its own.
    """
    declared = declared_prefetch(loader)
    if declared is not None:
        return declared
    return _UNKNOWN_PREFETCH if works_aside and not isinstance(loader, (list, tuple)) else 0


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
