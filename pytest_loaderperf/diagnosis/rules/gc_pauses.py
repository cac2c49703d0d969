"""Garbage collections during the epoch."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, gain_of
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import often_text, regular

_SHARE = 0.03  # of the time


def _find(ledger: Ledger) -> Iterator[Finding]:
    timed_ns = sum(epoch.first_ns + epoch.waits_ns for epoch in ledger.timed) * max(1, ledger.loader.num_workers)
    share = ledger.gc_ns / timed_ns if timed_ns else 0.0  # of the timing pass: the counting pass has fewer objects
    for site, times, unit in regular(ledger):
        if site.callee == "gc.collect" and share >= _SHARE:
            yield Finding(
                RULE.id,
                f"gc.collect() runs {often_text(times)} a {unit}, in {share:.0%} of the time",
                site.file,
                site.line,
                site.function,
                times,
                f"collections a {unit}",
                RULE.fix,
                gain_of(share),
                callee=site.callee,
            )


RULE = Rule(
    id="gc-pauses",
    reason="A collection looks at every object of the process, which takes longer the more there are.",
    example="for batch in loader:\n    gc.collect()\n    yield batch",
    fix="leave it out: arrays and tensors are freed by reference counts; gc.freeze() after start-up keeps old "
    "objects out",
    limits="Collections that Python starts by itself are not reported.",
    find=_find,
)
