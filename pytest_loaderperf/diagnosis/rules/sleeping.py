"""Sleeps in the loader's own code."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger

SHARE = 0.05  # of the time


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site in ledger.sites:
        share = share_of_time(ledger, site)
        if site.callee == "time.sleep" and share >= SHARE:
            yield Finding(
                RULE.id,
                f"time.sleep() waits for {share:.0%} of the time: {site.count} sleeps of "
                f"{site.total_ns / site.count / 1e6:.1f} ms in {ledger.batches} batches",
                site.file,
                site.line,
                site.function,
                site.count / max(1, ledger.batches),
                "sleeps a batch",
                RULE.fix,
                predicted(ledger, site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="sleeping",
    reason="A sleep ends long after what it waits for has happened.",
    example="while queue.empty():\n    time.sleep(0.05)\nitem = queue.get()",
    fix="wait for the thing itself: queue.get(), event.wait(), future.result()",
    limits="Sleeps inside libraries are not seen.",
    find=_find,
)
