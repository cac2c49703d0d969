"""Arrays that grow by one piece at a time."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, growth_text, last_name, often_text, plain, regular

_JOINS = frozenset("cat concat concatenate append hstack vstack row_stack column_stack Add".split())


def _grows(site: Site) -> bool:
    if site.callee == "Add" and site.result.type != "list":
        return False
    return last_name(site.callee) in _JOINS and site.grows > HALF * site.looked_at and site.callee != "list.append"


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        if _grows(site):
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} in a loop copies all that it joined before: {often_text(times)} a {unit}"
                f"{growth_text(site)}",
                site.file,
                site.line,
                site.function,
                times,
                f"joins a {unit}",
                RULE.fix,
                predicted(ledger, site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="growing-concatenation",
    reason="Each step copies everything before it, so the time grows with the square of the number of pieces.",
    example="for sample in samples:\n    batch = torch.cat([batch, sample[None]])",
    fix="collect the pieces in a list and join them once: torch.stack(samples)",
    limits="Growth by += on bytes and strings is not seen.",
    find=_find,
)
