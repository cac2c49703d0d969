"""One run at all ranks: rank 0 leads, the others do what it asks until it says the answer to what they all ask."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.measurement.conditions import usable_cpus
from pytest_loaderperf.ranks import RankError
from pytest_loaderperf.ranks.bench import Bench
from pytest_loaderperf.ranks.link import Link
from pytest_loaderperf.ranks.placing import Cores, drawn_cores
from pytest_loaderperf.ranks.world import World

T = TypeVar("T")
_CLOSING = "closing the run"
_EXCHANGES, _GATES = 9, 9  # of which the costs are computed


class Command(NamedTuple):
    """What rank 0 has all ranks do with a side, with so many barriers."""

    verb: str
    side: str
    arguments: tuple[Any, ...]
    gates: int


class Answer(NamedTuple):
    """What rank 0 found when it was ``doing`` something. ``passing``: ranks that did not ask may ignore it."""

    doing: str
    value: Any
    passing: bool


class Raised(NamedTuple):
    """An error, as another rank raises it again."""

    kind: type[LoaderPerfError]
    text: str
    name: str = ""  # of its own class

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Errors of other libraries, which other ranks may not know, become a RankError with their traceback."""
        name = type(error).__name__
        if isinstance(error, LoaderPerfError):
            return cls(type(error), str(error), name)
        if not isinstance(error, Exception):  # as pytest skips a test
            return cls(RankError, f"{name}: {error}", name)
        said = "".join(traceback.format_exception_only(error)).strip()
        return cls(RankError, f"{said}\n{''.join(traceback.format_exception(error)).rstrip()}", name)

    def error(self, where: str = "") -> LoaderPerfError:
        """The error, which was raised ``where``."""
        return self.kind(f"{self.text}{where}")


class Gate:
    """The barriers of one command: this rank leaves each of them together with the others."""

    def __init__(self, link: Link, doing: str, gates: int) -> None:
        self._link, self._doing, self._left = link, doing, gates

    def __call__(self) -> None:
        self._left -= 1
        self._link.barrier(self._doing)

    def leave(self) -> None:
        """Pass those that are left, so that no rank waits for this one."""
        while self._left > 0:
            self()


class Together:
    """A run at this rank, over ``link``; ``bench`` has its sides here."""

    def __init__(self, link: Link, bench: Bench) -> None:
        self._link, self._bench = link, bench
        self.leads = link.world.rank == 0
        self._doing = ""  # the question that is being answered
        self._error: BaseException | None = None  # the latest of this rank
        self._over = False
        self.hosts: list[str] = link.gather(link.world.host, "beginning a run")
        self._cores: list[Cores] = link.gather(usable_cpus(), "beginning a run")
        self._order = random.Random()  # noqa: S311 no secret depends on it

    @property
    def world(self) -> World:
        """Which rank this is."""
        return self._link.world

    def side(self, name: str) -> Any:
        """This rank's side."""
        return self._bench.sides[name]

    def drawn_cores(self) -> list[Cores]:
        """Cores for each rank, drawn anew."""
        return drawn_cores(self.hosts, self._cores, self._order)

    def shared(self, doing: str, find: Callable[[], T], *, passing: bool = False) -> T:
        """What ``find`` returns or raises at rank 0, at every rank.

        ``passing``: not every rank need ask. Raises RankError if another rank is lost, or asks for something else.
        """
        if self.leads:
            return find() if self._doing else self._lead(doing, find, passing=passing)
        return self._follow(doing)  # type: ignore[no-any-return]

    def _lead(self, doing: str, find: Callable[[], T], *, passing: bool) -> T:
        self._doing = doing
        try:
            value = find()
        except (KeyboardInterrupt, SystemExit) as error:
            self._link.fail(error, doing)
            raise
        except BaseException as error:
            self._link.tell(Answer(doing, Raised.of(error), passing))
            raise
        finally:
            self._doing = ""
        try:
            self._link.tell(Answer(doing, value, passing))
        except LoaderPerfError:
            raise
        except Exception as error:  # noqa: BLE001 whatever pickle raises
            self._link.tell(Answer(doing, Raised(RankError, f"rank 0 cannot tell the others: {error}"), passing))
        return value

    def _follow(self, doing: str) -> Any:
        while True:
            message = self._link.told(doing)
            if isinstance(message, Command):
                self._reply(message)
            elif message.doing == doing:
                break
            elif not message.passing and doing != _CLOSING:
                self._over = message.doing == _CLOSING
                raise RankError(
                    f"rank {self.world.rank} is at {doing!r}, but rank 0 at {message.doing!r}. Expected all ranks to "
                    "make the same claims in the same order: look for what a test does on some ranks only."
                )
        if not isinstance(message.value, Raised):
            return message.value
        own = self._taken_error()
        raise own if own is not None and type(own).__name__ == message.value.name else message.value.error()

    def _taken_error(self) -> BaseException | None:
        error, self._error = self._error, None
        return error

    def ask(self, verb: str, side: str = "", *arguments: Any, gates: int = 0) -> list[Any]:
        """Rank 0: the answers of all ranks. Raises this rank's own error, else that of the first rank with one."""
        command = Command(verb, side, arguments, gates)
        self._taken_error()
        self._link.tell(command)
        answers = self._reply(command)
        if (own := self._taken_error()) is not None:
            raise own
        for rank, answer in enumerate(answers):
            if isinstance(answer, Raised):
                raise answer.error(f"\n(at rank {rank} on host {self.hosts[rank]})")
        return answers

    def _reply(self, command: Command) -> list[Any]:
        doing = f"{command.verb} {command.side}".strip()
        gate = Gate(self._link, doing, command.gates)
        answer: Any
        try:
            answer = self._bench.perform(command.verb, command.side, command.arguments, gate)
        except (KeyboardInterrupt, SystemExit) as error:
            self._link.fail(error, doing)
            raise
        except BaseException as error:  # noqa: BLE001 rank 0 decides what it means
            self._error, answer = error, Raised.of(error)
        gate.leave()
        try:
            return self._link.gather(answer, doing)
        except LoaderPerfError:
            raise
        except Exception as error:  # noqa: BLE001 whatever pickle raises; nothing was sent
            return self._link.gather(Raised.of(error), doing)

    @cached_property
    def costs_s(self) -> tuple[float, float]:
        """Seconds that a command with one barrier takes at least, without any work; and a barrier alone. Rank 0 asks.

        On a busy machine most of them take longer, because the ranks wait for a core.
        """
        exchange_s = min(self._ping_s(1) for _ in range(_EXCHANGES))
        many_s = min(self._ping_s(1 + _GATES) for _ in range(_EXCHANGES))
        return exchange_s, max(0.0, many_s - exchange_s) / _GATES

    def _ping_s(self, gates: int) -> float:
        began_s = time.perf_counter()
        self.ask("ping", gates=gates)
        return time.perf_counter() - began_s

    def close(self, end: Callable[[], object]) -> None:
        """End the run at all ranks, of which rank 0 first calls ``end``; a rank that is lost does not matter now."""
        try:
            if not self._over:
                self._over = True
                with suppress(RankError):
                    self.shared(_CLOSING, end)
        finally:
            self._bench.close()
