"""Workers that wait because too few batches may be ahead."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, gain_of
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import HALF

_FEWEST = 3  # slow batches: less may be a start
_BURSTS = 0.3  # of the workers' time, spent on slow batches
_IDLE = 0.15  # of the workers' time
_SHALLOW = 2  # batches a worker


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader, stages = ledger.loader, ledger.stages
    depth = loader.prefetch_factor or 0
    if loader.num_workers < 2 or not loader.torch_like or depth > _SHALLOW or not stages.batches:  # noqa: PLR2004 said beside it
        return
    busy_ns = sum(stages.ns.get(stage, 0) for stage in ("fetch", "collate", "send"))
    wall_ns = sum(epoch.waits_ns for epoch in ledger.timed) * loader.num_workers
    idle = 1 - busy_ns / max(1, wall_ns)
    handed_ns = stages.ns.get("receive", 0) + stages.ns.get("pin", 0)
    if handed_ns >= HALF * sum(epoch.waits_ns for epoch in ledger.timed):
        return  # the main process is busy, and batches lie ready
    if stages.slow_batches < _FEWEST or stages.slow_share < _BURSTS or idle < _IDLE:
        return
    yield Finding(
        RULE.id,
        f"prefetch_factor={depth}: workers are idle {idle:.0%} of the time, while the consumer waits for one of "
        f"{stages.slow_batches} slow batches, which take {stages.slow_share:.0%} of the workers' time",
        loader.file,
        loader.line,
        "",
        depth,
        "batches ahead a worker",
        RULE.fix,
        gain_of(idle),
    )


RULE = Rule(
    id="shallow-prefetch",
    reason="Batches are delivered in order. While one takes long, other workers can only work prefetch_factor "
    "batches ahead.",
    example="DataLoader(dataset, num_workers=2, prefetch_factor=1)",
    fix="allow more batches ahead: prefetch_factor=8 (memory: num_workers * prefetch_factor batches)",
    limits="Only loaders with batches that take three times the median are reported.",
    find=_find,
)
