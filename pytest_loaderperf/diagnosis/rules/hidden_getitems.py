"""Datasets that could give whole batches, wrapped in one that asks for single samples."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, last_name, per

_CALLS = 0.8  # of the time of fetches: what single calls cost


def _line(ledger: Ledger) -> Site | None:
    """The line that asks for a single sample, or that made a wrapper of torch's."""
    loader = ledger.loader
    asks = [
        site
        for site in ledger.sites
        if site.callee.endswith(f"{loader.hidden_getitems}.__getitem__") and site.count >= HALF * ledger.samples
    ]
    made = [
        site for site in ledger.sites if last_name(site.callee) == (loader.hiding or loader.dataset) and site.in_start
    ]
    return max(asks or made, key=lambda site: site.total_ns, default=None)


def _find(ledger: Ledger) -> Iterator[Finding]:
    loader = ledger.loader
    each = ledger.samples / max(1, ledger.batches)
    if not loader.hidden_getitems or loader.iterable or not loader.torch_like or each <= 1:
        return  # without batches torch asks for none
    at = _line(ledger)
    yield Finding(
        RULE.id,
        f"{loader.hiding or loader.dataset} asks {loader.hidden_getitems} for one sample at a time, and hides its "
        f"__getitems__: {per(each)} calls a batch instead of one",
        at.file if at else loader.dataset_file or loader.file,
        at.line if at else loader.dataset_line or loader.line,
        at.function if at else "",
        each,
        "calls a batch",
        RULE.fix,
        predicted(ledger, ledger.counted_ns.get("fetch", 0) * _CALLS),
    )


RULE = Rule(
    id="hidden-getitems",
    reason="torch asks only the outermost dataset whether it can give a whole batch.",
    example="class Normalised(Dataset):\n    def __getitem__(self, i):\n        return normalise(self.inner[i])",
    fix="pass it on: def __getitems__(self, indices): return [normalise(x) for x in self.inner.__getitems__(indices)]",
    limits="A dataset inside a closure or a property is not found.",
    find=_find,
)
