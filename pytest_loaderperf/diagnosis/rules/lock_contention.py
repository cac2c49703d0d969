"""Threads that wait for one lock."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, at_most, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger

_SHARE = 0.25  # of a sample's time, spent by threads that wait


def _find(ledger: Ledger) -> Iterator[Finding]:
    counted_ns = sum(epoch.first_ns + epoch.waits_ns for epoch in ledger.counted) * max(1, ledger.loader.num_workers)
    for site in ledger.sites:
        waits = site.callee == "lock" or (site.callee.endswith(".acquire") and "ock" in site.callee)
        if waits and site.in_helper_thread and counted_ns and site.total_ns >= _SHARE * counted_ns:
            yield Finding(
                RULE.id,
                f"threads wait for this lock for {site.total_ns / counted_ns:.1f} s of every second",
                site.file,
                site.line,
                site.function,
                site.total_ns / counted_ns,
                "seconds a second",
                RULE.fix,
                at_most(predicted(ledger, site.total_ns / 2), ledger.cores),
            )


RULE = Rule(
    id="lock-contention",
    reason="While one thread holds the lock, the others stand still: threads then work one after the other.",
    example="def read(self, i):\n    with self.lock:\n        return decode(self.blobs[i])",
    fix="hold the lock only for what is shared (a file position, a dict), and decode outside of it",
    limits="Locks that are taken by acquire() in a library are not seen.",
    find=_find,
)
