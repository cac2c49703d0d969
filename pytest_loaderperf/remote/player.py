"""The process that replays: it gets what a worker of a loader gets, and makes batches on request."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils.data import _DatasetKind as DatasetKind
from torch.utils.data._utils import worker as torch_worker

from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.measurement import Side
from pytest_loaderperf.measurement.activity import wait_until_idle, waited_for_cpu_ns
from pytest_loaderperf.measurement.counting import Declared
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.remote.child import STATE
from pytest_loaderperf.remote.shared_channels import sever

LEAVE = "leave"  # the message that ends it
SETTLE_SECONDS = 0.0005  # until the asking process sleeps: on the same CPU it would take time from the batch
_SEEDS, _SEED_BITS = 1 << 32, 31  # NumPy's, and those that torch draws
_LOOK_SECONDS = 1.0  # interval of checking that the asking process still exists


@dataclass(frozen=True, slots=True)
class Anew:
    """The answer of a process whose epoch is over, if the workers end with theirs: ask a new one.

    ``epochs``: how many batches an epoch has, if that is known.
    """

    epochs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker of a DataLoader gets, and the indices that the main process draws for it.

    ``threaded``: the loader itself, if threads make its batches; then only the seed is used as well. ``persists``:
    whether its workers live longer than an epoch. ``number`` and ``epochs``: how many processes have done this work
    before, and how many batches their epochs had.
    """

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
    persists: bool
    seed: int
    worker: int = 0
    threaded: ReferenceLoader[Any] | None = None
    number: int = 0
    epochs: tuple[int, ...] = ()

    @property
    def streamed(self) -> bool:
        """Whether its dataset is a stream, so that each worker may read another part."""
        return self.kind == DatasetKind.Iterable and self.threaded is None

    def begin(self) -> None:
        """Become this worker, as torch makes one; its seed is that of every side's in this epoch."""
        seed = self._base_seed + self.worker
        torch.set_num_threads(1)
        wait_until_idle([])  # some versions of torch start threads for this, which wait at full speed at first
        random.seed(seed)
        torch.manual_seed(seed)
        with suppress(ImportError):
            import numpy as np

            np.random.seed(seed % _SEEDS)  # noqa: NPY002 the state that users' datasets draw from
        if self.threaded is not None:
            return
        self._be(self.worker)
        if self.init_worker is not None:
            self.init_worker(self.worker)

    def take_turn(self, rounds: int) -> None:
        """Act as the next worker in the next round, if workers only differ in number: each may have other work."""
        if self.init_worker is None and self.threaded is None and not self.streamed:
            self._be((self.worker + self.number + rounds) % self.workers)

    @property
    def _base_seed(self) -> int:
        """The number that torch draws for an epoch; a worker's seed is this plus its number."""
        return random.Random(f"{self.seed} {self.number}").getrandbits(_SEED_BITS)  # noqa: S311 the same for all sides

    def _be(self, worker: int) -> None:
        seed = self._base_seed + worker
        info = torch_worker.WorkerInfo(id=worker, num_workers=self.workers, seed=seed, dataset=self.dataset)
        torch_worker._worker_info = info  # noqa: SLF001 torch has no other way to be a worker


class _Work:
    """The batches that one worker would make of all indices, made on request."""

    num_workers, prefetch_factor = 0, None

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __iter__(self) -> Iterator[Any]:
        recipe = self._recipe
        if recipe.threaded is not None:
            yield from recipe.threaded.without_threads()
            return
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


def _received(connection: Connection) -> list[Any]:
    """The next request; LEAVE if the other end is closed, or its process is gone.

    A closed end is not enough: processes forked from there, including this one, may keep that end open.
    """
    parent, started_by = multiprocessing.parent_process(), os.getppid()
    try:
        while not connection.poll(_LOOK_SECONDS):
            if os.getppid() != started_by or parent is None or not parent.is_alive():
                return [LEAVE]
        return list(connection.recv())
    except (EOFError, OSError):
        return [LEAVE]


def play(connection: Connection, recipe: Recipe, inherited: Mapping[int, int]) -> None:
    """Answer until LEAVE is received, or the other process is gone.

    ``inherited``: sockets and pipes of the asking process, for ``sever``: this one must not use them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the asking process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sever(inherited)
    side: Any = None
    told = rounds = 0
    used = False  # for more than the first batch
    while True:
        verb, *arguments = _received(connection)
        if verb == LEAVE:
            return
        try:
            if verb == "begin":
                recipe.begin()
                watchdog: Any = _Unwatched()
                side = Side(
                    recipe.name, _Work(recipe), watchdog, count=recipe.count, deliver=None, declared=recipe.declared
                )
                side._epochs.extend(recipe.epochs)  # noqa: SLF001 as if it had seen them itself
            if used and verb == "ready" and not recipe.persists and not side.more_in_epoch(arguments[0]):
                connection.send((True, Anew(() if side.epoch_batches is None else (side.epoch_batches,))))
                continue
            used = used or verb in ("ready", "take", "slice")
            if verb == "ready":
                recipe.take_turn(rounds)
                rounds += 1
            answer = _answer(side, verb, *arguments)
        except Exception:  # noqa: BLE001 sent to the asking process
            connection.send((False, traceback.format_exc()))
            continue
        state = {name: getattr(side, name) for name in STATE} | {"starts": side.starts[told:], "epochs": []}
        told = len(side.starts)
        state |= {"kind": "replay", "described": "replay", "declared": {}}
        state |= {"workers": recipe.workers, "in_threads": recipe.threaded is not None}
        connection.send((True, (answer, state)))


def _on_a_free_cpu(side: Side, batches: int) -> SteadyRecord | None:
    """What ``side.take`` gives, without the time in which other programs had the CPU, which affects sides by chance."""
    began_ns, before_ns = time.perf_counter_ns(), waited_for_cpu_ns()
    record = side.take(batches)
    waited_ns, lasted_ns = waited_for_cpu_ns() - before_ns, time.perf_counter_ns() - began_ns
    if record is None:
        return None
    untimed_ns = lasted_ns - record.wall_ns  # in which it may have waited as well
    wall_ns = max(1, record.wall_ns - max(0, waited_ns - untimed_ns))
    latencies_ns = tuple(ns * wall_ns // record.wall_ns for ns in record.latencies_ns)
    return replace(record, wall_ns=wall_ns, latencies_ns=latencies_ns)


def _answer(side: Side, verb: str, *arguments: Any) -> Any:
    if verb == "begin":
        side.start()
        return None
    if verb in ("ready", "slice"):
        batches, conditions, *warm = arguments
        time.sleep(SETTLE_SECONDS)
        with replace(conditions, torch_threads=1).hold():  # as in every worker
            return side.ready(batches, warm=warm[0]) if warm else _on_a_free_cpu(side, batches)
    if verb == "slow":
        (side.slow,) = arguments
        return None
    return getattr(side, verb)(*arguments)
