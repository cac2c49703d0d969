"""Batches that cross processes as many small tensors."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Gain, Rule, gain_of
from pytest_loaderperf.diagnosis.ledger import Ledger

_TENSORS = 64  # a batch
_NBYTES = 1 << 15  # a tensor


def _gain(ledger: Ledger) -> Gain | None:
    """If nothing were handed over: what packs it takes time in a worker, and what unpacks it in the main process."""
    work_ns, handed_ns = (
        sum(ledger.stages.ns.get(stage, 0) for stage in stages)
        for stages in (("fetch", "collate"), ("send", "receive"))
    )
    return gain_of(handed_ns / (work_ns + handed_ns)) if handed_ns else None


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader = ledger.loader
    tensors, nbytes = ledger.stages.sent_tensors, ledger.stages.sent_nbytes
    if tensors < _TENSORS or nbytes / tensors > _NBYTES:
        return
    file, line, function = loader.collate_file or loader.file, loader.collate_line or loader.line, ""
    yield Finding(
        RULE.id,
        f"a batch crosses processes as {tensors} tensors of {nbytes // tensors:,} bytes "
        "on average, each through a file of its own in shared memory",
        file,
        line,
        function,
        tensors,
        "tensors a batch",
        RULE.fix,
        _gain(ledger),
    )


RULE = Rule(
    id="many-small-tensors",
    reason="Each tensor is moved to shared memory, sent as a descriptor, and mapped again, which takes some 100 us.",
    example="def collate(samples):\n    return samples  # a list of dicts of tensors",
    fix="join the fields in collate (torch.stack, or torch.cat with lengths), or keep small fields as Python numbers",
    limits="Fewer than 64 tensors a batch are not reported.",
    find=_find,
)
