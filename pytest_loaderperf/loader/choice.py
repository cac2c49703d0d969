"""Where the samples of a dataset are best fetched, found by a short measurement that costs no sample."""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, Self

from pytest_loaderperf.loader.progress import Feed, Progress

_log = logging.getLogger("pytest_loaderperf")

TRIAL_S = 0.25  # of fetching: a choice's trial lasts about as long, and at least TRIAL_BATCHES
TRIAL_BATCHES = 8
FEW_BATCHES = 32  # as many tell that a batch is too cheap to be fetched elsewhere
ATTEMPTS = 5  # epochs too short to time a choice in are enough, then
HANDOVER_S = 0.5e-3  # a batch costs about that much to bring from another process: nothing to gain below it
MARGIN = 0.95  # another choice must take less than this share of the time to be worth its threads or processes
PATIENCE_S = 10.0  # a batch of worker processes that takes longer than this and 100 batches took here: they hang
HERE = "the consumer's thread"
_END = object()


class Engine(Protocol):
    """A way of making the batches of an epoch."""

    def epoch(self, make_feed: Callable[[], Any], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch, counted in ``progress`` as they are delivered."""

    def close(self) -> None:
        """Free what outlives an epoch."""


class Choice:
    """Begins with ``here``, the consumer's thread, tries the others on the next batches, and stays with the fastest.

    Every batch of a trial is delivered, so nothing is fetched twice. ``others``: by name, a function from a time limit
    in seconds (None: the caller's) to an engine, and how many batches that prepares ahead. What counts is how long the
    consumer waits.
    """

    def __init__(self, here: Engine, others: dict[str, tuple[Callable[[float | None], Engine], int]]) -> None:
        self._engines, self._others = {HERE: here}, others
        self._attempts = 0
        self._warm = False
        self.chosen: str | None = None
        self.reason = "not decided yet: the first batches are fetched in the consumer's thread and timed"
        if multiprocessing.current_process().daemon:  # which may have no children
            others.pop("processes", None)
        self._waits_s: dict[str, list[float]] = {name: [] for name in (HERE, *others)}
        if not others:
            self._decide(HERE, "there is no other choice here")

    @property
    def engine(self) -> Engine | None:
        """The engine that was chosen."""
        return self._engines[self.chosen] if self.chosen else None

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch."""
        engine = self.engine
        return _Trials(self, make_feed, progress) if engine is None else engine.epoch(make_feed, progress)

    def begin(self, name: str, feed: Iterable[Any], progress: Progress) -> Iterator[Any]:
        """The batches that ``name`` makes of ``feed``."""
        if name not in self._engines:
            self._engines[name] = self._others[name][0](PATIENCE_S + 100 * self._mean_s(HERE))
        return self._engines[name].epoch(lambda: feed, progress)

    def close(self) -> None:
        """Close the engines."""
        for engine in self._engines.values():
            engine.close()
        if self.chosen is None:
            self._engines = {HERE: self._engines[HERE]}  # nobody else knows the threads of a trial

    def next_trial(self, indices: Iterator[Any]) -> tuple[str, list[Any], int]:
        """Which choice to time next, on which batches of ``indices``, and how many of them first not to time."""
        name = next(name for name in self._waits_s if not self._measured(name))
        if name == HERE:
            untimed, self._warm = int(not self._warm), True
            return name, list(islice(indices, 1)), untimed
        ahead = self._others[name][1]  # what was prepared while nobody waited counts for nothing
        part = list(islice(indices, ahead + max(TRIAL_BATCHES, round(TRIAL_S / self._mean_s(HERE)))))
        self._attempts += bool(part)
        return name if part else HERE, part, ahead

    def waited(self, name: str, wait_s: float) -> None:
        """Note how long the consumer waited for a batch of ``name``."""
        if name in self._waits_s:  # else it failed in another iteration meanwhile
            self._waits_s[name].append(wait_s)

    def give_up(self, name: str, error: Exception) -> None:
        """Try ``name`` no more."""
        if self.chosen is not None:  # by another iteration, which had no trouble with it
            return
        _log.info("auto: %s cannot serve here (%s: %s)", name, type(error).__name__, error)
        for of_name in (self._others, self._waits_s, self._engines):
            of_name.pop(name, None)
        if not self._others:
            self._decide(HERE, f"{name} failed: {type(error).__name__}")

    def conclude(self) -> str | None:
        """The choice, if what was seen so far suffices to make it."""
        if self.chosen is not None or not self._measured(HERE):
            return self.chosen
        here_s = self._mean_s(HERE)
        if here_s < HANDOVER_S:
            self._decide(HERE, f"a batch takes {here_s * 1e3:.2f} ms, less than it costs to hand one over")
        elif all(map(self._measured, self._waits_s)):
            best = min(self._waits_s, key=self._mean_s)
            if self._mean_s(best) > MARGIN * here_s:
                best = HERE
            waits = ", ".join(f"{self._mean_s(name) * 1e3:.2f} ms by {name}" for name in self._waits_s)
            self._decide(best, f"waited for a batch: {waits}")
        elif self._attempts > ATTEMPTS:
            self._decide(HERE, "too few batches an epoch to time another choice")
        return self.chosen

    def _measured(self, name: str) -> bool:
        waits_s = self._waits_s[name]
        if name != HERE or len(waits_s) < TRIAL_BATCHES:
            return len(waits_s) >= TRIAL_BATCHES
        return sum(waits_s) >= TRIAL_S or (len(waits_s) >= FEW_BATCHES and self._mean_s(name) < HANDOVER_S)

    def _mean_s(self, name: str) -> float:
        waits_s = self._waits_s[name]
        return sum(waits_s) / len(waits_s)

    def _decide(self, name: str, reason: str) -> None:
        here = self._engines[HERE]  # another iteration may still need it
        self._engines = {HERE: here}
        if name != HERE:
            here.close()
            self._engines[name] = self._others[name][0](None)  # without our time limit
        self.chosen, self.reason = name, f"{name}: {reason}"
        _log.info("auto: %s", self.reason)


class _Trials:
    """The batches of an epoch that began undecided: one trial after the other, then the rest as was chosen.

    An error is the dataset's own if it comes in the consumer's thread, too. The next batch can be had after it.
    """

    def __init__(self, choice: Choice, make_feed: Callable[[], Feed], progress: Progress) -> None:
        self._choice, self._make_feed, self._progress = choice, make_feed, progress
        self._indices: Iterator[Any] | None = None
        self._name, self._is_rest = HERE, False
        self._part: Any = ()
        self._batches: Any = iter(())  # None: still to be begun

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                if self._batches is None:
                    self._batches = self._choice.begin(self._name, self._part, self._progress)
                began_s = time.perf_counter()
                batch = next(self._batches, _END)
                took_s = time.perf_counter() - began_s
            except Exception as error:
                if self._name == HERE or self._is_rest:
                    raise
                self._choice.give_up(self._name, error)
                self._go_on(HERE, self._part[self._came :], math.inf)
                continue
            if batch is not _END:
                self._came += 1
                if self._came > self._untimed:
                    self._choice.waited(self._name, took_s)
                return batch
            if self._is_rest:
                raise StopIteration
            if self._indices is None:
                self._indices = iter(self._make_feed())
            chosen = self._choice.conclude()
            self._is_rest = chosen is not None
            if chosen is None:
                self._go_on(*self._choice.next_trial(self._indices))
            else:
                self._go_on(chosen, self._indices, math.inf)

    def _go_on(self, name: str, part: Any, untimed: float) -> None:
        self._name, self._part, self._untimed, self._came = name, part, untimed, 0
        self._batches = None
        self._is_rest = self._is_rest or not part
        self._progress.done = False

    def close(self) -> None:
        """Drop what was made ahead."""
        batches, self._batches, self._is_rest = self._batches, iter(()), True
        if hasattr(batches, "close"):
            batches.close()
