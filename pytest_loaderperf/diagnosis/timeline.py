"""What each thread did when, in one pass: spans for a trace, and how many batches lay ready when one was asked for.

Times are those of the clock that all processes of a machine share (``time.perf_counter_ns``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

SEND, ASK = "send", "ask"  # stages of a worker and of the main process, from which the queue is known
MOST_IN_TRACE = 100_000  # spans: some 15 MB, which every viewer opens within seconds
_MOST_PARTS = 100  # of the asks, in which the queue is shown over time


class Span(NamedTuple):
    """One stage of one thread. ``iteration``: which one of which loader; ``what``: a function, or more about it."""

    stage: str
    began_ns: int
    ended_ns: int
    batch: int = -1
    iteration: str = ""
    what: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """The spans of one thread, or of threads of one name that ran one after another. ``worker``: its number, or -1."""

    process: int
    thread: int
    name: str
    worker: int = -1
    main: bool = False
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """All tracks. ``cut_ns``: no span that began later is kept; 0 if all are."""

    tracks: tuple[Track, ...] = ()
    cut_ns: int = 0

    @property
    def began_ns(self) -> int:
        """When its first span began."""
        return min((span.began_ns for track in self.tracks for span in track.spans), default=0)


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """Batches that workers had finished when the main process asked for one, without the first ask of each epoch.

    ``capacity``: the most there can be. ``ready``: their mean. ``empty``: asks that found none. ``late``: asks whose
    own batch was not finished; with ``empty`` below it, others were. ``over_time``: the mean of each part of the asks.
    """

    capacity: int = 0
    asks: int = 0
    ready: float = 0.0
    empty: int = 0
    late: int = 0
    over_time: tuple[float, ...] = ()


def bounded(tracks: Iterable[Track], full_ns: Iterable[int]) -> Timeline:
    """A timeline of at most ``MOST_IN_TRACE`` spans, cut at one time for all its tracks.

    ``full_ns``: when a process stopped to keep spans. After that, its tracks would seem idle.
    """
    tracks = list(tracks)
    cuts = list(full_ns)
    began = sorted(span.began_ns for track in tracks for span in track.spans)
    if len(began) > MOST_IN_TRACE:
        cuts.append(began[MOST_IN_TRACE])
    cut_ns = min(cuts, default=0)
    kept = (_before(track, cut_ns) for track in tracks) if cut_ns else tracks
    return Timeline(tuple(track for track in kept if track.spans), cut_ns)


def _before(track: Track, cut_ns: int) -> Track:
    spans = tuple(span for span in track.spans if span.began_ns < cut_ns)
    return Track(track.process, track.thread, track.name, track.worker, track.main, spans)


def queue_seen(timeline: Timeline, capacity: int) -> QueueSeen:
    """The queue between workers and the main process; without asks if there were no workers."""
    found = list(_found(timeline))
    ready = [lay for lay, _ in found]
    if not ready:
        return QueueSeen(capacity)
    size = -(-len(ready) // _MOST_PARTS)
    parts = [ready[at : at + size] for at in range(0, len(ready), size)]
    return QueueSeen(
        capacity,
        len(ready),
        sum(ready) / len(ready),
        ready.count(0),
        sum(late for _, late in found),
        tuple(sum(part) / len(part) for part in parts),
    )


def _found(timeline: Timeline) -> Iterator[tuple[int, bool]]:
    """For each ask, in order of time: how many batches lay ready, and whether its own did not."""
    sends, asks = _by_iteration(timeline, SEND), _by_iteration(timeline, ASK)
    for iteration, asked in asks.items():
        sent = sends.get(iteration, [])
        ended = sorted(span.ended_ns for span in sent)
        finished = {span.batch: span.ended_ns for span in sent}
        for taken, ask in enumerate(asked[1:], 1):
            ready = max(0, bisect_right(ended, ask.began_ns) - taken)
            late = finished[ask.batch] > ask.began_ns if ask.batch in finished else not ready
            yield ready, late


def ready_changes(timeline: Timeline) -> list[tuple[int, int]]:
    """When the number of batches that lie ready changes, and to what: (ns, ready), in order of time."""
    sends, steps = _by_iteration(timeline, SEND), []
    for iteration, asked in _by_iteration(timeline, ASK).items():
        last_ns = asked[-1].ended_ns
        sent = [span.ended_ns for span in sends.get(iteration, []) if span.ended_ns <= last_ns]
        steps += [(at, 1) for at in sent]
        steps += [(ask.ended_ns, -1) for ask in asked[:-1]]
        steps.append((last_ns, len(asked) - 1 - len(sent)))  # what nobody asked for is gone with the iteration
    ready, changes = 0, []
    for at, by in sorted(steps, key=lambda step: (step[0], -step[1])):
        ready += by
        changes.append((at, ready))
    return changes


def _by_iteration(timeline: Timeline, stage: str) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in sorted(
        (span for track in timeline.tracks for span in track.spans if span.stage == stage),
        key=lambda span: span.began_ns,
    ):
        found.setdefault(span.iteration, []).append(span)
    return found
