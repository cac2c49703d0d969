"""What the rewritten expressions report, collected in this process: one record for each line and what it called."""

from __future__ import annotations

import operator
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from dataclasses import asdict
from functools import partial
from typing import Any

from pytest_loaderperf.diagnosis.ledger import Site
from pytest_loaderperf.diagnosis.passes.naming import BUILTIN, OPERATORS, Subscript, callee_name, name_key, user_code
from pytest_loaderperf.diagnosis.passes.records import GENERATORS, Record

LOOKED_AT = 64  # calls of a line whose arguments and results are read; all are counted
_APPENDING = frozenset(["list.append", "list.extend", "collections.deque.append", "set.add"])
_STORES = "__setitem__"
_LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Semaphore)


class _Local(threading.local):
    """Of one thread: which sites run, what those inside each took, how long probes took so far, and its stage."""

    def __init__(self) -> None:
        self.inside: list[int] = [0]
        self.running: list[int] = [0]  # 0: a comprehension, whose site is known at its end
        self.paused = 0
        self.looking = False
        self.stage = ""


class Recorder:
    """The object that rewritten code calls, in this process. ``starting``: the loader is being made."""

    slice = slice

    def __init__(self) -> None:
        self._places: list[tuple[str, int, str, str]] = [("", 0, "", "")]  # 0 is no site
        self._records: dict[tuple[int, object], Record] = {}
        self._generators: dict[int, tuple[str, object]] = {}
        self._digests: dict[int, tuple[object, str | None]] = {}
        self._local = _Local()
        self._lock = threading.Lock()
        self.starting = True
        self.is_worker = False

    def register(self, file: str, kind: str, line: int, function: str) -> int:
        """The number of a new site."""
        self._places.append((file, line, function, kind))
        return len(self._places) - 1

    def paused_ns(self) -> int:
        """Time that probes themselves took so far in this thread."""
        return self._local.paused

    def in_stage(self, stage: str) -> str:
        """This thread begins a stage, or none ("") of torch's DataLoader. The one that it was in."""
        before, self._local.stage = self._local.stage, stage
        return before

    def forget(self) -> None:
        """In a forked worker: what the parent has seen is not this process's."""
        self._records, self._local, self._lock = {}, _Local(), threading.Lock()

    # What rewritten code calls. Each returns what the expression would have given.

    def call(self, site: int, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``function(*args, **kwargs)``."""
        return self._run(site, function, partial(function, *args, **kwargs), (*args, *kwargs.values()))

    def item(self, site: int, holder: Any, key_: Any, /) -> Any:
        """``holder[key]``."""
        args = (holder, *key_) if isinstance(key_, tuple) else (holder, key_)
        return self._run(site, Subscript(type(holder)), partial(operator.getitem, holder, key_), args)

    def store(self, site: int, value: Any, holder: Any, key_: Any, /) -> None:
        """``holder[key] = value``."""
        if isinstance(holder, (dict, MutableMapping)):
            callee = Subscript(type(holder), _STORES)
            self._run(site, callee, partial(operator.setitem, holder, key_, value), (holder, value))
        else:
            holder[key_] = value

    def operate(self, site: int, name: str, left: Any, right: Any, /) -> Any:
        """``left`` and ``right`` with the operator of that name between them."""
        function = OPERATORS[name]
        if isinstance(left, _PLAIN) and isinstance(right, _PLAIN):
            return function(left, right)
        return self._run(site, name, partial(function, left, right), (left, right))

    def loop(self, site: int, items: Any, /) -> Any:
        """``items``, over which a loop runs."""
        return self._run(site, "iter", lambda: items, (items,))

    def enter(self, site: int, manager: Any, /) -> Any:
        """``manager``; a lock is replaced by one that measures how long it is waited for."""
        return _TimedLock(manager, partial(self._run, site, "lock")) if isinstance(manager, _LOCKS) else manager

    def begin(self) -> int:
        """The time when a comprehension starts."""
        self._local.inside.append(0)
        self._local.running.append(0)
        return time.perf_counter_ns() - self._local.paused

    def made(self, site: int, began_ns: int, made: Any, /) -> Any:
        """``made`` by a comprehension that started at ``began_ns``."""
        ended = time.perf_counter_ns()
        local = self._local
        if local.looking:
            local.inside.pop()
            local.running.pop()
            return made
        self._note(site, "comprehension", (), made, ended - local.paused - began_ns, ended)
        return made

    def _run(self, site: int, function: Any, run: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        local, entered = self._local, time.perf_counter_ns()
        if local.looking:
            return run()  # what the recorder itself asks of a value is not the loader's doing
        depth = len(local.inside)
        local.inside.append(0)
        local.running.append(site)
        began = time.perf_counter_ns()
        local.paused += began - entered
        began -= local.paused
        try:
            result = run()
        except BaseException as error:
            ended = time.perf_counter_ns()
            del local.inside[depth + 1 :], local.running[depth + 1 :]  # of comprehensions that did not end
            self._note(site, function, (), error, ended - local.paused - began, ended)
            raise
        ended = time.perf_counter_ns()
        self._note(site, function, args, result, ended - local.paused - began, ended)
        return result

    def _note(self, site: int, function: Any, args: tuple[Any, ...], result: Any, ns: int, ended: int) -> None:  # noqa: PLR0917 private, and called in one place
        local = self._local
        inside = local.inside.pop()
        local.running.pop()
        if local.inside:
            local.inside[-1] += ns
        local.looking = True
        try:
            self._keep(site, function, args, result, ns, ns - inside)
        finally:
            local.looking = False
            local.paused += time.perf_counter_ns() - ended

    def _keep(self, site: int, function: Any, args: tuple[Any, ...], result: Any, ns: int, own_ns: int) -> None:  # noqa: PLR0917 private, and called in one place
        owner = getattr(function, "__self__", None)
        index = (site, name_key(function, owner))
        record = self._records.get(index)
        if record is None:
            with self._lock:
                record = self._records.setdefault(index, Record(callee_name(function, owner), user_code(function)))
        if around := next(filter(None, reversed(self._local.running)), 0):
            record.within.add(around)
        counts = record.counts
        if isinstance(result, GENERATORS):
            file, line, *_ = self._places[site]
            self._generators[id(result)] = f"{file}:{line}", result
        if self.starting:
            counts["in_start"] += 1
            return
        counts["count"] += 1
        counts["total_ns"] += ns
        counts["own_ns"] += own_ns
        if (of_stage := f"{self._local.stage}_ns") in counts:
            counts[of_stage] += own_ns
        counts["longest_ns"] = max(counts["longest_ns"], ns)
        counts["in_workers"] += self.is_worker
        counts["in_helper_thread"] += threading.current_thread() is not threading.main_thread()
        if owner is not None and not isinstance(owner, type):
            args = (owner, *args) if not isinstance(function, BUILTIN) or _is_data(owner) else args
        if record.random_state is None:
            record.look_at_random(self._generators, owner, args)
        record.look_at_paths(args)
        if record.callee in _APPENDING or record.callee.endswith("." + _STORES):
            record.holds = max(record.holds, len(args[0] if owner is None else owner))
        if counts["looked_at"] < LOOKED_AT:
            counts["looked_at"] += 1
            record.look(self._digests, args, result, ns)
        else:
            record.look_again(self._digests, args)

    def epoch_ended(self) -> None:
        """Keep how long the containers are that each line adds to."""
        for record in self._records.values():
            record.held_by_epoch.append(record.holds)

    def sites(self) -> list[dict[str, Any]]:
        """What was seen so far, as plain values."""
        found = []
        for (site, _), record in list(self._records.items()):
            file, line, function, kind = self._places[site]
            bases = Counter(copy.base for copy in record.copies)
            kept = sum(copy.is_kept(record.callee) and not copy.trims(bases) for copy in record.copies)
            found.append(
                asdict(
                    Site(
                        file,
                        line,
                        function,
                        kind,
                        record.callee,
                        **record.counts,
                        distinct=len(record.keys),
                        paths=len(record.paths),
                        kept=kept,
                        checked=len(record.copies),
                        holds=record.holds,
                        held=tuple(record.held_by_epoch) if record.holds else (),
                        argument=record.argument,
                        largest=record.largest,
                        result=record.result,
                        random_states=(record.random_state,) if record.random_state else (),
                        made_at=record.made_at,
                        exponent=record.exponent,
                        dtypes=tuple(sorted(record.dtypes)),
                        user=record.user,
                        within=tuple(sorted("{}:{}".format(*self._places[around]) for around in record.within)),
                    )
                )
            )
        return found


_PLAIN = (int, float, str, bytes, type(None))


class _TimedLock:
    """A lock whose time to acquire is a call at its ``with`` line."""

    def __init__(self, lock: Any, run: Any) -> None:
        self._lock, self._run = lock, run

    def __enter__(self) -> Any:
        return self._run(self._lock.__enter__, ())

    def __exit__(self, *error: Any) -> Any:  # noqa: PYI036 only passed on
        return self._lock.__exit__(*error)


def _is_data(owner: object) -> bool:
    """Whether the object of a builtin method is data that the method reads, not a module or a generator."""
    return not isinstance(owner, type(os)) and not isinstance(owner, GENERATORS)
