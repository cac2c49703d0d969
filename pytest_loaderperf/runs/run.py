"""Run: a claim asks the judge, the judge asks for more, the rounds measure."""

from __future__ import annotations

import gc
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from pytest_loaderperf.errors import ClaimError, LoaderError, printable
from pytest_loaderperf.judge import Outcome, Verdict, quantile, quantile_interval
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
    stage_shares,
)
from pytest_loaderperf.measurement.ahead import torch_threads
from pytest_loaderperf.measurement.conditions import Conditions, SignalHandlers, draws_kept
from pytest_loaderperf.remote.interpreter import OtherInterpreter
from pytest_loaderperf.remote.replay import replayed_by
from pytest_loaderperf.remote.shared_channels import held_channel
from pytest_loaderperf.report import explain
from pytest_loaderperf.runs.affordable import check_affordable
from pytest_loaderperf.runs.claims import verdict_of
from pytest_loaderperf.runs.diagnosed import Diagnosed
from pytest_loaderperf.runs.metric import DEFINITIONS, Definition, Estimate, Measured, Metric, Others, limit_text
from pytest_loaderperf.runs.notes import lazy_note
from pytest_loaderperf.runs.options import Options
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
)
from pytest_loaderperf.units import Quantity

_FIRST_ROUNDS = 5  # of all sides together: what the table shows before any claim needs more
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
        self._source = make_loader
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
            # Other processes are made first: a loader's processes are recognised because they start later.
            for side_name in sorted(given, key=lambda name: not isinstance(given[name], OtherInterpreter)):
                self.options.progress(f"building {side_name}")
                sides[side_name] = self._made(side_name, given[side_name])
            sides = {side_name: sides[side_name] for side_name in given}
            self._against = against
            self._begin(sides)
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
        return Side(name, source, self._watchdog, count=self.reading.count, deliver=deliver)

    def _begin(self, sides: dict[str, Side]) -> None:
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
        self._rounds = Rounds(sides, self._conditions, replayed_by(self._watchdog))
        self.look_until(min(_FIRST_SECONDS, _FIRST_SHARE * self.options.budget_seconds), most=_FIRST_ROUNDS)

    def look_until(self, seconds: float, most: int | None = None) -> None:
        """Measure rounds of all sides until measuring took ``seconds``, or ``most`` rounds are done."""
        keys = [Key(name, Steady()) for name in self.rounds.sides]
        looked = 0
        with self.rounds.watched():
            while looked == 0 or (self.rounds.seconds < seconds and (most is None or looked < most)):
                looked += 1
                self.options.progress(f"first look at all sides, round {looked}, {self.rounds.seconds:.0f} s")
                self.rounds.observe(keys)

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
        if BASE not in self.rounds.sides:
            self.options.progress("building base")
            self.rounds.add(self.options.make_base())
        return Measured(self, BASE, "base.")

    @property
    def roofline(self) -> Measured:
        """The machine's copy limit for the same bytes. Raises LoaderError if batches contain no arrays."""
        if ROOFLINE not in self.rounds.sides:
            raise LoaderError(self.no_roofline)
        return Measured(self, ROOFLINE, "roofline.")

    @property
    def dataset_nbytes(self) -> int:
        """Bytes of all samples of the loader's dataset, as delivered.

        Raises LoaderError if the loader has no sized ``dataset`` and ``dataset_nbytes=`` was not given.
        """
        if self._dataset_nbytes is not None:
            return self._dataset_nbytes
        return dataset_nbytes(self.rounds.sides[LOADER])

    def _records(self, key: Key) -> list[Any]:
        side = self.rounds.sides[key.side]
        if isinstance(key.kind, Start):
            return list(side.starts)
        if isinstance(key.kind, Exit):
            return list(side.epochs)
        return [seen.records[key] for seen in self.rounds.done if key in seen.records]

    def estimate(self, key: Key, definition: Definition, *, measures: bool = True) -> Estimate:
        """A metric over all records so far; if there are none, measures one round, or gives NaN."""
        records = self._records(key)
        if not records and measures:
            patience_s = max(self.options.budget_seconds, self.options.timeout_seconds)
            check_affordable(self.rounds, [key], patience_s, f"{key.side}: {definition.name}")
            self.rounds.observe([key])
            records = self._records(key)
        if definition.q is not None:
            q, values = definition.q, [ns * 1e-9 for record in records for ns in record.latencies_ns]
        else:
            q, values = 0.5, [definition.of(record) for record in records]
        if not values:
            return Estimate(math.nan, math.nan, math.nan, 0)
        if definition.exact:
            return Estimate(max(values), max(values), max(values), len(values))
        samples = () if definition.q is not None else tuple(values)
        return Estimate(quantile(values, q), *quantile_interval(values, q), len(values), samples)

    def ratio(self, side: str, other: str) -> Estimate:
        """Throughput of ``side`` over that of ``other``, from the rounds with both."""
        of, keys = DEFINITIONS["throughput"].of, [Key(side, Steady()), Key(other, Steady())]
        both = [seen.records for seen in self.rounds.done if all(key in seen.records for key in keys)]
        ratios = [of(records[keys[0]]) / of(records[keys[1]]) for records in both]
        if not ratios:
            return Estimate(math.nan, math.nan, math.nan, 0)
        return Estimate(quantile(ratios, 0.5), *quantile_interval(ratios, 0.5), len(ratios), tuple(ratios))

    def claim(self, left: Metric, op: str, right: Metric | Quantity) -> Verdict:
        """Measure until the claim is decided or its budget is spent, and keep the verdict."""
        at_least, right_text = op in (">=", ">"), limit_text(right)
        text = printable(f"{left.text} {op} {right_text}")
        keys = [
            metric.key for metric in (left, right) if isinstance(metric, Metric) and isinstance(metric.key.kind, Epoch)
        ]
        check_affordable(self.rounds, keys, self.options.max_budget_seconds, text)
        alpha = self.options.next_alpha()
        for metric in (left, right):
            if isinstance(metric, Metric) and isinstance(metric.definition.kind, Step):
                self._step_metrics[metric.side] = metric
        options, progress = self.options, partial(self._progress, text)
        settled = Settling(
            self.rounds, left, right, at_least, alpha, options.budget_seconds, options.max_budget_seconds, progress
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
            self.stages = self._stages()
        words = [*explain(verdict, {} if passed else self.stages), *self._lazy((left, right))]
        verdict = replace(verdict, words="\n".join(words))
        self.verdicts.append(verdict)
        self._last[left.text, op, right_text] = verdict
        return verdict

    def _lazy(self, metrics: Sequence[Metric | Quantity]) -> list[str]:
        """What a verdict must say about sides whose batches may do their work when they are read."""
        names = dict.fromkeys(metric.side for metric in metrics if isinstance(metric, Metric))
        notes = [lazy_note(name, self.rounds.sides[name], self) for name in names]
        return [f"  note      {note}" for note in notes if note]

    def _progress(self, claim: str, text: str) -> None:
        self.options.progress(f"{claim}: {text}")

    def _stages(self) -> dict[str, float]:
        loader = self.rounds.sides[LOADER].loader
        read = [getattr(loader, name, None) for name in ("dataset", "batch_sampler", "collate_fn")]
        if getattr(loader, "num_workers", 0) and held_channel(*read):
            return {}  # its workers would miss the messages read here
        try:
            with self._watchdog.stage("loader: replaying its stages"), draws_kept():
                return stage_shares(loader)
        except Exception:  # noqa: BLE001 the dataset works only in its workers; the verdict is shown without stages
            return {}

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
        if self._rounds is not None:
            try:
                self.options.on_close(self)
            finally:
                self._rounds.close()
                self._rounds = None
                self._handlers.restore()
        self._watchdog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
