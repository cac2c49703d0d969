"""Tables, and the aims of the reference loader: medians, and medians of ratios within a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pytest_loaderperf.engines.record import Row, cpu_s_per_1k, ratios, throughput
from suites.peers.loaders import IN_PROCESS, LIMIT, OURS, WORKERS, is_peer

WIDTH = 100
_NAME, _HOW = 28, 33
FIRST_RESOLVED_NS = 100_000  # less than this beyond decoding is noise of the decoding
BUSY_IDLE_SHARE = 0.02  # of a core, while other loaders are measured

Rows = Sequence[Row]


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` against ``needed``, which is the least it may be, or the most if ``at_most``. No value: ``why``.

    If it is not ``sure``, the value may be noise, and no aim is missed.
    """

    text: str
    needed: float
    value: float | None
    at_most: bool = False
    why: str = ""
    sure: bool = True

    @property
    def missed(self) -> bool:
        if self.value is None or not self.sure:
            return False
        return self.value > self.needed if self.at_most else self.value < self.needed

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        if self.value is None:
            return f"not measured  {self.text} {sign} {self.needed:g}: {self.why}"
        verdict = "MISSED" if self.missed else "met" if self.sure else "open"
        return f"{verdict:12}  {self.text} {sign} {self.needed:g}: {self.value:.3g}"


def samples_per_s(row: Row) -> float:
    return median(throughput(row, trial) for trial in row.trials)


def ratio(row: Row, other: Row) -> float:
    """The throughput of ``row`` divided by that of ``other``: the median over the turns with both."""
    return median(ratios(row, other))


def by_name(rows: Rows) -> dict[str, Row]:
    """The rows that were measured; of several variants the fastest."""
    measured = sorted((row for row in rows if row.trials and row.problem is None), key=samples_per_s)
    return {row.name: row for row in measured}


def best_peer(rows: Rows) -> Row | None:
    peers = [row for name, row in by_name(rows).items() if is_peer(name)]
    return max(peers, key=samples_per_s, default=None)


def table(title: str, rows: Rows) -> str:
    """One line for each loader, the fastest first; those without figures last, with the reason."""
    base = by_name(rows).get(IN_PROCESS)
    measured = sorted((row for row in rows if row.trials and row.problem is None), key=samples_per_s, reverse=True)
    heading = (
        f"{'loader':{_NAME}}{'used as':{_HOW}}{'samples/s':>10}{'x torch':>8}{'TTFB ms':>8}{'CPU s/k':>8}{'MB':>5}"
    )
    lines = [title, heading, "-" * len(heading)]
    for row in measured:
        times = f"{ratio(row, base):.2f}" if base else ""
        first = f"{median(row.first_ns) / 1e6:.1f}" if row.first_ns else ""
        lines.append(
            f"{row.name:{_NAME}}{row.how:{_HOW}}{samples_per_s(row):>10,.0f}{times:>8}{first:>8}"
            f"{cpu_s_per_1k(row):>8.4f}{median(row.pss_nbytes) / 1e6:>5.0f}"
        )
    lines += [f"{row.name:{_NAME}}{row.problem}" for row in rows if row not in measured]
    busy = [row for row in measured if row.idle_s and row.idle_cpu_s / row.idle_s > BUSY_IDLE_SHARE]
    lines += [f"  {r.name} used {r.idle_cpu_s / r.idle_s:.0%} of a core while others were measured" for r in busy]
    return "\n".join(lines)


def _versus(text: str, needed: float, ours: Row | None, other: Row | None) -> Figure:
    if ours is None or other is None:
        return Figure(text, needed, None, why="one of the two has no figures")
    return Figure(text, needed, ratio(ours, other))


def _first_batches(rows: Mapping[str, Row]) -> Figure:
    text = f"decode: TTFB beyond decoding, torch workers / {OURS}"
    if not all(name in rows and rows[name].first_ns for name in (LIMIT, OURS, WORKERS)):
        return Figure(text, 20, None, why="one of the two has no figures")
    bare_ns = median(rows[LIMIT].first_ns)
    ours_ns, workers_ns = (median(rows[name].first_ns) - bare_ns for name in (OURS, WORKERS))
    return Figure(text, 20, workers_ns / max(ours_ns, FIRST_RESOLVED_NS))


def _memory(rows: Mapping[str, Row]) -> Figure:
    text = f"decode: PSS, {OURS} / torch workers"
    if OURS not in rows or WORKERS not in rows:
        return Figure(text, 0.5, None, at_most=True, why="one of the two has no figures")
    ours, workers = (median(rows[name].pss_nbytes) for name in (OURS, WORKERS))
    beyond = [(median(rows[name].pss_nbytes) - rows[name].base_nbytes) / 1e6 for name in (OURS, WORKERS)]
    text += f" ({beyond[0]:.0f} and {beyond[1]:.0f} MB beyond imports, data)"
    return Figure(text, 0.5, ours / workers, at_most=True)


def figures(results: Mapping[str, Rows]) -> list[Figure]:
    """Every figure whose regime was run; ``results`` maps a regime's name to its rows."""
    found: list[Figure] = []
    for regime, rows in results.items():
        named = by_name(rows)
        ours, limit, torchs = named.get(OURS), named.get(LIMIT), named.get(IN_PROCESS)
        if regime == "vectors":
            found.append(_versus(f"vectors: {OURS} / {IN_PROCESS}", 10, ours, torchs))
            found.append(_best(regime, 4, ours, rows))
        if regime in {"vectors", "vectors-256", "large-rows"}:
            found.append(_versus(f"{regime}: {OURS} / copy limit", 0.90, ours, limit))
        if regime in {"decode", "folder", "encoded"}:
            found.append(_versus(f"{regime}: {OURS} / bare decoding on as many threads", 0.95, ours, limit))
            found.append(_best(regime, 1.2, ours, rows))
        if regime == "decode":
            found += [_first_batches(named), _memory(named)]
        if regime in {"parse", "cheap"}:
            found.append(_versus(f"{regime}: {OURS} / {IN_PROCESS}", 1.3, ours, torchs))
    return found


def _best(regime: str, needed: float, ours: Row | None, rows: Rows) -> Figure:
    best = best_peer(rows)
    named = f" ({best.name})" if best else ""
    return _versus(f"{regime}: {OURS} / best peer{named}", needed, ours, best)
