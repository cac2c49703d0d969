"""The work of a loader's worker, done again in a process of ours, so that two sides can take turns.

Batches from worker processes come in bursts, and other programs slow some workers more than others: two trials of such
loaders differ by a tenth to a third. The same indices through the same dataset and collate, one batch of each side
strictly in turns, differ by a few percent. This does not measure what happens between the workers and the consumer.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
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
from pytest_loaderperf.remote import RemoteError
from pytest_loaderperf.remote.child import RemoteSide
from pytest_loaderperf.remote.player import LEAVE, Anew, Recipe, play
from pytest_loaderperf.remote.shared_channels import held_channel, open_channels
from pytest_loaderperf.remote.shared_files import Offsets

_JOIN_SECONDS = 1.0  # for a process that was asked to end
_LOOK_SECONDS = 0.2  # interval of checking that a process has not ended before it answered
_PATIENCE_SHARE = 0.5  # of the time after which a loader counts as hung: a replay that hangs is left out, not an error
_MOST_PLAYERS, _MOST_INITIALISED = 4, 2  # of a stream, and with worker_init_fn: each takes a worker's memory
_HANDS_ON = ("torch.", "torchdata.")  # modules whose DataLoaders yield each batch of their workers once


class ReplayError(RemoteError):
    """The work of a loader's workers cannot be done again."""


def recipe_of(side: Side, seed: int) -> tuple[Recipe, Any] | None:
    """What a worker of the side's loader gets, and the context that starts it; None if it has no such workers."""
    loader, threaded = side.loader, None
    if isinstance(loader, ReferenceLoader):
        if type(loader).__iter__ is not ReferenceLoader.__iter__:
            return None
        threaded = loader if loader.threads else None
        loader = loader if threaded else loader.loader
    if not isinstance(loader, DataLoader) or loader.num_workers == 0 or isinstance(loader.dataset, IterDataPipe):
        return None
    if not (threaded or _hands_on(type(loader))):
        return None
    collate: Any = loader.collate_fn
    if isinstance(collate, partial) and collate.func is sent:
        (collate,) = collate.args  # its packing is only for sending
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
        threaded=threaded,
        count=side.own_count,
        declared=Declared.by(side.loader),
        persists=threaded is not None or loader.persistent_workers,
        seed=seed,
    )
    return recipe, loader.multiprocessing_context or torch.multiprocessing


def _hands_on(kind: type[DataLoader[Any]]) -> bool:
    """Whether its batches are those of its workers: a user's own ``__iter__`` may drop, repeat or make some."""
    return all(method.__module__.startswith(_HANDS_ON) for method in (kind.__iter__, kind._get_iterator))  # noqa: SLF001


class Player:
    """A process that does the work of ``recipe`` on request; answers as ``remote.Child`` does.

    A new one for each epoch if the workers, and what they keep, end with each epoch.
    """

    error = ReplayError

    def __init__(self, recipe: Recipe, context: Any, watchdog: Watchdog) -> None:
        self.called = "its replay"
        self._stage = f"{recipe.name}: replaying its workers"
        self._watchdog = watchdog
        self._recipe, self._context = recipe, context
        self._begin()

    def _begin(self) -> None:
        recipe, context = self._recipe, self._context
        inherited = open_channels() if context.get_start_method() == "fork" else {}
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=play, args=(theirs, recipe, inherited), daemon=True)
        try:
            with warnings.catch_warnings(), untraced(starting=True):
                warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads: as torch forks workers
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
        """Its answer. Raises ReplayError if it raised, hangs or is gone; any error closes it."""
        answer = self._asked(verb, *arguments)
        if not isinstance(answer, Anew):
            return answer
        self.close()
        self._recipe = replace(self._recipe, number=self._recipe.number + 1, epochs=answer.epochs)
        self._begin()
        self._asked("begin")
        return self._asked(verb, *arguments)

    def _asked(self, verb: str, *arguments: Any) -> Any:
        try:
            with self._watchdog.stage(self._stage):
                self._connection.send((verb, *arguments))
                worked, answer = self._answer()
        except (EOFError, OSError) as error:
            self.close()
            raise ReplayError(f"{self._stage}: its process ended.") from error
        except BaseException:
            self.close()  # or its answer would be used for the next request
            raise
        if not worked:
            self.close()
            raise ReplayError(f"{self._stage}: {answer}")
        return answer

    def _answer(self) -> tuple[bool, Any]:
        patience_s = _PATIENCE_SHARE * self._watchdog.timeout_s
        deadline_s = time.monotonic() + patience_s
        while not self._connection.poll(_LOOK_SECONDS):
            if not self._process.is_alive() and not self._connection.poll():
                raise EOFError
            if time.monotonic() > deadline_s:
                return False, f"its process did not answer for {patience_s:g} s."
        worked, answer = self._connection.recv()
        return worked, answer

    def close(self) -> None:
        """End it, between two batches if possible, because it may hold a lock of the dataset. May be called twice."""
        if self._connection.closed:
            return
        with suppress(OSError):
            self._connection.send((LEAVE,))
        self._connection.close()
        self._process.join(_JOIN_SECONDS)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(_JOIN_SECONDS)


