"""A dataset that is copied as a whole in every epoch."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import HALF, last_name, plain

_NBYTES = 1 << 18
_COPIES = frozenset(
    (
        "copy clone take index_select ascontiguousarray contiguous permutation permuted shuffle resample array "
        "tensor cat astype to sample reset_index sort_values sort_by"
    ).split()
)
_MOST = 2  # times an epoch and process


def _find(ledger: Ledger) -> Iterator[Finding]:
    if not ledger.epochs or not ledger.batches:
        return
    epoch_nbytes = ledger.loader.batch_nbytes * ledger.batches / ledger.epochs
    processes = max(1, ledger.loader.num_workers)
    for site in ledger.sites:
        times = site.count / ledger.epochs
        large = site.result.nbytes >= max(_NBYTES, HALF * epoch_nbytes)
        if large and HALF <= times <= _MOST * processes and site.kind in ("item", "call") and not site.user:
            copies = site.kind == "item" or last_name(site.callee) in _COPIES
            if (
                not copies
                or site.argument.nbytes < HALF * site.result.nbytes
                or site.aliases
                or site.result.type not in ("ndarray", "Tensor", "list", "tuple", "DataFrame", "Series", "Table")
                or site.paths
            ):
                continue
            # Rows of whole batches are taken from the copy at no cost; without it, they are gathered from the data.
            gathered = 0.0 if ledger.loader.batch_size else min(1.0, epoch_nbytes / (site.result.nbytes * times))
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} copies the whole dataset, {site.result.nbytes:,} bytes, in every epoch",
                site.file,
                site.line,
                site.function,
                times,
                "copies an epoch",
                RULE.fix,
                predicted(ledger, site.total_ns * (1 - gathered), site),
            )


RULE = Rule(
    id="dataset-copied-per-epoch",
    reason="Shuffling the data moves every byte of it, and needs the memory twice; shuffling indices moves 8 "
    "bytes a sample.",
    example="def __iter__(self):\n    self.rows = self.rows[np.random.permutation(len(self.rows))]",
    fix="shuffle indices, and take the rows of a batch by them: rows[order[start:stop]]",
    limits="Copies below 256 KiB are not reported.",
    find=_find,
)
