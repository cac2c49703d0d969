"""Arrow values that become Python objects."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import last_name, often_text, plain, regular, rewritten_ns

_CALLS = frozenset(["as_py", "to_pylist", "to_pydict"])
_ITEMS = 16  # of a list, from which an array is worth it
_SCALARS = 4  # a sample


def _is_many(site: Site, times: float, unit: str) -> bool:
    if site.result.type in ("list", "dict"):
        return max(site.result.items, site.result.nested) >= _ITEMS or (unit == "sample" and times >= _SCALARS)
    return unit == "sample" and times >= _SCALARS


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        if site.callee.startswith("pyarrow") and last_name(site.callee) in _CALLS and _is_many(site, times, unit):
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} makes Python objects of Arrow data, {often_text(times)} a {unit}",
                site.file,
                site.line,
                site.function,
                times,
                f"calls a {unit}",
                RULE.fix,
                predicted(ledger, rewritten_ns(ledger, site), site),
                callee=site.callee,
            )


RULE = Rule(
    id="arrow-to-python",
    reason="Each number becomes a Python object, which takes a hundred times as long as reading it as an array.",
    example='def __getitem__(self, i):\n    return torch.tensor(self.table["pixels"][i].as_py())',
    fix='read the values as an array: table["pixels"][i].values.to_numpy(), or open_table(path) of '
    "pytest_loaderperf.data",
    limits="Single numbers and strings, fewer than four a sample, are not reported.",
    find=_find,
)
