"""Findings: what a rule found in a ledger, and what the fix would bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from pytest_loaderperf.diagnosis.ledger import Ledger, Site

_LEAST_LEFT = 0.002  # of a batch's time: no fix takes all of it
_REPEATED, _REOPENED = "repeated-work", "file-reopened"
_READING = {_REPEATED, _REOPENED, "read-amplification"}  # a file is opened, read, and what was read is parsed
_SPREAD = 0.1  # of the time that a fix would save: what single measurements of a line scatter by


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times faster the loader would be, between ``low`` and ``high``; ``how``: "predicted" or "measured"."""

    value: float
    low: float
    high: float
    how: str = "predicted"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: the ``rule`` that found it, at which line, how often (``count`` per ``unit``), and how to fix it.

    ``file`` is "" and ``line`` 0 if no line of the user's code causes it. ``callee``: what that line calls, or "".
    """

    rule: str
    message: str
    file: str
    line: int
    function: str
    count: float
    unit: str
    fix: str
    gain: Gain | None = None
    callee: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Findings(list[Finding]):
    """Findings whose repr, which a failed ``assert not run.findings`` shows, says what to change."""

    def __repr__(self) -> str:
        places = [f"{Path(finding.file).name or 'no line'}:{finding.line}" for finding in self]
        said = (
            f"{finding.rule} at {place}: {finding.message}; fix: {finding.fix}"
            for place, finding in zip(places, self, strict=True)
        )
        return f"[{' | '.join(said)}]"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of mistake.

    ``reason``: why it costs time. ``example`` and ``fix``: code before and after. ``limits``: what it does not see.
    ``find`` yields findings from a ledger. ``yields_to``: rules that are nearer the cause, in one function.
    """

    id: str
    reason: str
    example: str
    fix: str
    limits: str
    find: Callable[[Ledger], Iterable[Finding]]
    yields_to: tuple[str, ...] = ()


def predicted(ledger: Ledger, saved_ns: float, site: Site | None = None) -> Gain | None:
    """The gain if ``saved_ns`` of the counting pass were not spent; None if nothing was timed.

    What is left is slowed down by counting in the counting pass, and may have met a faster or slower machine in the
    timing pass: the gain lies between what the two say. With workers it is their work that counts, but for a ``site``
    of the main process.
    """
    all_ns = counted_work_ns(ledger, site)
    if all_ns <= 0 or saved_ns <= 0:
        return None
    counted, timed_ns = gain_of(saved_ns / all_ns), timed_work_ns(ledger, site)
    if timed_ns <= saved_ns:
        return counted
    timed = gain_of(saved_ns / timed_ns)
    low, high = min(counted.low, timed.low), max(counted.high, timed.high)
    return Gain(sqrt(counted.value * timed.value), low, high)


def gain_of(share: float) -> Gain:
    """The gain if that share of the time were not spent."""
    low, value, high = (1 / max(_LEAST_LEFT, 1 - min(1.0, share) * part) for part in (1 - _SPREAD, 1, 1 + _SPREAD))
    return Gain(value, low, high)


def at_most(gain: Gain | None, limit: float) -> Gain | None:
    """A predicted gain that cannot be larger: by as many threads as there are cores, for example."""
    return gain and Gain(min(limit, gain.value), min(limit, gain.low), min(limit, gain.high))


def near_gain(value: float, low: float, high: float) -> Gain:
    """A gain that was measured of a change that is near to the fix."""
    return Gain(value, low * (1 - _SPREAD), high * (1 + _SPREAD))


def timed_work_ns(ledger: Ledger, site: Site | None = None) -> float:
    """The same as ``counted_work_ns`` of the timing pass, for as many samples; 0 if nothing was timed."""
    samples = sum(epoch.samples for epoch in ledger.timed)
    if _is_of_workers(ledger, site):
        spent: float = sum(ledger.stages.ns.get(stage, 0) for stage in ("fetch", "collate", "send"))
    else:
        spent = sum(epoch.first_ns + epoch.waits_ns for epoch in ledger.timed)
    return spent / samples * ledger.samples if samples else 0.0


