"""Run: a claim asks the judge, the judge asks for more, the rounds measure."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pytest_loaderperf.errors import ClaimError, LoaderError, printable
from pytest_loaderperf.judge import Outcome, Verdict
from pytest_loaderperf.measurement import (
    Epoch,
    Exit,
    Key,
    Reading,
    Roofline,
    Rounds,
    Side,
    Start,
    Steady,
    Step,
    Watchdog,
    delivery,
    resolve_device,
)
from pytest_loaderperf.measurement.ahead import torch_threads
from pytest_loaderperf.measurement.conditions import Conditions, SignalHandlers
from pytest_loaderperf.remote.interpreter import OtherInterpreter
from pytest_loaderperf.remote.replay import replayed_by
from pytest_loaderperf.report import explain
from pytest_loaderperf.runs.affordable import check_affordable
from pytest_loaderperf.runs.claims import verdict_of
from pytest_loaderperf.runs.diagnosed import Diagnosed
from pytest_loaderperf.runs.estimates import estimate_of, median_of
from pytest_loaderperf.runs.metric import DEFINITIONS, Definition, Estimate, Measured, Metric, Others, limit_text
from pytest_loaderperf.runs.notes import lazy_note
from pytest_loaderperf.runs.options import Options
from pytest_loaderperf.runs.ranked import MEASURING, SKEW, for_rank, skew_of
from pytest_loaderperf.runs.settling import Settling
from pytest_loaderperf.runs.sides import (
    AGAINST,
    BASE,
    LOADER,
    ROOFLINE,
    check_separate,
    dataset_nbytes,
    epoch_batches,
    named,
    stages_of,
)
from pytest_loaderperf.units import Quantity

_FIRST_ROUNDS = 5  # of all sides together: what the table shows before any claim needs more
_LIMIT_ROUNDS = 2  # of the copy limit, which varies less than loaders with workers, and must wait for them to rest
_FIRST_SHARE, _FIRST_SECONDS = 0.3, 1.0  # at most, of the budget and in total


class Run(Measured, Diagnosed):
    """What ``loaderperf(make_loader)`` returns: metrics of the loader, and of ``against`` and ``roofline``, to compare.

    ``against`` is one side, or a mapping from names to sides.
    """

    def __init__(
        self,
        make_loader: object,
        against: object = None,
        *,
        options: Options | None = None,
        reading: Reading | None = None,
        dataset_nbytes: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(self, LOADER, "")
        self.name = name
        self.reading = reading or Reading()
        self.options = options or Options()
        self.device = resolve_device(self.options.device)
        self.verdicts: list[Verdict] = []
        self.stages: dict[str, float] = {}
        self.no_roofline = ""
        self._last: dict[tuple[str, str, str], Verdict] = {}
        self._whys = {}
        self._step_metrics: dict[str, Metric] = {}
        self._dataset_nbytes = dataset_nbytes
        self._source = for_rank(make_loader)
        self._watchdog = Watchdog(self.options.timeout_seconds, self.options.abandon)
        self._rounds: Rounds | None = None
        self._conditions = Conditions.now()
        self._handlers = SignalHandlers()
        if multiprocessing.active_children():
            gc.collect()  # a failed test's loader ends its workers now, which may take seconds
        torch_threads()  # they start now, so they do not count as a loader's
        sides: dict[str, Side] = {}
        try:
            given = {LOADER: make_loader, **named(against)}
            self._against = against
            self._build_at_all_ranks(lambda: self._build(given, sides), sides)
            self._hosts = self.shared(f"beginning {name}", lambda: self._begin(sides))
        except BaseException:
            for side in sides.values():
                side.close()
            self._conditions.restore()
            self._handlers.restore()
            self._watchdog.close()
            raise

    def _made(self, name: str, source: object) -> Any:
        if isinstance(source, OtherInterpreter):
            return source.side(name)
        deliver = self.reading.after(delivery(self.device))
        return Side(name, for_rank(source), self._watchdog, count=self.reading.count, deliver=deliver)

    def _build(self, given: Mapping[str, object], sides: dict[str, Side]) -> None:
        """Add the sides, started, to ``sides``, which keeps those that were made before a failure."""
        # Other processes are made first: a loader's processes are recognised because they start later.
        for name in sorted(given, key=lambda name: not isinstance(given[name], OtherInterpreter)):
            self.options.progress(f"building {name}")
            sides[name] = self._made(name, given[name])
        loader = sides[LOADER]
        batch, _ = loader.start_keeping()
        try:
            roofline = Roofline(batch, epoch_batches(loader.loader))
        except LoaderError as error:
            self.no_roofline = str(error)
        else:
            samples = loader.batch_samples
            sides[ROOFLINE] = Side(
                ROOFLINE, roofline, self._watchdog, count=lambda batch: samples, deliver=delivery(self.device)
            )
        del batch  # a loader may reuse its memory
        for side in sides.values():
            if side.iterator is None:
                side.start()
        check_separate(sides)

    def _begin(self, sides: Mapping[str, Any]) -> list[str]:
        """Take a first look; the hosts of all ranks."""
        sides, hosts = self._at_all_ranks(sides)
        order = [LOADER, *named(self._against), ROOFLINE]
        sides = dict(sorted(sides.items(), key=lambda side: order.index(side[0])))
        replay = (replayed_by(self._watchdog),) if self._together is None else ()
        self._rounds = Rounds(sides, self._conditions, *replay)
        self.look_until(min(_FIRST_SECONDS, _FIRST_SHARE * self.options.budget_seconds), most=_FIRST_ROUNDS)
        return hosts

    def look_until(self, seconds: float, most: int | None = None) -> None:
        """Measure rounds of all sides until measuring took ``seconds``, or ``most`` rounds are done."""
        keys = [Key(name, Steady()) for name in self.rounds.sides]
        looked = 0
        with self.rounds.watched():
            while looked == 0 or (self.rounds.seconds < seconds and (most is None or looked < most)):
                looked += 1
                self.options.progress(f"first look at all sides, round {looked}, {self.rounds.seconds:.0f} s")
                self.rounds.observe(keys)
                if looked == _LIMIT_ROUNDS and not self.rounds.sliced(list(self.rounds.sides)):
                    keys = [key for key in keys if key.side != ROOFLINE]

    @property
    def rounds(self) -> Rounds:
        if self._rounds is None:
            raise ClaimError("this run is closed: its loaders are released. Compare before the test or `with` ends.")
        return self._rounds

    @property
    def against(self) -> Any:
        """The other side, or a mapping of sides. Raises ClaimError if the run was made without ``against=``."""
        if self._against is None:
            raise ClaimError("run.against needs another loader. Write loaderperf(make_loader, against=other_loader).")
        if isinstance(self._against, Mapping):
            return Others((name, Measured(self, name, f"against[{name!r}].")) for name in self._against)
        return Measured(self, AGAINST, "against.")

    @property
    def base(self) -> Measured:
        """The same test's loader at the commit of ``--loaderperf-base``. Raises ClaimError without that option."""
        self.shared("run.base", self._add_base)
        return Measured(self, BASE, "base.")

    def _add_base(self) -> None:
        if BASE not in self.rounds.sides:
            self.options.progress("building base")
            self.rounds.add(self._made_at_all_ranks(BASE, self.options.make_base))

    @property
    def roofline(self) -> Measured:
        """The machine's copy limit for the same bytes. Raises LoaderError if batches contain no arrays."""
        self.shared("run.roofline", self._check_roofline, passing=True)
        return Measured(self, ROOFLINE, "roofline.")

    def _check_roofline(self) -> None:
        if ROOFLINE not in self.rounds.sides:
            raise LoaderError(self.no_roofline)

    @property
    def dataset_nbytes(self) -> int:
        """Bytes of all samples of the loader's dataset, as delivered.

        Raises LoaderError if the loader has no sized ``dataset`` and ``dataset_nbytes=`` was not given.
        """
        if self._dataset_nbytes is not None:
            return self._dataset_nbytes
        return self.shared("run.dataset_nbytes", lambda: dataset_nbytes(self.rounds.sides[LOADER]), passing=True)

    def records(self, key: Key) -> list[Any]:
        """All records of ``key`` so far."""
        side = self.rounds.sides[key.side]
        if isinstance(key.kind, Start):
            return list(side.starts)
        if isinstance(key.kind, Exit):
            return list(side.epochs)
        return [seen.records[key] for seen in self.rounds.done if key in seen.records]

    def estimate(self, key: Key, definition: Definition, *, measures: bool = True) -> Estimate:
        """A metric over all records so far; if there are none, measures some rounds, or gives NaN."""
        doing = f"the value of {key.side}.{definition.name}"
        return self.shared(doing, lambda: self._estimate(key, definition, measures=measures), passing=True)

    def _estimate(self, key: Key, definition: Definition, *, measures: bool) -> Estimate:
        records = self.records(key)
        if not records and measures:
            patience_s = max(self.options.budget_seconds, self.options.timeout_seconds)
            check_affordable(self.rounds, [key], patience_s, f"{key.side}: {definition.name}")
            with MEASURING:
                if isinstance(key.kind, Steady):  # all sides together: values are often compared with each other
                    self.look_until(self.rounds.seconds + _FIRST_SECONDS, most=_FIRST_ROUNDS)
                else:
                    self.rounds.observe([key])
            records = self.records(key)
        return skew_of(records) if definition is SKEW else estimate_of(definition, records)

    def ratio(self, side: str, other: str) -> Estimate:
        """Throughput of ``side`` over that of ``other``, from the rounds with both."""
        of, keys = DEFINITIONS["throughput"].of, [Key(side, Steady()), Key(other, Steady())]
        both = [seen.records for seen in self.rounds.done if all(key in seen.records for key in keys)]
        return median_of([of(records[keys[0]]) / of(records[keys[1]]) for records in both])

    def claim(self, left: Metric, op: str, right: Metric | Quantity) -> Verdict:
        """Measure until the claim is decided or its budget is spent, and keep the verdict."""
        right_text = limit_text(right)
        text = printable(f"{left.text} {op} {right_text}")
        verdict = self.shared(text, lambda: self._settled(text, left, right, at_least=op in (">=", ">")))
        self.verdicts.append(verdict)
        self._last[left.text, op, right_text] = verdict
        return verdict

    def _settled(self, text: str, left: Metric, right: Metric | Quantity, *, at_least: bool) -> Verdict:
        keys = [
            metric.key for metric in (left, right) if isinstance(metric, Metric) and isinstance(metric.key.kind, Epoch)
        ]
        check_affordable(self.rounds, keys, self.options.max_budget_seconds, text)
        alpha = self.options.next_alpha()
        for metric in (left, right):
            if isinstance(metric, Metric) and isinstance(metric.definition.kind, Step):
                self._step_metrics[metric.side] = metric
        budgets_s, say = (self.options.budget_seconds, self.options.max_budget_seconds), self.options.progress
        settled = Settling(
            self.rounds, left, right, at_least, alpha, *budgets_s, lambda words: say(f"{text}: {words}")
        ).settle()
        verdict = verdict_of(
            left,
            right,
            settled,
            claim=text,
            at_least=at_least,
            alpha=alpha,
            policy=self.options.inconclusive,
            rounds=self.rounds.done,
        )
        passed = verdict.ruling.outcome is Outcome.PASS
        if not passed and not self.stages:
            self.stages = stages_of(self.rounds.sides[LOADER].loader, self._watchdog)
        words = [*explain(verdict, {} if passed else self.stages), *self._lazy((left, right))]
        if left.definition is SKEW:
            words.append(f"  slowest   {self.slowest(self.records(left.key))}")
        return replace(verdict, words="\n".join(words))

    def _lazy(self, metrics: Sequence[Metric | Quantity]) -> list[str]:
        """What a verdict must say about sides whose batches may do their work when they are read."""
        names = dict.fromkeys(metric.side for metric in metrics if isinstance(metric, Metric))
        notes = [lazy_note(name, self.rounds.sides[name], self) for name in names]
        return [f"  note      {note}" for note in notes if note]

    def step_metrics(self, side: str) -> list[Metric]:
        """The data-wait fraction of a side that was last used in a claim, if any."""
        return [self._step_metrics[side]] if side in self._step_metrics else []

    def last_verdict(self, left: object, op: str, right: object) -> Verdict | None:
        """The verdict of the comparison that an ``assert`` has just made."""
        if not isinstance(left, Metric):
            left, op, right = right, {">=": "<=", "<=": ">=", ">": "<", "<": ">"}.get(op, op), left
        return self._last.get((left.text, op, limit_text(left.comparable(right)))) if isinstance(left, Metric) else None

    def close(self) -> None:
        """Release loaders, workers and threads. May be called twice; the verdicts stay."""
        if self._together is None:
            self._end()
        else:
            self._together.close(self._end)
        self._watchdog.close()

    def _end(self) -> None:
        if self._rounds is not None:
            try:
                self.options.on_close(self)
            finally:
                self._rounds.close()
                self._rounds = None
                self._handlers.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
