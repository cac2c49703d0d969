"""Processes that are started for every sample or batch."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.executor_per_item import found


def _find(ledger: Ledger) -> Iterator[Finding]:
    return found(ledger, "process", RULE.id, RULE.fix)


RULE = Rule(
    id="process-per-item",
    reason="Starting a process takes milliseconds, and everything it imports is loaded again.",
    example='def __getitem__(self, i):\n    raw = subprocess.run(["zcat", self.files[i]], capture_output=True).stdout',
    fix="call the library in this process (gzip, PIL, ...), or start one process and keep it",
    limits="Processes that a C library starts are not seen.",
    find=_find,
)
