"""A side of a job: every rank measures its own loader, and rank 0 has the records of all as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from pytest_loaderperf.errors import ShortEpochError
from pytest_loaderperf.measurement import Kind, Placed, Record, Step
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import EpochRecord, StartRecord, SteadyRecord
from pytest_loaderperf.ranks.merging import merged
from pytest_loaderperf.ranks.stepping import Loop
from pytest_loaderperf.ranks.together import Together

_COSTS = 100.0  # times as long as an exchange with the ranks is a trial at least: then they take 1 % of the time
_LONGEST_LEAST_SECONDS = (
    0.25  # an exchange that takes more than a hundredth of it waits for cores; verdicts need trials
)
_TRIES = 2  # an epoch may end on some ranks


class JobSide:
    """The side ``local.name`` of all ranks, at rank 0, where it is ``local``.

    It is always measured in one piece, begun by all ranks together. See ``merging`` for what its records mean.
    """

    elsewhere = inline = False
    conditions: Conditions  # each rank has its own
    epoch_batches: int | None
    warmup_batches: int
    batch_samples: int
    batch_nbytes: int
    taken: int
    build_seconds: float
    release_seconds: float
    own_helpers: tuple[int, int]
    opaque: str

    def __init__(self, together: Together, local: Any) -> None:
        self._together, self._local = together, local
        self.name: str = local.name
        self.rebuildable: bool = local.rebuildable
        self.children: list[int] = []  # each rank waits for its own
        self._starts: list[list[StartRecord]] = [[] for _ in range(together.world.size)]
        self._epochs: list[list[EpochRecord]] = [[] for _ in range(together.world.size)]
        self.starts: list[StartRecord] = []  # that every rank has made
        self.epochs: list[EpochRecord] = []  # that have ended on every rank
        self.loader: Any = None  # rank 0's
        self._slow = False
        self._note(state for _, state in self._together.ask("state", self.name))
        self.least_trial_seconds = min(_COSTS * together.costs_s[0], _LONGEST_LEAST_SECONDS)

    @classmethod
    def made(cls, together: Together, name: str) -> Self:
        """The side that every rank makes now."""
        together.ask("make", name)
        return cls(together, together.side(name))

    def _note(self, states: Iterator[dict[str, Any]]) -> None:
        told = list(states)
        for rank, state in enumerate(told):
            self._starts[rank] += state["starts"]
            self._epochs[rank] += state["epochs"]
        self.starts += _new(self._starts, self.starts)
        self.epochs += _new(self._epochs, self.epochs)
        self.loader = self._local.loader
        for part in ("warmup_batches", "build_seconds", "release_seconds"):
            setattr(self, part, max(state[part] for state in told))
        for part in ("batch_samples", "batch_nbytes", "own_helpers", "opaque"):
            setattr(self, part, told[0][part])
        self.taken = min(state["taken"] for state in told)
        lengths = [state["epoch_batches"] for state in told if state["epoch_batches"] is not None]
        self.epoch_batches = min(lengths, default=None)

    @property
    def loader_kind(self) -> str:
        """The type of rank 0's loader."""
        return str(getattr(self._local, "loader_kind", type(self.loader).__name__))

    @property
    def iterator(self) -> Iterator[Any] | None:
        """Rank 0's iterator, if it is in this process."""
        return self._local.iterator  # type: ignore[no-any-return]

    @property
    def called(self) -> str:
        """The side's name in error texts."""
        return str(self._local.called)

    @property
    def slow(self) -> bool:
        """Whether a batch takes so long that caches need no warming."""
        return self._slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._slow = slow
        self._ask("slow", slow)

    def _ask(self, verb: str, *arguments: Any, gates: int = 0) -> list[Any]:
        try:
            answers = self._together.ask(verb, self.name, *arguments, gates=gates)
        except ShortEpochError:
            self._note(state for _, state in self._together.ask("state", self.name))
            raise
        self._note(state for _, state in answers)
        return [answer for answer, _ in answers]

    def _merged(self, verb: str, *arguments: Any, gates: int = 0) -> Any:
        """The record of all ranks; None if an epoch ends before on some."""
        records = self._ask(verb, *arguments, gates=gates)
        return None if None in records else merged(records)

    def observe(self, kind: Kind, batches: int, conditions: Conditions) -> Record:
        """One record of ``kind``."""
        for _ in range(_TRIES):
            record = self._steps(kind) if isinstance(kind, Step) else self._trial(kind, batches)
            if record is not None:
                return record
        raise self.short_epoch_error()

    def _trial(self, kind: Kind, batches: int) -> Record | None:
        cores = self._together.drawn_cores() if isinstance(kind, Placed) else []
        record: Record | None = self._merged("observe", kind, batches, cores, gates=1)
        return record

    def _steps(self, kind: Step) -> Record | None:
        settling, timed = kind.steps(self)
        loop = Loop(kind.seconds, settling, timed, self._together.costs_s[1])
        record: Record | None = self._merged(
            "observe", loop, self.warmup_batches + settling + timed, [], gates=1 + loop.gates
        )
        return record

    def start(self) -> StartRecord:
        """Begin a new epoch on every rank and take its first batch."""
        return self._merged("start")  # type: ignore[no-any-return]

    def take(self, batches: int) -> SteadyRecord | None:
        """Time the next ``batches`` batches on every rank; None if an epoch ends before."""
        return self._merged("take", batches)  # type: ignore[no-any-return]

    def ready(self, batches: int, *, warm: bool = True) -> bool:
        """Be in an epoch with ``batches`` more; False if it ends meanwhile on some rank."""
        return all(self._ask("ready", batches))

    def slice(self, batches: int, latencies: list[int]) -> tuple[int, int] | None:
        """As ``take``; adds to ``latencies``. Nanoseconds and samples."""
        if (taken := self.take(batches)) is None:
            return None
        latencies.extend(taken.latencies_ns)
        return taken.wall_ns, taken.samples

    def note_helpers(self) -> None:
        """Does nothing: every rank notices its own."""

    def look_ahead(self, batch_seconds: float) -> None:
        """Does nothing: a job's side always counts as one that works in the background."""

    def build(self) -> None:
        """Make the loaders again."""
        self._ask("build")

    def ledger(self, seconds: float) -> dict[str, Any]:
        """What the doctor sees of rank 0's loader, if that runs in another process."""
        return dict(self._local.ledger(seconds))

    def short_epoch_error(self) -> ShortEpochError:
        """The error for epochs with fewer batches than a trial needs."""
        return ShortEpochError(f"{self.called} gives {self.epoch_batches} batches an epoch at some rank, too few here.")

    def close(self) -> None:
        """Release rank 0's loader; the others release theirs at the end of the run."""
        self._local.close()


def _new(by_rank: Sequence[Sequence[Any]], known: Sequence[Any]) -> list[Any]:
    """The job's records that are not known yet."""
    return [merged(records) for records in zip(*(its[len(known) :] for its in by_rank), strict=False)]
