"""The tables, and the aims of pre-loading: each a ratio within this run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from statistics import median

from pytest_loaderperf.report.figures import size_text, three_digits, time_text
from suites.peers.report import Figure
from suites.tracks.compare import NEEDED, PARQUET, Compared
from suites.tracks.images import MADE
from suites.tracks.memory import PROCESSES, Memory

BEFORE = "as_py"
WAYS = ("as_py", "ours")
LEAST_MEMORY_NBYTES = 4 << 30  # below it, a process's other memory counts too much
AS_PY_NEEDED, BARE_NEEDED = 140, 0.8  # of a sample: one of the two
MOSTLY_WAITING, MOST_WAITING = 0.5, 0.1  # of a training loop: before the pre-load, and after it


@dataclass(frozen=True, slots=True)
class MachineFigure(Figure):
    """An aim that depends on the machine: it is shown, but never counts as missed."""

    @property
    def missed(self) -> bool:
        return False

    def __str__(self) -> str:
        reached = self.value is not None and (self.value <= self.needed if self.at_most else self.value >= self.needed)
        return (
            Figure.__str__(self) if reached or self.value is None else Figure.__str__(self).replace("met  ", "below", 1)
        )


@dataclass(slots=True)
class Row:
    """One way to load one format. ``problem`` says why there are no figures.

    The lists have one value for each round.
    """

    images: str
    format: str
    cache: str
    problem: str | None = None
    nbytes: int = 0
    write_s: float = 0.0
    sample_ns: list[float] = field(default_factory=list)
    samples_per_s: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    bare_ns: list[float] = field(default_factory=list)  # of `tracks.Bare`, if the cache is "whole"


def table(rows: Sequence[Row]) -> str:
    """A line for each format and cache, a table for each set of images; rows without figures last, with reasons."""
    heading = f"{'format':<13}{'loaded by':<12}{'on disk':>10}{'written in':>11}{'sample':>10}{'samples/s':>11}"
    heading += f"{'data wait':>10}{'AU':>6}"
    lines = []
    for images, of_images in groupby(rows, attrgetter("images")):
        lines += ["", f"images: {images}", heading, "-" * len(heading)]
        lines += [_line(row) for row in of_images if row.problem is None]
    problems = [f"{row.images}: {row.format}, {row.cache}: {row.problem}" for row in rows if row.problem is not None]
    return "\n".join([*lines, "", *problems])


def _line(row: Row) -> str:
    wait = median(row.waits)
    return (
        f"{row.format:<13}{row.cache:<12}{size_text(row.nbytes):>10}{time_text(row.write_s):>11}"
        f"{time_text(median(row.sample_ns) * 1e-9):>10}{three_digits(median(row.samples_per_s)):>11}"
        f"{wait:>10.1%}{1 - wait:>6.2f}"
    )


def figures(rows: Sequence[Row], compared: Sequence[Compared], preload: Mapping[str, Sequence[float]]) -> list[Figure]:
    """The figures from the rows, the comparisons and the seconds of ``inputs.preload_seconds``.

    For each set of images, the worst format is shown.
    """
    found = []
    for kind, needed in (("uniform", 140), ("ragged", 20)) if preload else ():
        slow, fast = (preload[f"{kind}, {way}"] for way in WAYS)
        found.append(Figure(f"OME-Arrow, {kind}: pre-load, as_py / ours", needed, _ratio(slow, fast)))
    told = {(row.images, row.format, row.cache): row for row in rows if row.problem is None}
    if (MADE, PARQUET, BEFORE) in told and (MADE, PARQUET, "whole") in told:
        found.append(_sample(told[MADE, PARQUET, BEFORE], told[MADE, PARQUET, "whole"]))
    for images in dict.fromkeys(row.images for row in rows):
        waits = {
            kind: told[images, kind, "whole"].waits
            for name, kind, cache in told
            if name == images and cache == BEFORE and (images, kind, "whole") in told
            if median(told[images, kind, BEFORE].waits) > MOSTLY_WAITING
        }
        if waits:
            # Other programs make a wait longer: an aim is missed for sure if all rounds miss it.
            kind = max(waits, key=lambda kind: (min(waits[kind]) > MOST_WAITING, median(waits[kind])))
            text = f"{images}: data wait, the most of {len(waits)} formats that waited > 50% before ({kind})"
            wait = median(waits[kind])
            sure = wait <= MOST_WAITING or min(waits[kind]) > MOST_WAITING
            found.append(Figure(text, MOST_WAITING, wait, at_most=True, sure=sure))
        found += [
            _worst([one for one in compared if (one.images, one.cache, one.against) == (images, cache, against)])
            for cache, against in dict.fromkeys((one.cache, one.against) for one in compared if one.images == images)
        ]
    return found


def _sample(before: Row, after: Row) -> Figure:
    """One of two limits must be met: if ``as_py`` is fast compared with a copy, no sample can be 140 times as fast."""
    ratio = _ratio(before.sample_ns, after.sample_ns)
    if ratio >= AS_PY_NEEDED:
        return Figure(f"{PARQUET}: a sample, as_py / ours", AS_PY_NEEDED, ratio)
    text = f"{PARQUET}: a sample, a bare copy of its rows / ours (as_py / ours is {ratio:.3g})"
    return Figure(text, BARE_NEEDED, _ratio(after.bare_ns, after.sample_ns))


def _worst(ratios: Sequence[Compared]) -> Figure:
    worst = min(ratios, key=lambda one: (one.outcome != "FAIL", one.ratio))
    what = f"{worst.images}: batches ({worst.cache}) / those of {worst.against}"
    text, needed = f"{what}, the least of {len(ratios)} formats ({worst.format})", NEEDED[worst.against]
    return Figure(text, needed, worst.ratio, sure=worst.outcome != "INCONCLUSIVE")


def memory_figures(memory: Memory) -> list[Figure]:
    """Bytes as shares of the rows or of the budget, and seconds of an epoch divided by those of reading the file."""
    sure = memory.nbytes >= LEAST_MEMORY_NBYTES
    rss = max(memory.build_rss_nbytes, memory.epoch_rss_nbytes)
    rows, budget = size_text(memory.nbytes), size_text(memory.budget_nbytes)
    return [
        Figure(
            f"{PROCESSES} processes over one cache: PSS / bytes of the rows",
            1.1,
            memory.shared,
            at_most=True,
            sure=sure,
        ),
        Figure(f"{rows} under {budget}: peak RSS / budget", 1.25, rss / memory.budget_nbytes, at_most=True, sure=sure),
        MachineFigure(
            f"{rows} under {budget}: an epoch / a sequential read",
            0.7,
            _ratio(memory.read_s, memory.epoch_s),
            sure=sure,
        ),
        MachineFigure(
            f"{rows} under {budget}: shuffled / a sequential read",
            0.7,
            _ratio(memory.read_s, memory.shuffled_s),
            sure=sure,
        ),
    ]


def _ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of the ratio within each."""
    return median(one / other for one, other in zip(mine, others, strict=True))