def _is_of_workers(ledger: Ledger, site: Site | None) -> bool:
    return bool(ledger.loader.num_workers and ledger.loader.torch_like and (site is None or site.in_workers))


def counted_work_ns(ledger: Ledger, site: Site | None = None) -> float:
    """Time of the counting pass, without what counting takes: of the workers' work, if ``site`` is theirs."""
    if _is_of_workers(ledger, site):
        return sum(ledger.counted_ns.get(stage, 0) for stage in ("fetch", "collate", "send"))
    return ledger.counted_ns.get("all", 0)


def sample_ns(ledger: Ledger) -> float:
    """Time of a sample in the timing pass; 0 if nothing was timed."""
    samples = sum(epoch.samples for epoch in ledger.timed)
    return sum(epoch.first_ns + epoch.waits_ns for epoch in ledger.timed) / samples if samples else 0.0


def share_of_time(ledger: Ledger, site: Site) -> float:
    """Share of the counting pass's time, without what counting takes, that a site took."""
    all_ns = counted_work_ns(ledger, site)
    return site.total_ns / all_ns if all_ns else 0.0


def nearest_causes(findings: Iterable[Finding], rules: Iterable[Rule], sites: Iterable[Site] = ()) -> list[Finding]:
    """One finding for each cause: of two rules in one function, the one nearer the cause; the largest gain first.

    What a line of ``sites`` does only because another one asks for the same again and again follows from that one.
    """
    yields_to = {rule.id: set(rule.yields_to) for rule in rules}
    found = list(findings)
    kept = [
        one
        for one in found
        if not any(
            other.rule in yields_to[one.rule] and (other.file, other.function) == (one.file, one.function)
            for other in found
        )
    ]
    around = _around(sites)
    kept = [one for one in kept if not any(_follows(one, other, around) for other in kept)]
    return sorted(_one_a_function(kept), key=lambda finding: -(finding.gain.value if finding.gain else 1.0))


def _around(sites: Iterable[Site]) -> dict[str, set[str]]:
    """The lines that ran each line, also through others, as "file:line"."""
    around: dict[str, set[str]] = {}
    for site in sites:
        around.setdefault(f"{site.file}:{site.line}", set()).update(site.within)
    grown = True
    while grown:
        further = {line: set().union(by, *(around.get(one, ()) for one in by)) for line, by in around.items()}
        grown, around = further != around, further
    return around


def _follows(one: Finding, other: Finding, around: Mapping[str, set[str]]) -> bool:
    """Whether ``one`` goes away with ``other``: what repeated work does, or the opening of a file for what is read."""
    if other is one or one.gain is None or other.gain is None:
        return False
    place, others = f"{one.file}:{one.line}", f"{other.file}:{other.line}"
    inside, outside = others in around.get(place, ()), place in around.get(others, ())
    rules = {one.rule, other.rule}
    if _REOPENED in rules and len(rules) > 1 and rules <= _READING:
        if not (inside or outside or (one.file, one.function) == (other.file, other.function)):
            return False
        if other.rule == _REOPENED:  # it is nearer the cause, but where most of the time is not in opening
            return one.gain.low <= other.gain.high
        return other.gain.low > one.gain.high
    return other.rule == _REPEATED and inside and not outside and other.gain.value >= one.gain.value


def _one_a_function(findings: list[Finding]) -> Iterator[Finding]:
    """Of findings of one rule in one function, the one that costs most: the others follow from it."""
    best: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        at = finding.rule, finding.file, finding.function
        before = best.get(at)
        if before is None or _cost(finding) > _cost(before):
            best[at] = finding
    return iter(best.values())


def _cost(finding: Finding) -> tuple[float, float]:
    return (finding.gain.value if finding.gain else 1.0), finding.count