class Crew:
    """Players that do the work of several workers of one loader, one in each round; answers as that one does."""

    error = ReplayError

    def __init__(self, players: Sequence[Player]) -> None:
        self._players, self._now = players, 0
        self.called = players[0].called

    @property
    def pid(self) -> int:
        """The process id of one of them."""
        return self._players[0].pid

    def ask(self, verb: str, *arguments: Any) -> Any:
        """The answer of the one whose turn it is. Raises as that one does."""
        if verb == "slow":
            return [player.ask(verb, *arguments) for player in self._players][self._now]
        if verb == "ready":
            self._now = (self._now + 1) % len(self._players)
        return self._players[self._now].ask(verb, *arguments)

    def close(self) -> None:
        """End them. May be called twice."""
        for player in self._players:
            player.close()


class Replay(RemoteSide):
    """A side whose batches are made by a Player, in the asking process's turn."""

    def __init__(self, player: Player | Crew | Relay, name: str, state: dict[str, Any]) -> None:
        super().__init__(player, name, state)  # type: ignore[arg-type]  # asked as a Child is
        self._player, self.workers, self.in_threads = player, int(state["workers"]), bool(state["in_threads"])

    def look_ahead(self, batch_seconds: float) -> None:
        """Does nothing: it only works on request, and threads of its dataset are noticed."""

    def close(self) -> None:
        """End the process. May be called twice."""
        self._open = False
        self._player.close()


def player_of(side: Side, seed: int, watchdog: Watchdog) -> tuple[Player | Crew, dict[str, Any]] | None:
    """The player of the side's workers, and its state; None if there are no workers.

    Each worker may have other work: it reads another part of a stream, or its number may decide. So several workers are
    played, one in each round, and another one first with the next seed; if workers differ only in their number, by one
    process. Raises ReplayError if the work cannot be done again, or would disturb the loader.
    """
    made = recipe_of(side, seed)
    if made is None:
        return None
    recipe, context = made
    if channel := held_channel(recipe.dataset, recipe.collate, recipe.init_worker, recipe.indices):
        raise ReplayError(f"{side.name}: its dataset holds a {channel}, and its own workers would miss messages")
    most = _MOST_PLAYERS if recipe.streamed else 1 if recipe.init_worker is None else _MOST_INITIALISED
    workers = [(seed + number) % recipe.workers for number in range(min(recipe.workers, most))]
    players: list[Player] = []
    offsets = Offsets()
    try:
        for worker in workers:
            players.append(Player(replace(recipe, worker=worker), context, watchdog))
            _, state = players[-1].ask("begin")
        if offsets.moved():
            raise ReplayError(f"{side.name}: its dataset reads files that were opened before its workers began")
    except BaseException:
        for player in players:
            player.close()
        offsets.restore()
        raise
    return (Crew(players) if len(players) > 1 else players[0]), state


class Relay:
    """A Player in the process of another side's loader, which passes requests on."""

    def __init__(self, side: RemoteSide) -> None:
        self._side = side
        self.called, self.error, self.pid = "its replay", ReplayError, side.children[0]

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Its answer. Raises as RemoteSide does."""
        return self._side.relay(verb, *arguments)

    def close(self) -> None:
        """End it. May be called twice."""
        with suppress(LoaderPerfError):  # the other process has ended, and so has this player
            self._side.relay("close")


class Relayed:
    """In the process of a loader: its Player, for requests through a Relay."""

    def __init__(self, side: Side, watchdog: Watchdog) -> None:
        self._side, self._watchdog = side, watchdog
        self._player: Player | Crew | None = None

    def perform(self, verb: str, *arguments: Any) -> Any:
        """Open a player, pass a request on to it, or close it."""
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
    """A function that makes the replay of a side, here or in the process of its loader; None if there is none.

    It raises as ``player_of`` does, or RemoteError.
    """

    def make(side: Any, seed: int) -> Replay | None:
        player: Player | Crew | Relay
        if isinstance(side, RemoteSide):
            player, state = Relay(side), side.relay("open", seed)
        elif (played := player_of(side, seed, watchdog)) is not None:
            player, state = played
        else:
            return None
        return None if state is None else Replay(player, side.name, state)

    return make
