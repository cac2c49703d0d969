"""Workers that each use many threads."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import last_name

_SETS = frozenset(["set_num_threads", "setNumThreads"])


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader = ledger.loader
    threads = max(ledger.stages.threads.values(), default=1)
    workers = max(1, loader.num_workers)
    if threads * workers <= max(ledger.cores, workers):
        return
    sets = [site for site in ledger.sites if last_name(site.callee) in _SETS and (site.count or site.in_start)]
    at = max(sets, key=lambda site: site.in_workers, default=None)
    yield Finding(
        RULE.id,
        f"each of {workers} workers uses {threads} threads for an operation: {threads * workers} on "
        f"{ledger.cores} cores",
        at.file if at else loader.file,
        at.line if at else loader.line,
        at.function if at else "",
        threads * workers,
        "threads",
        RULE.fix,
        callee=at.callee if at else "",
    )


RULE = Rule(
    id="too-many-threads",
    reason="Threads of all workers compete for the same cores, and wait for each other at the end of each operation.",
    example="def init(worker_id):\n    torch.set_num_threads(os.cpu_count())",
    fix="leave torch's own setting, one thread for each worker, or divide the cores by the number of workers",
    limits="Threads of other libraries (OpenCV, BLAS) are not counted.",
    find=_find,
)
