"""Metrics, whose comparisons are claims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn, Protocol, cast

from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.judge import Verdict, quantile
from pytest_loaderperf.measurement import Epoch, Exit, Key, Kind, Resources, Start, Steady, Step
from pytest_loaderperf.measurement.record import Record
from pytest_loaderperf.report.figures import figure
from pytest_loaderperf.units import BYTE, BYTES_PER_SECOND, ONE, SAMPLES_PER_SECOND, SECOND, Quantity, as_seconds

NS = 1e-9
LATENCY_QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric: how it is observed, its value in one record, and its unit.

    ``q``: the value is that quantile over all batches. ``exact``: it does not vary, so no statistics are needed.
    """

    name: str
    unit: str
    kind: Kind
    of: Callable[[Any], float]
    counted: str = "trials"
    q: float | None = None
    exact: bool = False


def _latency(name: str, q: float) -> Definition:
    return Definition(
        f"batch_latency_{name}", SECOND, Steady(), lambda r: quantile(r.latencies_ns, q) * NS, "batches", q
    )


DEFINITIONS = {
    d.name: d
    for d in (
        Definition("throughput", SAMPLES_PER_SECOND, Steady(), lambda r: r.samples / (r.wall_ns * NS)),
        *(_latency(name, q) for name, q in LATENCY_QUANTILES.items()),
        Definition("first_batch", SECOND, Start(), lambda r: r.first_batch_ns * NS, "epochs"),
        Definition("epoch_exit", SECOND, Exit(), lambda r: r.exit_ns * NS, "epochs"),
        Definition("epoch", SECOND, Epoch(), lambda r: r.epoch_ns * NS, "epochs"),
        Definition("epoch_throughput", SAMPLES_PER_SECOND, Epoch(), lambda r: r.samples / (r.epoch_ns * NS), "epochs"),
        Definition("bytes_per_second", BYTES_PER_SECOND, Steady(), lambda r: r.nbytes / (r.wall_ns * NS)),
        Definition("cpu_seconds_per_1k", SECOND, Resources(), lambda r: r.cpu_ns * NS * 1000 / r.samples, "epochs"),
        Definition("peak_memory", BYTE, Resources(), lambda r: float(r.peak_bytes), "epochs", exact=True),
    )
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value over all records so far, its 95 % interval, and how many observations there are.

    ``samples``: those of which the value is the median, in order; empty if it is another quantile, or exact.
    """

    value: float
    low: float
    high: float
    n: int
    samples: tuple[float, ...] = ()


class Claims(Protocol):
    """What a metric belongs to: it has the measurements, and decides claims."""

    def estimate(self, key: Key, definition: Definition) -> Estimate:
        """A metric over all records so far; measures first if there are none."""
        ...

    def claim(self, left: Metric, op: str, right: Metric | Quantity) -> Verdict:
        """Measure until the claim is decided or its budget is spent."""
        ...


class Metric:
    """A measured quantity of one side of a run. ``<=`` and ``>=`` against a number, a time or another metric claim.

    The comparison measures until the claim is decided or the budget is spent. It is true unless the claim FAILs, or is
    INCONCLUSIVE and the run's options count that as a failure.
    """

    __hash__ = None  # type: ignore[assignment]  # equality is refused, see __eq__

    def __init__(self, run: Claims, side: str, prefix: str, definition: Definition, factor: float = 1.0) -> None:
        self.run, self.side, self.definition, self.factor = run, side, definition, factor
        self._prefix = prefix

    @property
    def key(self) -> Key:
        return Key(self.side, self.definition.kind)

    @property
    def unit(self) -> str:
        return self.definition.unit

    @property
    def value(self) -> float:
        """The estimate so far, in ``unit``; measures first if nothing was measured yet."""
        return self.factor * self.run.estimate(self.key, self.definition).value

    def of(self, record: Record) -> float:
        """This metric's value in one record."""
        return self.factor * self.definition.of(record)

    def __bool__(self) -> bool:
        raise ClaimError(f"{self.text} by itself claims nothing. Compare it: assert run.throughput >= ...")

    def __float__(self) -> float:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else repr(self)

    @property
    def text(self) -> str:
        """How a claim names this metric."""
        name = self._prefix + self.definition.name.replace("latency_p", "latency.p")
        if isinstance(self.definition.kind, Step):
            name += f"(step={self.definition.kind.seconds * 1e3:g} ms)"
        return name if self.factor == 1 else f"{self.factor:g} * {name}"

    def __repr__(self) -> str:
        return f"<{self.text}: {self.value:.4g} {self.unit}>"

    def __mul__(self, factor: float) -> Metric:
        return Metric(self.run, self.side, self._prefix, self.definition, self.factor * self._factor(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Metric:
        return self * (1 / self._factor(divisor))

    def _factor(self, factor: object) -> float:
        if isinstance(factor, bool) or not isinstance(factor, Real):
            self._no_arithmetic(factor)
        if not (math.isfinite(factor) and float(factor) > 0):
            raise ClaimError(f"expected a positive, finite factor for a metric, got {factor!r}.")
        return float(factor)

    def _no_arithmetic(self, *_others: object) -> NoReturn:
        raise ClaimError(
            f"{self.text} is measured: expected a comparison of it, at most times or over a number, got other "
            "arithmetic. Write assert run.throughput >= 0.9 * run.base.throughput, with a metric on each side."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __rtruediv__ = __neg__ = __abs__ = _no_arithmetic

    def __ge__(self, other: object) -> Verdict:
        return self.run.claim(self, ">=", self.comparable(other))

    def __le__(self, other: object) -> Verdict:
        return self.run.claim(self, "<=", self.comparable(other))

    # For what is measured, "more than" and "at least" are the same claim.
    def __gt__(self, other: object) -> Verdict:
        return self.run.claim(self, ">", self.comparable(other))

    def __lt__(self, other: object) -> Verdict:
        return self.run.claim(self, "<", self.comparable(other))

    def _no_equality(self, _other: object) -> NoReturn:
        raise ClaimError(f"{self.text} is measured, and two measurements are never equal. Compare with >= or <=.")

    __eq__ = cast("Any", _no_equality)
    __ne__ = cast("Any", _no_equality)

    def comparable(self, other: object) -> Metric | Quantity:
        """``other`` as what this metric compares with. Raises ClaimError if the comparison has no meaning."""
        if isinstance(other, Metric):
            if other.run is not self.run:
                raise ClaimError(
                    f"{self.text} and {other.text} come from two runs, which were not measured together. "
                    "Measure both in one: loaderperf(a, against=b), then compare with run.against."
                )
            self._check_unit(other.unit, other.text)
            if (other.key, other.definition) == (self.key, self.definition):
                raise ClaimError(
                    f"{self.text}: expected another loader's metric, got the same one as {other.text}. "
                    "Compare with run.base, run.against or run.roofline, or with a number."
                )
            return other
        if isinstance(other, Quantity):
            self._check_unit(other.unit, str(other))
            limit = other
        elif not isinstance(other, bool) and isinstance(other, Real):
            if self.unit == SECOND:
                raise ClaimError(f"{self.text}: expected a time, got the bare number {other!r}. Write 5 * ms or 2 * s.")
            try:
                limit = Quantity(float(other), self.unit)
            except OverflowError:
                limit = Quantity(math.inf, self.unit)
        else:
            raise ClaimError(
                f"{self.text}: expected a number, a quantity such as 5 * ms, or a metric of the same run, "
                f"got {type(other).__name__}."
            )
        if not (math.isfinite(limit.value) and limit.value > 0):
            raise ClaimError(f"{self.text}: expected a positive, finite value, got {limit}.")
        return limit

    def _check_unit(self, unit: str, text: str) -> None:
        if unit != self.unit:
            raise ClaimError(
                f"{self.text} is in {_spell(self.unit)}, but {text} is in {_spell(unit)}. Compare like with like: "
                "a throughput with samples/s, a latency with a time such as 5 * ms, a memory with bytes."
            )


def limit_text(limit: Metric | Quantity) -> str:
    """How a claim names what a metric is compared with."""
    return limit.text if isinstance(limit, Metric) else figure(limit.value, limit.unit)


def _spell(unit: str) -> str:
    return "a plain ratio" if unit == ONE else unit


class BatchLatency:
    """``p50``, ``p95`` and ``p99`` of the time that one ``next()`` takes."""

    __slots__ = ("p50", "p95", "p99")
    p50: Metric
    p95: Metric
    p99: Metric

    def __init__(self, view: Measured) -> None:
        for name in LATENCY_QUANTILES:
            setattr(self, name, view.metric(f"batch_latency_{name}"))

    def _refuse(self, _other: object) -> NoReturn:
        raise ClaimError("batch_latency has p50, p95 and p99. Compare one of them: run.batch_latency.p99 <= 5 * ms.")

    __le__ = __ge__ = __lt__ = __gt__ = _refuse


class Measured:
    """The metrics of one side of a run."""

    def __init__(self, run: Claims, side: str, prefix: str) -> None:
        self._run, self._side, self._prefix = run, side, prefix

    def metric(self, name: str) -> Metric:
        """The metric called ``name`` in the result file."""
        return Metric(self._run, self._side, self._prefix, DEFINITIONS[name])

    @property
    def throughput(self) -> Metric:
        """Samples a second in steady state."""
        return self.metric("throughput")

    @property
    def batch_latency(self) -> BatchLatency:
        """Time that one ``next()`` takes in steady state."""
        return BatchLatency(self)

    @property
    def first_batch(self) -> Metric:
        """Time to first batch: from ``iter()`` to the first batch."""
        return self.metric("first_batch")

    @property
    def epoch_exit(self) -> Metric:
        """Time from the last batch to StopIteration and the release of the iterator."""
        return self.metric("epoch_exit")

    @property
    def epoch(self) -> Metric:
        """Time of a whole epoch, from ``iter()`` to the release of the iterator, with start-up, stalls and exit."""
        return self.metric("epoch")

    @property
    def epoch_throughput(self) -> Metric:
        """Samples a second over a whole epoch, from ``iter()`` to the release of the iterator."""
        return self.metric("epoch_throughput")

    @property
    def bytes_per_second(self) -> Metric:
        """Bytes of arrays and tensors a second in steady state."""
        return self.metric("bytes_per_second")

    @property
    def cpu_seconds_per_1k(self) -> Metric:
        """CPU seconds of the process tree for 1,000 samples."""
        return self.metric("cpu_seconds_per_1k")

    @property
    def peak_memory(self) -> Metric:
        """The most bytes that the process tree grows by, from before the factory is called to the end of an epoch."""
        return self.metric("peak_memory")

    def data_wait(self, step: Quantity) -> Metric:
        """Data-wait fraction of a loop whose step takes ``step`` (a time): the share of it spent in ``next()``."""
        seconds = as_seconds(step, "the step of data_wait(step=...)", "data_wait(step=10 * ms)")
        definition = Definition("data_wait", ONE, Step(seconds), lambda r: r.wait_ns / r.total_ns)
        return Metric(self._run, self._side, self._prefix, definition)


class Others(dict[str, Measured]):
    """The other sides of a run with several, by name."""

    def __missing__(self, name: str) -> Measured:
        raise ClaimError(f"run.against has no loader called {name!r}. Expected one of {', '.join(map(repr, self))}.")

    def __getattr__(self, name: str) -> Any:
        first = next(iter(self))
        raise AttributeError(f"run.against holds {len(self)} loaders. Name one of them: run.against[{first!r}].{name}")
