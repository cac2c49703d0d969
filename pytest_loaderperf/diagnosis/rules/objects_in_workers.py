"""Python objects of the dataset, whose memory each worker copies bit by bit."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger

_OBJECTS = 100_000
_GROWN_NBYTES = 4 << 20


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader, grown = ledger.loader, ledger.stages.grown_nbytes
    forks = loader.num_workers and loader.start_method in ("", "fork")
    if forks and loader.objects >= _OBJECTS and grown >= _GROWN_NBYTES:
        yield Finding(
            RULE.id,
            f"{loader.dataset} holds {loader.objects:,} Python objects in {loader.objects_name}: each worker copies "
            f"the pages of those that it looks at, {grown >> 20} MiB so far",
            loader.objects_file or loader.dataset_file or loader.file,
            loader.objects_line or loader.dataset_line or loader.line,
            "",
            loader.objects,
            "objects",
            RULE.fix,
        )


RULE = Rule(
    id="objects-in-workers",
    reason="To look at a Python object writes its reference count, so a page of memory that was shared with the main "
    "process is copied. In the end each worker has a copy of all objects.",
    example="self.files = [line.strip() for line in open(index)]  # millions, and num_workers=8",
    fix="keep them in one array: np.array(files, dtype=np.bytes_), or an Arrow array or table",
    limits="Fewer than 100,000 objects, workers that grow by less than 4 MiB, and objects that are not in an "
    "attribute of a dataset are not reported.",
    find=_find,
)
