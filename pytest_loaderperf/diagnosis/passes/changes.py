"""Changes that the doctor can make itself, to measure what a fix brings: one line does what the fixed one would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from statistics import median
from time import perf_counter_ns
from typing import Any, Self

from pytest_loaderperf.diagnosis.ledger import EpochSeen, Ledger
from pytest_loaderperf.diagnosis.passes.fixes import (
    Growing,
    Once,
    Own,
    Replay,
    Slept,
    kept,
    nothing,
    passed_over,
    rewound,
    shared,
)
from pytest_loaderperf.diagnosis.passes.naming import OPERATORS, Subscript, callee_name, name_key
from pytest_loaderperf.diagnosis.passes.narrowing import narrow_operands, narrowly, unwidened
from pytest_loaderperf.diagnosis.passes.replaying import CallRewriter, LineRewriter
from pytest_loaderperf.diagnosis.passes.rewriting import ExpressionRewriter, Rewriter

_SETTINGS: dict[str, dict[str, Any]] = {
    "workers-restarted": {"persistent_workers": True},
    "shallow-prefetch": {"prefetch_factor": 8},
    "sample-by-sample": {"batched": True},
    "hidden-getitems": {"passed_on": True},
}
_LEFT_OUT = ("gc-pauses", "too-many-threads")
_KEPT_OPEN = ("executor-per-item", "file-reopened")
_NEAR = ("float64-round-trip", "large-hand-over")
_CALLS = frozenset(
    [
        *_LEFT_OUT,
        *_KEPT_OPEN,
        "repeated-work",
        "read-amplification",
        "needless-copy",
        "growing-concatenation",
        "sleeping",
        "snapshot-per-batch",
        *_NEAR,
    ]
)
_REPLAYS = frozenset(["arrow-to-python", "element-by-element", "list-to-array", "scan-per-item"])
LEAST_EPOCHS = 2  # of a pass: the first one loads things
_SPREAD = 0.2  # of a single pair: what pairs differ by
_FEWEST_BATCHES = 8  # of an epoch that is not whole


_Fix = Callable[[Any, object, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What to change: the line and callee that a rule named, or settings of the DataLoader.

    ``calls``: where the line is in a loop, the calls of the function around it may be left out as a whole. ``views``:
    the fixed line would give a view of an array that is kept, which takes no copy.
    """

    rule: str
    file: str
    line: int
    callee: str
    chosen: tuple[tuple[str, Any], ...] = ()
    calls: bool = False
    views: bool = False

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> Self:
        """The same loader with other settings; ``ReferenceLoader``: made anew by that class."""
        return cls("", "", 0, "", tuple(settings.items()))

    @property
    def possible(self) -> bool:
        """Whether it can be made without knowing the user's code."""
        return self.rule in _SETTINGS or (self.rule in _CALLS and bool(self.callee)) or self.replays

    @property
    def replays(self) -> bool:
        """Whether the line's expression is not evaluated, but gives earlier results again: what is near to its fix."""
        return bool(self.line) and (self.rule in _REPLAYS or self._is_made_again)

    @property
    def exact(self) -> bool:
        """Whether the changed line does what the fixed one does, not only what is near to it."""
        return self.rule not in _NEAR and self.rule not in _REPLAYS

    @property
    def keeps_kind(self) -> bool:
        """Whether batches are of the same kind: not where they are handed over narrow, to be made wider later."""
        return self.rule != "large-hand-over"

    @property
    def _is_made_again(self) -> bool:
        """Whether it is a comprehension that always gives the same."""
        return (self.rule, self.callee) == ("repeated-work", "comprehension")

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the DataLoader that it sets."""
        return _SETTINGS.get(self.rule, {}) | dict(self.chosen)

    def register(self, file: str, kind: str, line: int, _function: str) -> int:
        """1 for expressions of its line, which are rewritten; 0 for all others."""
        called = "operator" if self.callee in OPERATORS else "item" if self.callee.endswith("__getitem__") else "call"
        replayed = ["line", "function"] if self.calls else ["line"]
        wanted = replayed if self.replays else [called] if self.rule in _CALLS else []
        return int((file, line) == (self.file, self.line) and kind in wanted)

    @property
    def rewriter(self) -> Rewriter:
        """How its line is rewritten; no more than it needs, because that takes time."""
        if self.replays:
            return LineRewriter
        return CallRewriter if self.rule == "repeated-work" else ExpressionRewriter


class Changed:
    """The object that the rewritten line calls in place of what it called. ``used``: it did so."""

    slice = slice

    def __init__(self, change: Change) -> None:
        self._callee, self._name = change.callee, change.callee.rpartition(".")[2]
        self._own = Own()
        self._growing = Growing(self._own)
        many = change.rule in _REPLAYS
        self._once, self._replay = Once(), Replay(self._own, many=many, copies=many and not change.views)
        self._ours: dict[object, bool] = {}
        self._seen: object = nothing
        self._fix: _Fix = nothing
        self._own.around_ns = self._own.calibrate(lambda: self.call(1, nothing))
        self._own.ns = 0
        self._seen, self._fix = None, self._fix_of(change.rule)
        self._settled: list[Any] = []  # the one result for all calls, if there is one
        self._settled_ns = 0
        self.used = False

    def _fix_of(self, rule: str) -> _Fix:
        """What the fixed line of a rule gives for a function, the object that it belongs to, and its arguments."""
        if rule == "sleeping":
            sleep = Slept(self._own)
            return lambda _function, _owner, args, _named: sleep(*args)
        fixes: dict[str, _Fix] = {
            **dict.fromkeys(_LEFT_OUT, lambda _function, _owner, _args, _named: None),
            **dict.fromkeys(_KEPT_OPEN, self._kept),
            "needless-copy": lambda _function, owner, args, named: self._own.work(
                lambda: shared(self._name, owner, args, named)
            ),
            "float64-round-trip": lambda function, owner, args, named: self._own.work(
                lambda: narrowly(function, owner, args, named)
            ),
            "large-hand-over": lambda _function, owner, args, _named: self._own.work(lambda: unwidened(owner, args)),
            "snapshot-per-batch": lambda _function, _owner, args, _named: args[0] if "copy" in self._name else b"",
            "growing-concatenation": self._grown,
        }
        return fixes.get(rule, self._known)

    def _grown(self, function: Any, _owner: object, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        joined = self._growing(self._name, function, args, named)
        self.used = self._growing.used
        return joined

    def _kept(self, function: Any, owner: object, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        of = owner if isinstance(owner, PurePath) else self._callee
        make = partial(self._own.work, lambda: kept(function(*args, **named)))
        return rewound(self._once((of, *args, *named.values()), make))

    def _known(self, function: Any, owner: object, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        make = partial(self._own.work, lambda: function(*args, **named))
        return self._once((owner, *args, *named.values()), make)

    def epoch_ended(self) -> None:
        """Later epochs are measured: they read nothing more to replay."""
        self._replay.wants_more = False

    def paused_ns(self) -> int:
        """What this object itself took of the consumer's thread so far: the fixed line would not."""
        return self._own.ns

    def call(self, _site: int, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """What the fixed line would give for ``function(*args, **kwargs)``."""
        entered_ns = perf_counter_ns()
        owner = getattr(function, "__self__", None)
        if function is not self._seen:  # a method is a new object in each call
            if not self._is_ours(function, owner):
                return function(*args, **kwargs)
            self._seen = function
            self.used = True
        try:
            return self._fix(function, owner, args, kwargs)
        finally:
            self._own.add_since(entered_ns)

    def operate(self, _site: int, name: str, left: Any, right: Any, /) -> Any:
        """What the fixed line would give for ``left`` and ``right`` with the operator of that name between them."""
        function = OPERATORS[name]
        if name != self._callee:
            return function(left, right)
        self.used = True
        return function(*narrow_operands((left, right)))

    def item(self, _site: int, holder: Any, wanted: Any, /) -> Any:
        """What the fixed line would give for ``holder[wanted]``."""
        entered_ns = perf_counter_ns()
        if not self._is_ours(Subscript(type(holder)), None):
            return holder[wanted]
        self.used = True
        try:
            return self._once((holder, wanted), partial(self._own.work, lambda: holder[wanted]))
        finally:
            self._own.add_since(entered_ns)

    def settled(self, name: str, make: Callable[[], Any], /) -> Any:
        """A call with its arguments, which are evaluated only until it is known that the result is always the same."""
        if name != self._name:
            return make()
        if not self._settled:
            result = make()
            if self._once.settled:
                self._settled.append(self._once.only)
                self._settled_ns = self._own.calibrate(lambda: self.settled(name, nothing))
            return result
        self._own.add(self._settled_ns)
        return self._settled[0]

    def replay(self, _name: str, make: Callable[[], Any], /) -> Any:
        """What the line's expression gave before."""
        entered_ns = perf_counter_ns()
        self.used = True
        try:
            return self._replay(make)
        finally:
            self._own.add_since(entered_ns)

    def replay_call(self, make: Callable[[], Any], /, *args: Any) -> Any:
        """What the user's function gave before; one operation on the array that it was given stands for the fix.

        A function that is given none may make more than what its loop computes, and is called.
        """
        entered_ns = perf_counter_ns()
        try:
            if not self._own.work(lambda: passed_over(args)):
                return self._own.work(make)
            self.used = True
            return self._replay(make)
        finally:
            self._own.add_since(entered_ns)

    def _is_ours(self, function: Any, owner: object) -> bool:
        """Whether it is the call that the rule named: the line may have others."""
        known = name_key(function, owner)
        if known not in self._ours:
            self._ours[known] = callee_name(function, owner) == self._callee
        return self._ours[known]


def ratios(before: list[Ledger], after: list[Ledger]) -> tuple[float, float, float] | None:
    """How many times faster ``after`` is: low, median and high over pairs of passes. None if a pass had too few epochs.

    One is enough of the slow loader, or several batches of it: then it takes so long that what a first one loads hardly
    counts.
    """
    slow, fast = ([ledger.timed for ledger in ledgers] for ledgers in (before, after))
    if any(len(epochs) < LEAST_EPOCHS for epochs in fast) or not all(epochs and _tells(epochs[0]) for epochs in slow):
        return None
    times = [[_epoch_ns(ledger) for ledger in ledgers] for ledgers in (before, after)]
    found = [one / other for one, other in zip(*times, strict=True) if one and other]
    spread = _SPREAD if len(found) == 1 else 0.0
    return (min(found) * (1 - spread), median(found), max(found) * (1 + spread)) if found else None


def _tells(epoch: EpochSeen) -> bool:
    """Whether its pace is that of a whole one: workers begin by filling their prefetch."""
    return epoch.whole or epoch.batches >= _FEWEST_BATCHES


def _epoch_ns(ledger: Ledger) -> float:
    """Time of a sample in an epoch, start and end included: of the median epoch after the first, if there are more."""
    epochs = ledger.timed[1:] or ledger.timed
    return median([(epoch.first_ns + epoch.waits_ns + epoch.exit_ns) / max(1, epoch.samples) for epoch in epochs])
