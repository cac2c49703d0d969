"""The end of the pipe where a loader runs: it waits for commands, one JSON object in each line of standard input.

``{"do": "trial", "warm": w, "batches": n}`` takes w batches untimed and n timed; ``first`` builds a second loader and
times its first batch; ``check`` checks batches. The reply is one object, with ``problem`` if it failed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TextIO

from pytest_loaderperf.engines.variant import Unable, Variant
from pytest_loaderperf.errors import LoaderPerfError

Reply = dict[str, Any]


class Server:
    """Holds one loader, and one endless iteration of it. ``checked`` answers the command ``check``."""

    def __init__(
        self, variant: Variant, checked: Callable[[Variant], Reply], first_of_limit: Callable[[], int] | None = None
    ) -> None:
        self._variant, self._checked, self._first_of_limit = variant, checked, first_of_limit
        self._loader = variant.make()
        self._batches = self._iterate(_endless(self._loader))

    def _iterate(self, batches: Iterator[Any]) -> Iterator[Any]:
        return map(self._variant.unpack, batches) if self._variant.unpack else batches

    def trial(self, warm: int, batches: int) -> Reply:
        """Nanoseconds for ``batches`` in steady state, after ``warm`` ones that use up prefetched batches."""
        if self._variant.run is not None:
            began_ns = time.perf_counter_ns()
            self._variant.run(batches)
            return {"ns": time.perf_counter_ns() - began_ns, "taken": batches}
        for _ in islice(self._batches, warm):
            pass
        began_ns = time.perf_counter_ns()
        for _ in islice(self._batches, batches):
            pass
        return {"ns": time.perf_counter_ns() - began_ns, "taken": warm + batches}

    def first(self) -> Reply:
        """Nanoseconds from ``iter()`` of a new loader to its first batch, including the start of its workers."""
        if self._first_of_limit is not None:
            return {"ns": self._first_of_limit()}
        loader = self._variant.make()
        batches = self._iterate(_endless(loader))
        began_ns = time.perf_counter_ns()
        next(batches)
        took_ns = time.perf_counter_ns() - began_ns
        del batches
        if self._variant.close is not None:
            self._variant.close(loader)
        del loader
        gc.collect()
        return {"ns": took_ns}

    def check(self) -> Reply:
        """What ``checked`` says of the loader."""
        return self._checked(self._variant)

    def close(self) -> None:
        """End what the loader started."""
        if self._variant.close is not None:
            self._variant.close(self._loader)


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("the loader gave no batch in an epoch")


def answer(make: Callable[[], tuple[Server, Reply]]) -> None:
    """Answer commands until standard input ends. ``make`` gives the server, and the first reply."""
    # The output of libraries goes to the log; the pipe is only for answers.
    wire = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        server, facts = make()
    except Unable as reason:
        _reply(wire, {"unable": str(reason)})
        return
    except Exception as error:  # noqa: BLE001 a loader's error becomes its row's text
        _reply(wire, _problem(error))
        return
    _reply(wire, facts)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            _reply(wire, getattr(server, command.pop("do"))(**command))
        except Exception as error:  # noqa: BLE001 a loader's error becomes its row's text
            _reply(wire, _problem(error))
    server.close()


def _problem(error: Exception) -> Reply:
    said = str(error)
    return {"problem": said if isinstance(error, LoaderPerfError) else f"{type(error).__name__}: {said}"}


def _reply(wire: TextIO, reply: Reply) -> None:
    print(json.dumps(reply), file=wire, flush=True)
