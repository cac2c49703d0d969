"""The replays of sides: the work of their workers, done again on request, so that two sides can take turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_loaderperf.errors import LoaderHangError, LoaderPerfError
from pytest_loaderperf.measurement.any_side import AnyReplay, AnySide
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.measurement.standing import Standing

MakeReplay = Callable[[AnySide, int], AnyReplay | None]
_WORK_SHARE = 0.5  # of the workers' CPU time, which includes serializing and disturbances by other programs on the core
_OWN_SHARE = 1.0  # of a batch's time: if the consumer works longer itself, the workers wait for it

_NOT_MADE: Any = object()


class Replays:
    """Replays by side, made on request by ``make`` from a side and a common seed; None if it cannot."""

    def __init__(self, make: MakeReplay, order: random.Random) -> None:
        self._make, self._order = make, order
        self._made: dict[str, AnyReplay | None] = {}
        self._seeds: dict[str, int] = {}  # of those that were made
        self._seconds: dict[str, float] = {}  # that making the last one took
        self._seed = order.getrandbits(31)
        self.standings: dict[str, Standing] = {}
        self.left_out: dict[str, str] = {}  # why a side with workers has no replay

    def playing(self, sides: Mapping[str, AnySide]) -> dict[str, AnyReplay]:
        """The replay of each of ``sides``, made now if there is none; empty if they cannot be compared."""
        if any(side.inline for side in sides.values()):
            return {}  # it has no workers; others may still be replayed in other claims
        if any(self._made.get(name, _NOT_MADE) is None for name in sides):
            return {}
        if len({self._seeds.get(name) for name in sides}) > 1:
            self.renew(sides)  # an older one has warmer caches, and may act as another worker
        for name, side in sides.items():
            if name in self._made:
                continue
            began_s = time.perf_counter()
            replay = self._made[name] = self._made_of(side)
            self._seeds[name] = self._seed
            if replay is not None and name not in self.standings:
                self.standings[name] = Standing.probed(replay)
            elif replay is not None:
                replay.slow = False
            self._seconds[name] = time.perf_counter() - began_s
        found = {name: replay for name in sides if (replay := self._made[name]) is not None}
        threaded = [name for name, replay in found.items() if not replay.inline]
        self._give_up(threaded)
        self.left_out |= {name: f"{name}: its dataset works in threads or processes of its own" for name in threaded}
        # If one side has more workers, equal work does not mean equal speed; in another comparison it may.
        alike = len({(replay.workers, replay.in_threads) for replay in found.values()}) == 1
        if len(found) == len(sides) and alike and all(replay.inline for replay in found.values()):
            return found
        self.renew(sides)
        return {}

    def _made_of(self, side: AnySide) -> AnyReplay | None:
        try:
            return self._make(side, self._seed)
        except LoaderHangError:
            raise
        except LoaderPerfError as error:
            self.left_out[side.name] = str(error)
            return None

    def made(self, names: Sequence[str]) -> bool:
        """Whether it is known if these sides can be replayed."""
        return all(name in self._made for name in names)

    def _give_up(self, names: Sequence[str] | Mapping[str, object]) -> None:
        """Stop replaying these sides: their work cannot be compared."""
        self.renew(names)
        self._made |= dict.fromkeys(names)

    def attempt(
        self, sides: Mapping[str, AnySide], observe: Callable[[dict[str, AnyReplay]], dict[Any, Record]]
    ) -> dict[Any, Record]:
        """What ``observe`` returns for the replays; nothing from the first failure on, which may be a replay's own."""
        try:
            playing = self.playing(sides)
            return observe(playing) if playing else {}
        except LoaderHangError:
            raise
        except LoaderPerfError as error:
            self.left_out[" and ".join(sides)] = str(error)
            self._give_up(sides)
            return {}

    def cost(self, names: Sequence[str]) -> float:
        """Seconds to make again those replays of these sides that there are."""
        return sum(self._seconds[name] for name in names if self._made.get(name) is not None)

    def renew(self, names: Sequence[str] | Mapping[str, object]) -> None:
        """End the replays of these sides; new ones are made on request, with the next seed."""
        ended = [replay for name in names if (replay := self._made.get(name)) is not None]
        self._seed += bool(ended)
        for replay in ended:
            del self._made[replay.name], self._seeds[replay.name]
            replay.close()

    def close(self) -> None:
        """End all. May be called twice."""
        self.renew(list(self._made))

    def waited_for(self, name: str, trials: Sequence[SteadyRecord]) -> bool:
        """Whether in these ``trials`` of its loader the side ``name`` waits for the work that is replayed.

        It must be a good part of the workers' CPU time, and more than what the consumer does itself, in the trial that
        took least of it, because other work on the same cores adds to it. False if that is unknown.
        """
        replay = self._made[name]
        efforts = [(trial.effort, len(trial.latencies_ns)) for trial in trials if trial.effort is not None]
        if not efforts or replay is None:
            return False
        work_ns, workers = self.standings[name].batch_seconds * 1e9, replay.workers
        in_workers_ns = min(effort.children_ns / batches for effort, batches in efforts)
        own_ns = min(effort.own_ns / batches for effort, batches in efforts)
        if replay.in_threads:  # of the consumer's process
            in_workers_ns, own_ns = own_ns, own_ns - work_ns
        return bool(work_ns >= _WORK_SHARE * in_workers_ns and own_ns <= _OWN_SHARE * work_ns / workers)
