"""Threads and executors that are made for every sample or batch."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Event, Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import POOLS, callers, last_name, often, per

_ENDS = ("join", "shutdown", "start", "result", "wait", "get")


def _pool_of(ledger: Ledger, event: Event) -> Site | None:
    """The call in the same function that makes the pool whose threads or processes were started."""
    made = [site for site in callers(ledger, event) if last_name(site.callee).endswith(POOLS) and site.count]
    return max(made, key=lambda site: site.count, default=None)


def found(ledger: Ledger, kind: str, rule: str, fix: str) -> Iterator[Finding]:
    """Findings for what is started of one ``kind`` of event."""
    for event in ledger.events:
        ended = event.count - (event.alive[-1] if event.alive else 0)
        times, unit = often(ledger, ended)
        if event.kind != kind or not unit:
            continue
        pool = _pool_of(ledger, event)
        name = last_name(pool.callee) if pool is not None else ""
        spent = sum(
            site.own_ns
            for site in callers(ledger, event)
            if (site.line == event.line or last_name(site.callee) in _ENDS or site is pool) and site.callee != "iter"
        )
        work = sum(
            site.own_ns for site in ledger.sites if site.in_helper_thread and last_name(site.callee) not in _ENDS
        )
        many, one = "processes" if kind == "process" else f"{kind}s", per(times) == "1"
        if pool is None:
            started = f"1 {kind} is" if one else f"{per(times)} {many} are"
            said = f"{started} started and ended for every {unit}"
        else:
            times, unit = often(ledger, pool.count)
            said, many = f"a {name} is made for every {unit}: its {many} are started and ended each time", f"{name}s"
        if not unit:
            continue
        yield Finding(
            rule,
            said,
            event.file,
            pool.line if pool is not None else event.line,
            event.function,
            times,
            f"{many} a {unit}",
            fix,
            predicted(ledger, spent - work / ledger.cores),  # the work itself stays
            callee=pool.callee if pool is not None else "",
        )


def _find(ledger: Ledger) -> Iterator[Finding]:
    return found(ledger, "thread", RULE.id, RULE.fix)


RULE = Rule(
    id="executor-per-item",
    reason="Starting and joining threads costs more than most samples; a pool pays only if it is kept.",
    example="def __getitem__(self, i):\n    with ThreadPoolExecutor(4) as pool:\n        return "
    "list(pool.map(self.read, self.parts[i]))",
    fix="make the executor once, in __init__ or on first use, and keep it",
    limits="Threads that a C library starts are not seen.",
    find=_find,
)
