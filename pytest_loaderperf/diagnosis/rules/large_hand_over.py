"""Batches that are widened in workers before they cross processes."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import HALF, often_text, plain, regular

_NBYTES = 4 << 20  # of a batch
_TIMES = 2  # wider
_ITEMSIZE = {"uint8": 1, "int8": 1, "bool": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2, "int32": 4}
_ITEMSIZE |= {"uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8}


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader = ledger.loader
    nbytes = ledger.stages.sent_nbytes
    if nbytes < _NBYTES:
        return
    sent = ledger.counted_ns.get("send", 0)
    for site, times, unit in regular(ledger):
        if site.in_workers < HALF * site.count:
            continue
        before = _ITEMSIZE.get(site.largest.dtype or site.argument.dtype, 0)
        after = _ITEMSIZE.get(site.result.dtype, 0)
        size = (
            site.result.nbytes
            * (times if unit == "sample" else 1)
            * (loader.batch_size or 1 if unit == "sample" else 1)
        )
        if before and after >= _TIMES * before and size >= nbytes / 2 and not site.user:
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} makes samples {after // before} times as large before they cross processes: "
                f"{nbytes:,} bytes a batch, {often_text(times)} a {unit}",
                site.file,
                site.line,
                site.function,
                nbytes,
                "bytes a batch",
                RULE.fix,
                predicted(ledger, sent * (1 - before / after) + site.total_ns),
                callee=site.callee,
            )


RULE = Rule(
    id="large-hand-over",
    reason="Workers copy each batch to shared memory, and the main process maps it: the time grows with its bytes.",
    example="def __getitem__(self, i):\n    return torch.from_numpy(self.volumes[i].astype(np.float64))",
    fix="hand over the narrow type, and widen the batch where it is used: batch.float(), on the GPU if there is one",
    limits="Batches below 4 MiB are not reported.",
    find=_find,
)
