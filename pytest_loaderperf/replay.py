"""What a worker of a DataLoader does for its batches, done again in a process of ours, so that two sides take turns.

Batches from worker processes come in bursts, and a busy neighbour of one worker is not that of the other: two trials of
such loaders differ by a tenth to a third. The same indices through the same dataset and collate, one batch of either
side in strict turns, differ by a few percent. What lies between the workers and the consumer is not seen here.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils.data import DataLoader, IterDataPipe
from torch.utils.data import _DatasetKind as DatasetKind
from torch.utils.data._utils import worker as torch_worker

from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.loader.processes import sent
from pytest_loaderperf.measurement import Side, Watchdog
from pytest_loaderperf.remote import STATE, RemoteError, RemoteSide

_JOIN_SECONDS = 1.0  # a process that was told to end
_SEEDS = 1 << 32  # NumPy's


class ReplayError(RemoteError):
    """The work of a loader's workers cannot be done again."""


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
        fetcher = DatasetKind.create_fetcher(
            recipe.kind, recipe.dataset, recipe.auto_collation, recipe.collate, recipe.drop_last
        )
        for index in recipe.indices:
            try:
                batch = fetcher.fetch(index)
            except StopIteration:  # a stream's end
                return
            yield batch


def recipe_of(side: Side, seed: int) -> tuple[Recipe, Any] | None:
    """What a worker of the side's loader is given, and the context that starts it; None if it has no such workers."""
    loader = side.loader.loader if isinstance(side.loader, ReferenceLoader) else side.loader
    if not isinstance(loader, DataLoader) or loader.num_workers == 0 or isinstance(loader.dataset, IterDataPipe):
        return None
    collate: Any = loader.collate_fn
    if isinstance(collate, partial) and collate.func is sent:
        (collate,) = collate.args  # what it packs is for the way out of the worker
    recipe = Recipe(
        name=side.name,
        dataset=loader.dataset,
        kind=loader._dataset_kind,  # noqa: SLF001 as torch's own iterator reads it, and so on
        auto_collation=loader._auto_collation,  # noqa: SLF001
        collate=collate,
        drop_last=loader.drop_last,
        indices=loader._index_sampler,  # noqa: SLF001
        init_worker=loader.worker_init_fn,
        workers=loader.num_workers,
        count=side.own_count,
        seed=seed,
    )
    return recipe, loader.multiprocessing_context or torch.multiprocessing


class Player:
    """A process that does the work of ``recipe`` when it is asked to; answers as ``remote.Child`` does."""

    error = ReplayError

    def __init__(self, recipe: Recipe, context: Any, watchdog: Watchdog) -> None:
        self.called = "its replay"
        self._stage = f"{recipe.name}: replaying its workers"
        self._watchdog = watchdog
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_play, args=(theirs, recipe, os.getpid()), daemon=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: as torch forks workers
                self._process.start()
        except Exception as error:
            self._connection.close()
            raise ReplayError(f"{recipe.name}: its work cannot be given to another process: {error}") from error
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._process.pid)

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What it answers. Raises ReplayError where it raised, or is gone, and is closed by whatever is raised."""
        try:
            with self._watchdog.stage(self._stage):
                self._connection.send((verb, *arguments))
                worked, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise ReplayError(f"{self._stage}: its process ended.") from error
        except BaseException:
            self.close()  # or its answer would be taken for the next one's
            raise
        if not worked:
            self.close()
            raise ReplayError(f"{self._stage}: {answer}")
        return answer

    def close(self) -> None:
        """End it. May be called twice."""
        self._connection.close()
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_JOIN_SECONDS)
            if self._process.is_alive():
                self._process.kill()
                self._process.join(_JOIN_SECONDS)


class Replay(RemoteSide):
    """A side whose batches are made by a Player, in the asking process's turn."""

    def __init__(self, player: Any, name: str, state: dict[str, Any]) -> None:
        super().__init__(player, name, state)
        self._player, self.workers = player, int(state["workers"])

    def close(self) -> None:
        """End the process. May be called twice."""
        self._open = False
        self._player.close()


class _Unwatched:
    """In the player: the asking process watches."""

    def stage(self, name: str, progress: Any = ()) -> Any:
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        pass


def play(side: Side, seed: int, watchdog: Watchdog) -> tuple[Player, dict[str, Any]] | None:
    """A process that does the work of the side's workers, and how it stands; None where there is no such work.

    Raises ReplayError where it cannot be done again.
    """
    made = recipe_of(side, seed)
    if made is None:
        return None
    player = Player(*made, watchdog)
    _, state = player.ask("begin")
    return player, state


def _play(connection: Connection, recipe: Recipe, parent: int) -> None:
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
                side = Side(recipe.name, _Work(recipe), watchdog, count=recipe.count, deliver=None)
            answer = _answer(side, verb, *arguments)
        except Exception:  # noqa: BLE001 told to who asks
            connection.send((False, traceback.format_exc()))
            continue
        state = {name: getattr(side, name) for name in STATE} | {"starts": side.starts[told:], "exits": []}
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


def replayed_by(watchdog: Watchdog) -> Callable[[Any, int], RemoteSide | None]:
    """A function that makes the replay of a side, here or in the process where its loader lives."""

    def make(side: Any, seed: int) -> RemoteSide | None:
        try:
            if isinstance(side, RemoteSide):
                return side.replay(seed)
            played = play(side, seed, watchdog)
            return None if played is None else Replay(played[0], side.name, played[1])
        except ReplayError:
            return None

    return make
