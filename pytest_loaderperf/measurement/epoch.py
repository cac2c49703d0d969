"""The running epoch: its batches so far, and how long to wait for its end."""

from __future__ import annotations

import dis
import inspect
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from types import CodeType, GeneratorType
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from pytest_loaderperf.errors import LoaderError, ShortEpochError
from pytest_loaderperf.measurement.record import EpochRecord
from pytest_loaderperf.measurement.roofline import Roofline
from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES

_ENDLESS_BATCHES, _ENDLESS_SECONDS = 10_000, 10.0  # beyond both, a loader without a length probably has no end
_CHUNK_BATCHES = 16  # at first, between two looks at the clock
_CHUNK_SECONDS = 0.25  # a chunk grows up to this: looking more often would let workers run ahead
_RETURNS = ("RETURN_VALUE", "RETURN_CONST")  # of Python's bytecode

_WAY_OUT = (
    "A loader without an end has no epoch, epoch_throughput or epoch_exit: compare throughput and first_batch, or "
    "measure a part of it, such as itertools.islice(loader, 1000)."
)


class Tally:
    """What the running epoch has yielded; ``first_batch_ns`` and ``samples`` start with its first batch."""

    __slots__ = ("_first_batch_ns", "_samples", "_waits_ns", "batches", "longest_ns")

    def __init__(self, first_batch_ns: int, samples: int) -> None:
        self._first_batch_ns, self._samples = first_batch_ns, samples
        self._waits_ns = self.longest_ns = 0
        self.batches = 1

    def add(self, waits_ns: Sequence[int], samples: int) -> None:
        """Count batches, each with the time that its ``next()`` took."""
        if waits_ns:
            self._waits_ns += sum(waits_ns)
            self.longest_ns = max(self.longest_ns, *waits_ns)
            self._samples += samples
            self.batches += len(waits_ns)

    def ended(self, exit_ns: int, *, whole: bool) -> EpochRecord:
        """The epoch, now that it has ended."""
        return EpochRecord(
            self._first_batch_ns, self._waits_ns, self.longest_ns, exit_ns, self.batches, self._samples, whole
        )


def length(loader: Any) -> int | None:
    """Batches of an epoch by the loader's length; None if it has none."""
    try:
        return max(0, len(loader))
    except Exception:  # noqa: BLE001 len() may be missing, wrong, or raise anything
        return None


def endless_part(loader: Any, iterator: Any) -> str:
    """What in ``loader``, which ``iterator`` iterates, is known to have no end; "" if nothing is."""
    return next((text for part in _parts(loader, iterator) if (text := _endless(part))), "")


def _parts(loader: Any, iterator: Any) -> Iterator[Any]:
    """The parts whose end is the epoch's end."""
    yield from (loader, iterator)
    while isinstance(iterator, GeneratorType) and iterator.gi_yieldfrom is not None:
        yield (iterator := iterator.gi_yieldfrom)
    if isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__:
        if isinstance(loader.dataset, IterableDataset):
            yield loader.dataset
        else:
            yield from (loader.batch_sampler, loader.sampler)


def _endless(part: Any) -> str:
    name = type(part).__name__
    if isinstance(part, (itertools.count, itertools.cycle, Roofline)):
        return f"a {name}"
    if isinstance(part, itertools.repeat):
        try:
            part.__length_hint__()
        except TypeError:
            return "a repeat without a number of times"
        return ""
    function = part if isinstance(part, GeneratorType) else getattr(type(part), "__iter__", None)
    code = getattr(function, "gi_code", None) or getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or not _never_returns(code):
        return ""
    return f"the generator {code.co_qualname}(), which has no way out of its loop"


def _never_returns(code: CodeType) -> bool:
    """Whether it is a generator's without any ``return``, even an implicit one: only an error ends it."""
    generator = bool(code.co_flags & inspect.CO_GENERATOR)
    return generator and not any(step.opname in _RETURNS for step in dis.get_instructions(code))


class Patience:
    """Waits for the end of an epoch of ``loader``, at most ``timeout_seconds`` if it may be endless.

    ``ends``: an earlier epoch did end. Raises LoaderError if ``iterator`` clearly has no end.
    """

    def __init__(
        self, called: str, loader: Any, timeout_seconds: float, iterator: Iterator[Any] | None = None, *, ends: bool
    ) -> None:
        self._called, self._timeout_s, self._ends = called, timeout_seconds, ends
        self._length = length(loader)
        if not ends and (part := endless_part(loader, iterator)):
            raise LoaderError(f"{called}: expected an epoch that ends, got {part}. {_WAY_OUT}")
        self._began_s = self._asked_s = time.monotonic()
        self.batches = _CHUNK_BATCHES

    def check(self, taken: int) -> None:
        """After ``taken`` batches: set how many to take before the next look. Raises LoaderError for an endless one."""
        now_s = time.monotonic()
        took_s, self._asked_s = now_s - self._asked_s, now_s
        if took_s < _CHUNK_SECONDS:
            self.batches *= 2
        seconds = now_s - self._began_s
        if self._ends or (self._length is not None and taken <= self._length):
            return
        if seconds > self._timeout_s or (seconds > _ENDLESS_SECONDS and taken > _ENDLESS_BATCHES):
            raise LoaderError(
                f"{self._called}: expected an epoch that ends, got {taken:,} batches in {seconds:.1f} s and no end. "
                f"{_WAY_OUT} If the epoch is only long, give the loader a length (__len__), or set loaderperf_timeout "
                "(seconds) higher."
            )


def empty_epoch_error(called: str, ended: int | None) -> LoaderError:
    """The error for an epoch without a batch; ``ended``: the batches of the epoch before it."""
    again = "" if ended is None else f" after an epoch of {ended}"
    return LoaderError(
        f"{called} gave no batch{again}. Expected at least one: is the dataset empty, is drop_last dropping "
        "everything, or does it give one epoch only? Then give a factory."
    )


def short_epoch_error(called: str, lengths: Collection[int], untimed: int) -> ShortEpochError:
    """The error for epochs, the latest with these ``lengths``, that have too few batches for a trial."""
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    text = f"{shortest} to {longest}" if shortest < longest else str(shortest)
    return ShortEpochError(
        f"{called} gives {text} batches an epoch, but a trial needs at least {untimed + MIN_TRIAL_BATCHES}: {untimed} "
        f"untimed, as many as it may prefetch, and {MIN_TRIAL_BATCHES} timed. Use more samples, a smaller batch_size, "
        "or fewer workers."
    )
