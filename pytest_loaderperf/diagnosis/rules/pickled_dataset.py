"""Large datasets that are pickled to each worker."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger

_NBYTES = 8 << 20


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader = ledger.loader
    if loader.num_workers and loader.start_method not in ("", "fork") and loader.pickled_nbytes >= _NBYTES:
        yield Finding(
            RULE.id,
            f"the start method {loader.start_method} pickles {loader.pickled_nbytes:,} bytes of "
            f"{loader.dataset} for each of "
            f"{loader.num_workers} workers, one after the other",
            loader.file,
            loader.line,
            "",
            loader.pickled_nbytes * loader.num_workers,
            "bytes a start",
            RULE.fix,
        )


RULE = Rule(
    id="pickled-dataset",
    reason="Workers that do not fork receive the dataset through a pipe, and each keeps a copy of its own.",
    example='DataLoader(InMemory(arrays), num_workers=4, multiprocessing_context="spawn")',
    fix="keep the data in a file and map it in each worker (np.load(path, mmap_mode='r')), or use the start "
    "method fork",
    limits="A dataset that cannot be pickled is not measured. Below 8 MiB nothing is reported.",
    find=_find,
)
