"""The tables, and the figures that pre-load has to reach: each a ratio within this run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from pytest_loaderperf.report.figures import size_text, three_digits, time_text
from suites.peers.report import Figure

BEFORE = "as_py"
PARQUET = "parquet"
WAYS = ("as_py", "ours")
MOSTLY_WAITING = 0.5  # of a training loop


@dataclass(slots=True)
class Row:
    """One way to load one format. ``problem`` says why there are no figures.

    The lists have a value a round; ``array_per_s`` is that of the same loader over plain arrays right before.
    """

    format: str
    cache: str
    problem: str | None = None
    nbytes: int = 0
    write_s: float = 0.0
    sample_ns: list[float] = field(default_factory=list)
    samples_per_s: list[float] = field(default_factory=list)
    array_per_s: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.format}, {self.cache}"


def table(rows: Sequence[Row]) -> str:
    """One line a format and cache; those without figures last, with the reason."""
    heading = f"{'format':<13}{'loaded by':<12}{'on disk':>10}{'written in':>11}{'sample':>10}{'samples/s':>11}"
    heading += f"{'data wait':>10}{'AU':>6}"
    lines = [heading, "-" * len(heading)]
    for row in rows:
        if row.problem is None:
            wait = median(row.waits)
            lines.append(
                f"{row.format:<13}{row.cache:<12}{size_text(row.nbytes):>10}{time_text(row.write_s):>11}"
                f"{time_text(median(row.sample_ns) * 1e-9):>10}{three_digits(median(row.samples_per_s)):>11}"
                f"{wait:>10.1%}{1 - wait:>6.2f}"
            )
    return "\n".join(lines + [f"{row.format:<13}{row.cache:<12}{row.problem}" for row in rows if row.problem])


def _ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of the ratio within each."""
    return median(one / other for one, other in zip(mine, others, strict=True))


def figures(rows: Sequence[Row], preload: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Those that these rows and the seconds of ``inputs.preload_seconds`` can tell."""
    found = [
        Figure(
            f"OME-Arrow, {kind}: pre-load, as_py / ours", needed, _ratio(*(preload[f"{kind}, {way}"] for way in WAYS))
        )
        for kind, needed in (("uniform", 140), ("ragged", 20))
    ]
    told = {(row.format, row.cache): row for row in rows if row.problem is None}
    whole = {row.format: row for row in told.values() if row.cache == "whole"}
    for name, row in whole.items():
        slow = told.get((name, BEFORE))
        found.append(
            Figure(
                f"{name}: pre-loaded batches / those of plain arrays", 0.9, _ratio(row.samples_per_s, row.array_per_s)
            )
        )
        if slow and name == PARQUET:
            found.append(Figure(f"{name}: a sample, as_py / ours", 140, _ratio(slow.sample_ns, row.sample_ns)))
        if slow and median(slow.waits) > MOSTLY_WAITING:
            text = f"{name}: data wait, where {BEFORE} has {median(slow.waits):.0%}"
            found.append(Figure(text, 0.10, median(row.waits), at_most=True))
        if PARQUET in whole and name != PARQUET:
            ratio = _ratio(_of_limit(row), _of_limit(whole[PARQUET]))
            found.append(Figure(f"{name}: throughput after pre-load / {PARQUET}'s", 0.95, ratio))
    return found


def _of_limit(row: Row) -> list[float]:
    """Throughput in units of what plain arrays gave right before, so that rows of other moments compare."""
    return [mine / plain for mine, plain in zip(row.samples_per_s, row.array_per_s, strict=True)]
