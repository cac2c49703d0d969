"""Rows of one array in memory that are fetched one at a time."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, last_name

_BATCH = 8  # samples, from which a batch is worth one index operation
_MOST_NBYTES = 1 << 16  # of a sample: larger ones spend their time copying
_CALLS = 0.9  # of the time of fetch and collate: what single samples cost
_MOST_NS = 100_000  # of a sample's fetch


def _asks_itself(ledger: Ledger) -> bool:
    """Whether ``__getitems__`` is there, but asks for single samples."""
    single = (site.count for site in ledger.sites if last_name(site.function) == "__getitem__")
    return max(single, default=0) >= HALF * ledger.samples


def _computes(ledger: Ledger) -> bool:
    """Whether the time of a fetch is that of calls, and not of rows that are taken."""
    calls = (site.own_ns for site in ledger.sites if site.fetch_ns and not site.aliases and not site.user)
    return sum(calls) > HALF * ledger.counted_ns.get("fetch", 0)


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader, stages = ledger.loader, ledger.stages
    batched = loader.torch_like and not loader.iterable and (loader.batch_size or 0) >= _BATCH
    if not batched or loader.hidden_getitems or not loader.shared_samples:
        return
    if loader.has_getitems and not _asks_itself(ledger):
        return
    samples = max(1, sum(epoch.samples for epoch in ledger.timed))
    fetch_ns = stages.ns.get("fetch", 0) / samples
    if fetch_ns > _MOST_NS or loader.sample_nbytes > _MOST_NBYTES:
        return
    if _computes(ledger):
        return
    rows = [site for site in ledger.sites if site.aliases and site.count >= HALF * ledger.samples and not site.user]
    rows = [site for site in rows if site.fetch_ns] or rows
    at: Site | None = max(rows, key=lambda site: site.own_ns, default=None)
    stages_saved = ["fetch"] if loader.collate_file else ["fetch", "collate"]  # a collate of the user's own may do more
    saved = sum(ledger.counted_ns.get(stage, 0) for stage in stages_saved) * _CALLS
    yield Finding(
        RULE.id,
        f"{loader.dataset} gives rows of one array one at a time: {loader.batch_size} fetches a batch, and a "
        "collate of as many",
        at.file if at else loader.file,
        at.line if at else loader.line,
        at.function if at else "",
        loader.batch_size or 0,
        "fetches a batch",
        RULE.fix,
        predicted(ledger, saved),
    )


RULE = Rule(
    id="sample-by-sample",
    reason="A Python call and a small tensor for each sample, then a copy that joins them; one index operation "
    "does it in C.",
    example="class Rows(Dataset):\n    def __getitem__(self, i):\n        return self.x[i], self.y[i]",
    fix="fetch whole batches: def __getitems__(self, indices): return self.x[indices], self.y[indices], with "
    "collate_fn=lambda batch: batch; or ReferenceLoader((x, y), batch_size=...)",
    limits="Datasets that compute something for each sample are not reported.",
    find=_find,
    yields_to=("hidden-getitems",),
)
