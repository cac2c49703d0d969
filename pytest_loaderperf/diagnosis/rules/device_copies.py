"""What is done wrongly on the way to the GPU, inside the loader."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import last_name, often_text, plain, regular

_READS = frozenset("item tolist cpu numpy nonzero unique masked_select __bool__ __float__ __int__".split())
_CASTS = frozenset(["builtins.float", "builtins.int", "builtins.bool"])  # not the methods, which stay on the GPU
_WAITS = frozenset(["synchronize"])
_NBYTES = 64 << 10  # of a copy, from which pinned memory pays
_GPU = "cuda"


def _syncs(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        name = last_name(site.callee)
        reads = name in _READS or site.callee in _CASTS or (name == "to" and site.result.device == "cpu")
        reads = reads and site.argument.device == _GPU
        if site.user or not (reads or (name in _WAITS and ".cuda" in site.callee)):
            continue
        yield Finding(
            SYNCS.id,
            f"{plain(site.callee)} waits until the GPU has done all that it was given, {often_text(times)} a {unit}",
            site.file,
            site.line,
            site.function,
            times,
            f"waits a {unit}",
            SYNCS.fix,
            predicted(ledger, site.total_ns, site),
            callee=site.callee,
        )


def _pageable(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        moves = (
            last_name(site.callee) in ("to", "cuda") and site.argument.device == "cpu" and site.result.device == _GPU
        )
        small = unit == "batch" and site.result.nbytes < _NBYTES
        if site.user or not moves or site.argument.pinned or small:
            continue
        each = "each sample alone" if unit == "sample" else f"{site.result.nbytes:,} bytes a batch"
        yield Finding(
            PAGEABLE.id,
            f"{plain(site.callee)} copies memory that is not pinned to the GPU, {each}",
            site.file,
            site.line,
            site.function,
            times,
            f"copies a {unit}",
            PAGEABLE.fix,
            predicted(ledger, site.total_ns, site),
            callee=site.callee,
        )


SYNCS = Rule(
    id="sync-per-batch",
    reason="To read one number of the GPU's memory, the CPU waits for all work before it, and gives it no new one.",
    example="for batch in loader:\n    batch = batch.cuda()\n    yield batch[: int(batch.lengths.max().item())]",
    fix="compute it on the CPU before the batch is moved, or keep it as a tensor on the GPU",
    limits="Synchronisation inside a library is not seen.",
    find=_syncs,
)
PAGEABLE = Rule(
    id="pageable-copy",
    reason="Memory that is not pinned is first copied to pinned memory of the driver's, while the CPU waits.",
    example="def __getitem__(self, i):\n    return torch.from_numpy(self.rows[i]).cuda()",
    fix="move whole batches: DataLoader(pin_memory=True), then batch.to(device, non_blocking=True)",
    limits="Only copies inside the loader are seen. Batches below 64 KiB are not reported.",
    find=_pageable,
)
