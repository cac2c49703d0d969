"""What a worker of a DataLoader does for its batches, done again in a process of ours, so that two sides take turns.

Batches from worker processes come in bursts, and a busy neighbour of one worker is not that of the other: two trials of
such loaders differ by a tenth to a third. The same indices through the same dataset and collate, one batch of either
side in strict turns, differ by a few percent. What lies between the workers and the consumer is not seen here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, IterDataPipe

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.loader.processes import sent
from pytest_loaderperf.measurement import Side, Watchdog
from pytest_loaderperf.measurement.counting import Declared
from pytest_loaderperf.measurement.tracing import untraced
from pytest_loaderperf.player import Recipe, play
from pytest_loaderperf.remote import RemoteError, RemoteSide

_JOIN_SECONDS = 1.0  # a process that was told to end


class ReplayError(RemoteError):
    """The work of a loader's workers cannot be done again."""


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
        declared=Declared.by(side.loader),
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
        self._process = context.Process(target=play, args=(theirs, recipe, os.getpid()), daemon=True)
        try:
            with warnings.catch_warnings(), untraced(starting=True):
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

    def __init__(self, player: Player | Relay, name: str, state: dict[str, Any]) -> None:
        super().__init__(player, name, state)  # type: ignore[arg-type]  # asked as a Child is
        self._player, self.workers = player, int(state["workers"])

    def look_ahead(self, batch_seconds: float) -> None:
        """It works when it is asked to, as a worker does; threads of its dataset's own are noticed."""

    def close(self) -> None:
        """End the process. May be called twice."""
        self._open = False
        self._player.close()


def player_of(side: Side, seed: int, watchdog: Watchdog) -> tuple[Player, dict[str, Any]] | None:
    """A process that does the work of the side's workers, and how it stands; None where there is no such work.

    Raises ReplayError where it cannot be done again.
    """
    made = recipe_of(side, seed)
    if made is None:
        return None
    player = Player(*made, watchdog)
    _, state = player.ask("begin")
    return player, state


class Relay:
    """A Player in the process of another side's loader, which hands on what is asked."""

    def __init__(self, side: RemoteSide) -> None:
        self._side = side
        self.called, self.error, self.pid = "its replay", ReplayError, side.children[0]

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What it answers. Raises as RemoteSide does."""
        return self._side.relay(verb, *arguments)

    def close(self) -> None:
        """End it. May be called twice."""
        with suppress(LoaderPerfError):  # the other process has ended, and it with that
            self._side.relay("close")


class Relayed:
    """In the process of a loader: its Player, for who asks through a Relay."""

    def __init__(self, side: Side, watchdog: Watchdog) -> None:
        self._side, self._watchdog = side, watchdog
        self._player: Player | None = None

    def perform(self, verb: str, *arguments: Any) -> Any:
        """Open a player, hand on what it is asked, or close it."""
        if verb == "open":
            self.close()
            (seed,) = arguments
            played = player_of(self._side, seed, self._watchdog)
            self._player = None if played is None else played[0]
            return None if played is None else played[1]
        if verb == "close":
            return self.close()
        if self._player is None:
            raise ReplayError("its replay has been closed")
        return self._player.ask(verb, *arguments)

    def close(self) -> None:
        """End the player. May be called twice."""
        if self._player is not None:
            self._player.close()
        self._player = None


def replayed_by(watchdog: Watchdog) -> Callable[[Any, int], Replay | None]:
    """A function that makes the replay of a side, here or in the process of its loader; None where there is none."""

    def make(side: Any, seed: int) -> Replay | None:
        player: Player | Relay
        try:
            if isinstance(side, RemoteSide):
                player, state = Relay(side), side.relay("open", seed)
            elif (played := player_of(side, seed, watchdog)) is not None:
                player, state = played
            else:
                return None
        except RemoteError:
            return None
        return None if state is None else Replay(player, side.name, state)

    return make
