"""What a loader does that another, or the same one at another commit, does not: two ledgers, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pytest_loaderperf.diagnosis.findings import Finding, counted_work_ns
from pytest_loaderperf.diagnosis.ledger import Ledger, Site

_MORE = 1.1  # times as often as at the base: what calls that depend on the data vary by
_LONGER = 1.5  # times as long for each call: what timings on a busy machine vary by
_MANY = 10  # calls of which the longest may be left out
_LEAST_SHARE = 0.03  # of the counting pass's time per sample: less does not explain a slower loader
_LEAST_RATE = 0.5  # calls for each sample: fewer are told for each batch or epoch
_SETTINGS = (
    *("kind", "batch_size", "num_workers", "persistent_workers", "prefetch_factor", "start_method"),
    *("shuffle", "pin_memory"),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A call that the head makes more often than the base, or that takes longer there.

    ``count`` and ``base_count`` are for each ``unit`` (sample, batch or epoch), ``seconds`` and ``base_seconds`` for
    each sample.
    """

    file: str
    line: int
    function: str
    callee: str
    count: float
    base_count: float
    unit: str
    seconds: float
    base_seconds: float


@dataclass(frozen=True)
class Comparison:
    """What changed from the base to the head.

    ``settings``: arguments of the loader that differ, by name, as (head, base). ``stages``: seconds for each batch, as
    (head, base). ``findings``: mistakes that only the head has.
    """

    differences: tuple[Difference, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    stages: tuple[tuple[str, float, float], ...] = ()
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: ``calls``, ``settings`` and ``stages``."""
        return {
            "calls": [asdict(one) for one in self.differences],
            "settings": {name: {"head": mine, "base": other} for name, mine, other in self.settings},
            "stages": {name: {"head": mine, "base": other} for name, mine, other in self.stages},
        }


def compared(head: Ledger, base: Ledger, found: Iterable[Finding], found_there: Iterable[Finding]) -> Comparison:
    """Compare the ledgers and findings of two loaders, or of one at two commits, in which a file has the same name."""
    known = {(one.rule, one.file, one.function) for one in found_there}
    return Comparison(
        tuple(_differences(head, base)),
        tuple(_settings(head, base)),
        tuple(_stages(head, base)),
        tuple(one for one in found if (one.rule, one.file, one.function) not in known),
    )


def _differences(head: Ledger, base: Ledger) -> list[Difference]:
    """What is called more often, as counts are exact, then what takes longer; the largest of each first.

    A line may have moved, and a function may have another name, so calls are matched by what they call.
    """
    if not head.samples or not base.samples:
        return []
    here, there = _by_call(head), _by_call(base)
    other_settings = _settings(head, base)  # with which each call takes another time, for example in small batches
    elsewhere = _unmatched(there, here)
    work_ns = counted_work_ns(head) or sum(site.own_ns for site in head.sites)
    least_s = _LEAST_SHARE * work_ns / head.samples * 1e-9
    found = []
    for key, sites in here.items():
        others = there.get(key) or elsewhere.get(key[2], [])
        mine, theirs = _Rate.of(sites, head), _Rate.of(others, base)
        grew = mine.calls > _MORE * theirs.calls
        differs = grew or (mine.each > _LONGER * theirs.each and not other_settings)
        if differs and mine.seconds - theirs.seconds >= least_s:
            site = max(sites, key=lambda one: one.own_ns)
            unit, count, other = _for_each(mine, theirs, head, base)
            at = *((site.file, site.line) if grew else _begins(site)), site.function, site.callee
            found.append(Difference(*at, count, other, unit, mine.seconds, theirs.seconds))
    return sorted(found, key=lambda one: (one.count <= _MORE * one.base_count, one.base_seconds - one.seconds))


def _by_call(ledger: Ledger) -> dict[tuple[str, str, str], list[Site]]:
    """Sites of the epochs by file, function and callee; calls while the loader is made belong to no sample."""
    found: dict[tuple[str, str, str], list[Site]] = {}
    for site in ledger.sites:
        if site.count:
            found.setdefault((site.file, site.function, site.callee), []).append(site)
    return found


def _unmatched(
    there: dict[tuple[str, str, str], list[Site]], here: dict[tuple[str, str, str], list[Site]]
) -> dict[str, list[Site]]:
    """By callee, the base's sites in functions that do not exist in the head: they may have moved."""
    found: dict[str, list[Site]] = {}
    for key, sites in there.items():
        if key not in here:
            found.setdefault(key[2], []).extend(sites)
    return found


class _Rate(NamedTuple):
    """Calls and seconds for each sample, without the longest call of each process: it may have been interrupted."""

    calls: float
    seconds: float

    @classmethod
    def of(cls, sites: Iterable[Site], ledger: Ledger) -> _Rate:
        calls = [(site.count, site.own_ns - _interrupted_ns(site)) for site in sites]
        return cls(sum(n for n, _ in calls) / ledger.samples, sum(ns for _, ns in calls) / ledger.samples * 1e-9)

    @property
    def each(self) -> float:
        """Seconds of one call."""
        return self.seconds / self.calls if self.calls else 0.0


def _begins(site: Site) -> tuple[str, int]:
    """Where the user's function begins that a line calls, as it is what takes longer; else the line."""
    file, _, line = site.user.rpartition(":")
    return (file, int(line)) if file and line.isdigit() else (site.file, site.line)


def _interrupted_ns(site: Site) -> int:
    return site.longest_ns if site.own_ns == site.total_ns and site.count > _MANY * site.processes else 0


def _for_each(mine: _Rate, theirs: _Rate, head: Ledger, base: Ledger) -> tuple[str, float, float]:
    """The unit of which there is about one call or more, and the counts for it."""
    if mine.calls >= _LEAST_RATE:
        return "sample", mine.calls, theirs.calls
    batches = head.samples / max(1, head.batches), base.samples / max(1, base.batches)
    if mine.calls * batches[0] >= _LEAST_RATE:
        return "batch", mine.calls * batches[0], theirs.calls * batches[1]
    epochs = head.samples / max(1, head.epochs), base.samples / max(1, base.epochs)
    return "epoch", mine.calls * epochs[0], theirs.calls * epochs[1]


def _settings(head: Ledger, base: Ledger) -> list[tuple[str, str, str]]:
    pairs = [(name, getattr(head.loader, name), getattr(base.loader, name)) for name in _SETTINGS]
    if head.loader.shuffle is None or base.loader.shuffle is None:  # not known
        pairs = [pair for pair in pairs if pair[0] != "shuffle"]
    found = [(name, str(mine), str(theirs)) for name, mine, theirs in pairs if mine != theirs]
    mine, theirs = (ledger.loader.sample_nbytes for ledger in (head, base))
    if mine > _LONGER * theirs > 0:
        found.append(("the size of a sample", f"{mine:,} bytes", f"{theirs:,} bytes"))
    return found


def _stages(head: Ledger, base: Ledger) -> list[tuple[str, float, float]]:
    """Stages that take longer for a batch in the head, the largest difference first."""
    if not head.stages.batches or not base.stages.batches:  # a loader without torch's stages
        return []
    mine, theirs = (
        Counter({name: ns / ledger.stages.batches / 1e9 for name, ns in ledger.stages.ns.items()})
        for ledger in (head, base)
    )
    longer = [(name, mine[name], theirs[name]) for name in mine if mine[name] > _LONGER * theirs[name]]
    total = sum(mine.values())
    return sorted(
        (one for one in longer if one[1] - one[2] >= _LEAST_SHARE * total), key=lambda stage: stage[2] - stage[1]
    )
