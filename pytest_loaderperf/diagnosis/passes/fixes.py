"""What a fixed line would give in place of what it calls, for rules whose fix is the same whatever the code is."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from multiprocessing import active_children
from threading import active_count, get_ident
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from pytest_loaderperf.diagnosis.passes.values import key

_LARGE = 256  # characters or bytes
_FEWEST_CALLS = 8  # that all have the same arguments, or all different ones: then there is one result for all
_FEWEST_REPLAYED, _MOST_REPLAYED = 8, 512  # results that are given in turns
_REPLAYED_NS, _REPLAYED_NBYTES = 300_000_000, 64 << 20  # for more than the fewest of them
_SMALL_NBYTES = 4096  # of a piece
_SLEEP_SECONDS = 0.00005  # of a wait that looks again and again
_CALIBRATIONS, _CALLS = 5, 200
_MOST_DEPTH = 4  # of a result, whose arrays are copied


def nothing(*_args: object, **_kwargs: object) -> None:
    """In place of a call that is left out."""


class Own:
    """What the doctor's own code takes in the place of the user's, in the thread that consumes batches: ``ns``."""

    def __init__(self) -> None:
        self.ns = 0
        self._work_ns = 0
        self.around_ns = 0  # of each addition, what is outside it
        self._thread = get_ident()

    def calibrate(self, call: Callable[[], object]) -> int:
        """What ``call`` takes beyond what it adds up itself: to be called, and to read the clock. In ns."""
        spent_ns, bare_ns = [], []
        for _ in range(_CALIBRATIONS):
            before_ns, began_ns = self.ns, perf_counter_ns()
            for _ in range(_CALLS):
                call()
            spent_ns.append(perf_counter_ns() - began_ns - (self.ns - before_ns))
            began_ns = perf_counter_ns()
            for _ in range(_CALLS):
                nothing()
            bare_ns.append(perf_counter_ns() - began_ns)
        return max(0, min(spent_ns) - min(bare_ns)) // _CALLS  # the least of each: other programs only add

    def work(self, run: Callable[[], Any]) -> Any:
        """What ``run`` gives, which a fixed line would do as well."""
        began_ns = perf_counter_ns()
        try:
            return run()
        finally:
            if get_ident() == self._thread:
                self._work_ns += perf_counter_ns() - began_ns

    def add(self, ns: int) -> None:
        """Add what took so long."""
        if get_ident() == self._thread:
            self.ns += ns

    def add_since(self, entered_ns: int) -> None:
        """Add the time since ``entered_ns``, without the work in it."""
        if get_ident() == self._thread:
            self.ns += perf_counter_ns() - entered_ns - self._work_ns + self.around_ns
            self._work_ns = 0


class Once:
    """Results of calls by their arguments.

    Where all of the first ones are alike, or none is like another, the first result is given from then on: to look at
    arguments takes time, which the fixed line would not.
    """

    def __init__(self) -> None:
        self._results: dict[object, Any] = {}
        self._held: list[object] = []
        self._calls = 0

    @property
    def settled(self) -> bool:
        """Whether there is one result for all calls."""
        return self._calls >= _FEWEST_CALLS and len(self._results) in (1, self._calls)

    @property
    def only(self) -> Any:
        """The result of the first call."""
        return next(iter(self._results.values()))

    def __call__(self, arguments: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What ``make`` gave for equal arguments."""
        if self.settled:
            return self.only
        self._calls += 1
        held: list[object] = []
        known = tuple(self._key(argument, held) for argument in arguments)
        if known not in self._results:
            self._results[known] = make()
            self._held += held
        return self._results[known]

    @staticmethod
    def _key(argument: Any, held: list[object]) -> object:
        """As ``key``, but large texts are known by the object, which takes no time."""
        if isinstance(argument, (str, bytes)) and len(argument) > _LARGE:
            held.append(argument)
            return id(argument)
        return key(argument, held, {})


class Kept:
    """A pool or a file that stays open when its user closes it."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return nothing if name in ("shutdown", "close", "terminate", "join") else getattr(self._opened, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened)

    def __getitem__(self, wanted: Any) -> Any:
        return self._opened[wanted]


def kept(opened: Any) -> Any:
    """``opened``, which its user cannot close; arrays have nothing to close."""
    return Kept(opened) if hasattr(opened, "__enter__") or hasattr(opened, "close") else opened


def rewound(opened: Any) -> Any:
    """A file that is read again from its start."""
    if isinstance(opened, Kept) and isinstance(vars(opened)["_opened"], io.IOBase):
        opened.seek(0)
    return opened


def _fields_of(held: Any, *_args: object, **_kwargs: object) -> dict[str, Any]:
    """What ``asdict`` gives of a dataclass, without copies of what is in its fields."""
    parts = {part.name: getattr(held, part.name) for part in fields(held)}
    return {name: _fields_of(part) if is_dataclass(part) else part for name, part in parts.items()}


_SHARES: dict[str, Callable[..., Any]] = {  # the same without a copy
    "tensor": torch.as_tensor,
    "array": np.asarray,
    "asdict": _fields_of,
    "astuple": lambda held: tuple(_fields_of(held).values()),
}


def shared(name: str, owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What ``name`` of an array, or of its arguments, gives without a copy."""
    if name in _SHARES:
        return _SHARES[name](*args, **kwargs)
    return owner if isinstance(owner, (torch.Tensor, np.ndarray)) else args[0]


