"""Workers that start again for every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from pytest_loaderperf.diagnosis.findings import Finding, Gain, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger

_SHARE = 0.15  # of an epoch
_NS = 20_000_000
_SPREAD = 0.1


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader, epochs = ledger.loader, [epoch for epoch in ledger.timed if epoch.whole]
    if not ledger.stages.by_worker or loader.persistent_workers or not loader.torch_like or len(epochs) < 2:  # noqa: PLR2004 said beside it
        return
    start_ns = median(epoch.first_ns - epoch.waits_ns / max(1, epoch.batches - 1) for epoch in epochs)
    start_ns += median(epoch.exit_ns for epoch in epochs)
    epoch_ns = median(epoch.first_ns + epoch.waits_ns + epoch.exit_ns for epoch in epochs)
    share = start_ns / max(1, epoch_ns)
    if start_ns < _NS or share < _SHARE:
        return
    low, value, high = (1 / max(0.02, 1 - share * spread) for spread in (1 - _SPREAD, 1, 1 + _SPREAD))
    yield Finding(
        RULE.id,
        f"{loader.num_workers} workers start and end in every epoch: {share:.0%} of its time",
        loader.file,
        loader.line,
        "",
        loader.num_workers,
        "processes an epoch",
        RULE.fix,
        Gain(value, low, high),
    )


RULE = Rule(
    id="workers-restarted",
    reason="Each epoch starts processes, which build again what the dataset keeps (files, tables, caches).",
    example="DataLoader(dataset, num_workers=2)",
    fix="keep them: DataLoader(dataset, num_workers=2, persistent_workers=True)",
    limits="Needs two whole epochs; start-up below 15 % of an epoch is not reported.",
    find=_find,
)
