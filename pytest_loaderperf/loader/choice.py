"""Where the samples of a dataset are best fetched, found by a short measurement that costs no sample."""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from inspect import ismethod
from itertools import chain, islice
from statistics import fmean
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakMethod, ref

from pytest_loaderperf.loader.progress import Counted, Feed, Progress

_log = logging.getLogger("pytest_loaderperf")

TRIAL_S = 0.25  # of fetching: a choice's trial lasts about as long, and at least TRIAL_BATCHES
TRIAL_BATCHES = 8
FEW_BATCHES = 32  # as many tell that a batch is too cheap to be fetched elsewhere
ATTEMPTS = 5  # epochs too short to time a choice in are enough, then
HANDOVER_S = 0.25e-3  # a batch costs about that much to bring from another process: nothing to gain below it
MARGIN = 0.95  # another choice must take less than this share of the time to be worth its threads or processes
PATIENCE_S = 10.0  # a batch of worker processes that takes longer than this and 100 batches took here: they hang
HERE = "the consumer's thread"
_END = object()
_waited: WeakKeyDictionary[Any, dict[Any, dict[str, list[float]]]] = WeakKeyDictionary()


class Engine(Protocol):
    """A way of making the batches of an epoch."""

    def epoch(self, make_feed: Callable[[], Any], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch, counted in ``progress`` as they are delivered."""

    def close(self) -> None:
        """Free what outlives an epoch."""


Others = dict[str, tuple[Callable[[float | None], Engine], int]]


def verdict(waits_s: Mapping[str, Sequence[float]], attempts: int) -> tuple[str, str | None]:
    """Which choice to stay with, and why; or which to time next, and None.

    ``waits_s``: how long batches of each choice were waited for, HERE first; infinity where it failed. ``attempts``:
    trials of others that were begun.
    """
    here_s = waits_s[HERE]
    if len(here_s) >= FEW_BATCHES and fmean(here_s) < HANDOVER_S:
        return HERE, f"a batch takes {fmean(here_s) * 1e3:.2f} ms, less than it costs to hand one over"
    if len(here_s) < TRIAL_BATCHES or sum(here_s) < TRIAL_S:
        return HERE, None
    for name, name_s in waits_s.items():
        if len(name_s) < TRIAL_BATCHES:
            return (name, None) if attempts <= ATTEMPTS else (HERE, "too few batches an epoch to time another choice")
    mean_s = {name: fmean(name_s) for name, name_s in waits_s.items()}
    best = min(mean_s, key=mean_s.__getitem__)
    waits = [f"{s * 1e3:.2f} ms by {name}" if s < math.inf else f"{name} failed" for name, s in mean_s.items()]
    return best if mean_s[best] <= MARGIN * mean_s[HERE] else HERE, f"waited for a batch: {', '.join(waits)}"


def remembered(dataset: Any, batch_size: int | None, collate: Any) -> dict[str, list[float]]:
    """How long such batches of ``dataset`` were waited for; kept, where it can be, as long as the dataset is."""
    with suppress(TypeError):  # what cannot be hashed, or referred to weakly
        return _waited.setdefault(dataset, {}).setdefault((batch_size, _named(collate)), {})
    return {}


def _named(collate: Any) -> Any:
    """Stands for this very function, bound methods by what they are bound to, without keeping it."""
    if collate is None:
        return None
    return WeakMethod(collate) if ismethod(collate) else ref(collate)


class Choice:
    """Begins with ``here``, the consumer's thread, tries the others on the next batches, and stays with the fastest.

    Every batch of a trial is delivered, so nothing is fetched twice. ``others``: by name, a function from a time limit
    in seconds (None: the caller's) to an engine, and how many batches that prepares ahead. What counts is how long the
    consumer waits. ``waits_s``: how long batches of earlier loaders were waited for, which counts.
    """

    def __init__(self, here: Engine, others: Others, waits_s: dict[str, list[float]]) -> None:
        if multiprocessing.current_process().daemon:  # which may have no children
            others.pop("processes", None)
        self._engines, self._others = {HERE: here}, others
        self.waits_s = {name: waits_s.setdefault(name, []) for name in (HERE, *others)}
        self._attempts = 0
        self.engine: Engine | None = None
        self.chosen: str | None = None
        self.reason = "not decided yet: the first batches are fetched in the consumer's thread and timed"
        name, reason = verdict(self.waits_s, 0) if others else (HERE, "nothing else is said to be safe")
        if reason is not None:
            self._decide(name, reason)

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch."""
        return self.engine.epoch(make_feed, progress) if self.engine else _Trials(self, make_feed, progress)

    def begin(self, name: str, part: Any, progress: Progress) -> Iterator[Any]:
        """The batches that ``name`` makes of ``part``."""
        if name not in self._engines:
            self._engines[name] = self._others[name][0](PATIENCE_S + 100 * fmean(self.waits_s[HERE]))
        return self._engines[name].epoch(lambda: part, progress)

    def next_part(self, indices: Iterator[Any]) -> tuple[str, Any, float]:
        """Who makes the next batches, of which of ``indices``, and how many of them untimed: infinity for the rest."""
        if self.chosen is None:
            name, reason = verdict(self.waits_s, self._attempts)
            untimed, timed = 1, TRIAL_BATCHES  # the first batch may be a cold one
            if name != HERE:
                untimed = self._others[name][1]  # what was prepared while nobody waited counts for nothing
                timed = max(timed, round(TRIAL_S / fmean(self.waits_s[HERE])))
            if reason is not None:
                self._decide(name, reason)
            elif part := list(islice(indices, untimed + timed)):
                self._attempts += name != HERE
                return name, part, untimed
        return self.chosen or HERE, indices, math.inf

    def give_up(self, name: str, error: Exception) -> None:
        """Try ``name`` no more, unless another iteration chose it, which had no trouble with it."""
        if self.chosen is None:
            _log.info("auto: %s cannot serve here (%s: %s)", name, type(error).__name__, error)
            self.waits_s[name][:] = [math.inf] * TRIAL_BATCHES

    def close(self) -> None:
        """Close the engines, and let go of those of trials: nobody else knows their threads."""
        for engine in self._engines.values():
            engine.close()
        if self.chosen is None:
            self._engines = {HERE: self._engines[HERE]}

    def _decide(self, name: str, reason: str) -> None:
        self.close()
        if name != HERE:
            self._engines[name] = self._others[name][0](None)  # without our time limit
        self.engine, self.chosen, self.reason = self._engines[name], name, f"{name}: {reason}"
        _log.info("auto: %s", self.reason)


class _Trials(Counted):
    """The batches of an epoch that began undecided: one trial after the other, then the rest as was chosen.

    An error is the dataset's own if it comes in the consumer's thread, too.
    """

    def __init__(self, choice: Choice, make_feed: Callable[[], Feed], progress: Progress) -> None:
        super().__init__(None, progress)
        self._choice = choice
        self._indices: Iterator[Any] = chain.from_iterable(make() for make in [make_feed])  # made for the first batch
        self._go_on(HERE, [], 0)

    def _next(self) -> Any:
        while True:
            try:
                if self._made is None:
                    self._made = self._choice.begin(self._name, self._part, replace(self.progress))
                began_s = time.perf_counter()
                batch = next(self._made, _END)
                took_s = time.perf_counter() - began_s
            except Exception as error:
                if self._name == HERE or self._untimed == math.inf:
                    raise
                self._choice.give_up(self._name, error)
                self._go_on(HERE, self._part[self._came :], len(self._part))
                continue
            if batch is not _END:
                self._came += 1
                if self._came > self._untimed:
                    self._choice.waits_s[self._name].append(took_s)
                return batch
            if self._untimed == math.inf or self.closed:
                raise StopIteration
            self._go_on(*self._choice.next_part(self._indices))

    def _go_on(self, name: str, part: Any, untimed: float) -> None:
        self._name, self._part, self._untimed, self._came, self._made = name, part, untimed, 0, None