class Growing:
    """Joins pieces in a buffer that has room for more, as one join of all of them would copy each once."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self.used = False
        self._buffer: Any = None
        self._last: Any = None
        self._most = 0

    def __call__(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``function(*args)`` for ``cat``, ``concatenate`` and ``append`` along the first dimension, if it is two.

        ``used``: some were.
        """
        parts, axes = (args[:2], args[2:]) if name == "append" else (args[0] if args else (), args[1:])
        axes += tuple(kwargs[axis] for axis in ("dim", "axis") if axis in kwargs)
        first = axes in ((), (0,)) and kwargs.keys() <= {"dim", "axis"}
        if not first or len(parts) != 2 or not all(isinstance(part, (torch.Tensor, np.ndarray)) for part in parts):  # noqa: PLR2004 said beside it
            return self._own.work(lambda: function(*args, **kwargs))
        before, piece = parts
        same = type(before) is type(piece) and before.dtype == piece.dtype and before.shape[1:] == piece.shape[1:]
        if not same or not before.ndim or (name == "append" and not axes and before.ndim > 1):
            return self._own.work(lambda: function(*args, **kwargs))
        self.used = True
        length, wanted = len(before), len(before) + len(piece)
        if before is not self._last or wanted > len(self._buffer):
            self._most = max(self._most, 2 * wanted if before is self._last else wanted)
            shape = (self._most, *before.shape[1:])
            self._buffer = (
                before.new_empty(shape) if isinstance(before, torch.Tensor) else np.empty(shape, before.dtype)
            )
            self._buffer[:length] = before
        if piece.nbytes < _SMALL_NBYTES:  # what one join of all takes for it is less than a clock
            self._write(length, wanted, piece)
        else:
            self._own.work(lambda: self._write(length, wanted, piece))
        self._most = max(self._most, wanted)
        self._last = self._buffer[:wanted]
        return self._last

    def _write(self, start: int, end: int, piece: Any) -> None:
        self._buffer[start:end] = piece


class Slept:
    """``time.sleep`` that looks again soon; as it is, once this process talks to another machine."""

    def __init__(self, own: Own) -> None:
        self._own, self._sleep, self._remote = own, time.sleep, False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            self._remote = True

    def __call__(self, seconds: float) -> None:
        """Sleep for less, or not at all where nothing in this process could end the wait."""
        if self._remote or active_count() > 1 or active_children():
            self._own.work(lambda: self._sleep(seconds if self._remote else min(seconds, _SLEEP_SECONDS)))


class Replay:
    """The first results of an expression, given again in turns.

    ``many``: some hundreds, if there is time for them; else they are all the same, and a few are enough. ``copies``:
    arrays among them are copied, because the fixed expression would make new ones.
    """

    def __init__(self, own: Own, *, many: bool, copies: bool) -> None:
        self._own, self._copies = own, copies
        self._results: list[Any] = []
        self.wants_more = many
        self._left = _REPLAYED_NBYTES
        self._deadline_ns = 0
        self._turn = 0

    def __call__(self, make: Callable[[], Any]) -> Any:
        """The result of ``make``, or an earlier one."""
        if self._more():
            result = self._own.work(make)
            self._results.append(result)
            self._left -= _nbytes(result)
            return result
        self._turn = (self._turn + 1) % len(self._results)
        result = self._results[self._turn]
        return self._own.work(lambda: copied(result)) if self._copies else result

    def _more(self) -> bool:
        """Whether further results are wanted: a few would stay in the core's cache, as rows of their own would not.

        A worker does not know when an epoch ends, and has a few.
        """
        if len(self._results) < _FEWEST_REPLAYED:
            self._deadline_ns = perf_counter_ns() + _REPLAYED_NS
            return True
        if not self.wants_more or len(self._results) == _MOST_REPLAYED or get_worker_info() is not None:
            return False
        return self._left > 0 and perf_counter_ns() < self._deadline_ns


def passed_over(args: Sequence[Any]) -> bool:
    """Do to the first array of ``args`` what an array operation would in place of a loop: one comparison, one sum.

    Whether there is an array.
    """
    array = next((one for one in args if isinstance(one, (torch.Tensor, np.ndarray)) and one.ndim), None)
    with suppress(TypeError, RuntimeError, IndexError):  # of a type that has no sum, or empty
        if array is not None:
            (array != array[0]).sum()
    return array is not None


def _nbytes(value: Any) -> int:
    """Of an array, or those in a sample."""
    if isinstance(value, (tuple, list, dict)):
        return sum(map(_nbytes, value.values() if isinstance(value, dict) else value))
    return int(getattr(value, "nbytes", 0))


def copied(value: Any, depth: int = 0) -> Any:
    """``value`` with new arrays."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if depth < _MOST_DEPTH and type(value) in (tuple, dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        inner = {name: copied(part, depth + 1) for name, part in parts}
        return inner if isinstance(value, dict) else tuple(inner.values())
    return value
