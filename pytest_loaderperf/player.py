"""The process that replays: it is given what a worker of a DataLoader is given, and makes batches when it is asked."""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils.data import _DatasetKind as DatasetKind
from torch.utils.data._utils import worker as torch_worker

from pytest_loaderperf.measurement import Side
from pytest_loaderperf.measurement.counting import Declared
from pytest_loaderperf.remote import STATE

_SEEDS = 1 << 32  # NumPy's


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker of a DataLoader is given, and the indices that the main process draws for it."""

    name: str
    dataset: Any
    kind: int
    auto_collation: bool
    collate: Callable[[Any], Any]
    drop_last: bool
    indices: Any
    init_worker: Callable[[int], None] | None
    workers: int
    count: Callable[[Any], int] | None
    declared: Declared
    seed: int

    def begin(self) -> None:
        """Become the first worker, as torch makes one; its seed is that of every side's."""
        torch.set_num_threads(1)
        random.seed(self.seed)
        torch.manual_seed(self.seed)
        with suppress(ImportError):
            import numpy as np

            np.random.seed(self.seed % _SEEDS)  # noqa: NPY002 the state that users' datasets draw from
        info = torch_worker.WorkerInfo(id=0, num_workers=self.workers, seed=self.seed, dataset=self.dataset)
        torch_worker._worker_info = info  # noqa: SLF001 torch has no other way to be a worker
        if self.init_worker is not None:
            self.init_worker(0)


class _Work:
    """The batches that one worker would make of all indices, made by who asks."""

    num_workers, prefetch_factor = 0, None

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __iter__(self) -> Iterator[Any]:
        recipe = self._recipe
        fetcher = DatasetKind.create_fetcher(  # type: ignore[no-untyped-call]  # torch's
            recipe.kind, recipe.dataset, recipe.auto_collation, recipe.collate, recipe.drop_last
        )
        for index in recipe.indices:
            try:
                batch = fetcher.fetch(index)
            except StopIteration:  # a stream's end
                return
            yield batch


class _Unwatched:
    """In the player: the asking process watches."""

    def stage(self, name: str, progress: Any = ()) -> Any:
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        pass


def play(connection: Connection, recipe: Recipe, parent: int) -> None:
    """Answer until the other end is closed, or the process there is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that asks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    side: Any = None
    told = 0
    while os.getppid() == parent:
        try:
            verb, *arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if verb == "begin":
                recipe.begin()
                watchdog: Any = _Unwatched()
                side = Side(
                    recipe.name, _Work(recipe), watchdog, count=recipe.count, deliver=None, declared=recipe.declared
                )
            answer = _answer(side, verb, *arguments)
        except Exception:  # noqa: BLE001 told to who asks
            connection.send((False, traceback.format_exc()))
            continue
        state = {name: getattr(side, name) for name in STATE} | {"starts": side.starts[told:], "epochs": []}
        told = len(side.starts)
        connection.send((True, (answer, state | {"kind": "replay", "described": "replay", "workers": recipe.workers})))


def _answer(side: Side, verb: str, *arguments: Any) -> Any:
    if verb == "begin":
        side.start()
        return None
    if verb in ("ready", "slice"):
        batches, conditions, *warm = arguments
        with replace(conditions, torch_threads=1).hold():  # as in every worker
            return side.ready(batches, warm=warm[0]) if warm else side.take(batches)
    if verb == "slow":
        (side.slow,) = arguments
        return None
    return getattr(side, verb)(*arguments)
