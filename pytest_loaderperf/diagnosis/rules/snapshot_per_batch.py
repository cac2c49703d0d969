"""State that is large or grows, and is copied or pickled as a whole at every batch."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import HALF, growth_text, last_name, often_text, plain, regular

_COPIES = frozenset(["deepcopy", "dumps", "copy", "dump", "save"])
_FEWEST = 4
_NBYTES = 1 << 16
_SHARE = 0.05  # of the time


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        grows = site.growing >= max(_FEWEST, HALF * site.looked_at)
        large = unit == "batch" and site.result.nbytes >= max(_NBYTES, ledger.loader.batch_nbytes)
        large = large and share_of_time(ledger, site) >= _SHARE
        if last_name(site.callee) in _COPIES and (grows or large) and not site.user:
            what = "a state that grows" if grows else f"{site.result.nbytes:,} bytes of state"
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} copies {what}, {often_text(times)} a {unit}{growth_text(site)}",
                site.file,
                site.line,
                site.function,
                times,
                f"snapshots a {unit}",
                RULE.fix,
                predicted(ledger, site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="snapshot-per-batch",
    reason="The copy takes longer with every batch, so an epoch's time grows with the square of its length.",
    example="for batch in batches:\n    self.state = copy.deepcopy(self.history)\n    yield batch",
    fix="make the snapshot when somebody asks for it (state_dict()), and keep positions instead of data",
    limits="Copies by code of the user's own are seen as what they call.",
    find=_find,
)
