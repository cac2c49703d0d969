"""Changes that the doctor can make itself, to measure what a fix brings: one line does what the fixed one would do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

import numpy as np
import torch

from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.passes.naming import Subscript, callee_name
from pytest_loaderperf.diagnosis.passes.values import key

_SETTINGS: dict[str, dict[str, Any]] = {
    "workers-restarted": {"persistent_workers": True},
    "shallow-prefetch": {"prefetch_factor": 8},
}
_CALLS = frozenset(["repeated-work", "needless-copy", "executor-per-item", "gc-pauses", "too-many-threads"])
LEAST_EPOCHS = 2  # of a pass: the first one loads things
_LARGE = 256  # characters or bytes
_SHARES: dict[str, Callable[..., Any]] = {"tensor": torch.as_tensor, "array": np.asarray}  # the same without a copy


@dataclass(frozen=True, slots=True)
class Change:
    """What to change: the line and callee that a rule named, or settings of the DataLoader."""

    rule: str
    file: str
    line: int
    callee: str
    chosen: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> Self:
        """The same loader with other settings; ``ReferenceLoader``: made anew by that class."""
        return cls("", "", 0, "", tuple(settings.items()))

    @property
    def possible(self) -> bool:
        """Whether it can be made without knowing the user's code."""
        return self.rule in _SETTINGS or (self.rule in _CALLS and bool(self.callee))

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the DataLoader that it sets."""
        return _SETTINGS.get(self.rule, {}) | dict(self.chosen)

    def register(self, file: str, kind: str, line: int, _function: str) -> int:
        """1 for expressions of its line, which are rewritten; 0 for all others."""
        return int((file, line) == (self.file, self.line) and kind in ("call", "item") and self.rule in _CALLS)


class Changed:
    """The object that the rewritten line calls in place of what it called."""

    slice = slice

    def __init__(self, change: Change) -> None:
        self._callee, self._rule = change.callee, change.rule
        self._results: dict[object, Any] = {}
        self._held: list[object] = []

    def call(self, _site: int, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """What the fixed line would give for ``function(*args, **kwargs)``."""
        owner = getattr(function, "__self__", None)
        if callee_name(function, owner) != self._callee:
            return function(*args, **kwargs)
        if self._rule in ("gc-pauses", "too-many-threads"):
            return None
        if self._rule == "needless-copy":
            return self._shared(function, owner, args, kwargs)
        arguments = (owner, *args, *kwargs.values())

        def make() -> Any:
            return function(*args, **kwargs)

        if self._rule == "executor-per-item":
            return self._once((self._callee, args), lambda: _Kept(make()))
        return self._once(arguments, make)

    def item(self, _site: int, holder: Any, wanted: Any, /) -> Any:
        """What the fixed line would give for ``holder[wanted]``."""
        if self._callee != callee_name(Subscript(type(holder)), None):
            return holder[wanted]
        return self._once((holder, wanted), lambda: holder[wanted])

    def _once(self, arguments: tuple[Any, ...], make: Callable[[], Any]) -> Any:
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

    def _shared(self, function: Any, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = self._callee.rpartition(".")[2]
        if name in _SHARES:
            return _SHARES[name](*args, **kwargs)
        if name == "deepcopy":
            return copy.copy(args[0])
        return owner if isinstance(owner, (torch.Tensor, np.ndarray)) else args[0]


class _Kept:
    """A pool that stays open when its user closes it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return _nothing if name in ("shutdown", "close", "terminate", "join") else getattr(self._pool, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


def _nothing(*_args: object, **_kwargs: object) -> None:
    return None


def ratios(before: list[Ledger], after: list[Ledger]) -> tuple[float, float, float] | None:
    """How many times faster ``after`` is: low, median and high over pairs of passes. None if a pass had one epoch."""
    if any(len(ledger.timed) < LEAST_EPOCHS for ledger in (*before, *after)):
        return None
    times = [[_epoch_ns(ledger) for ledger in ledgers] for ledgers in (before, after)]
    found = [one / other for one, other in zip(*times, strict=True) if one and other]
    return (min(found), median(found), max(found)) if found else None


def _epoch_ns(ledger: Ledger) -> float:
    """Time of a sample in an epoch, start and end included: of the median epoch after the first."""
    epochs = ledger.timed[1:]
    return median([(epoch.first_ns + epoch.waits_ns + epoch.exit_ns) / max(1, epoch.samples) for epoch in epochs])
