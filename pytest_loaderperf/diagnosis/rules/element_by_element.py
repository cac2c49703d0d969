"""Arrays that Python reads one element at a time."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import last_name, often_text, per, plain, regular, rewritten_ns

_ARRAYS = ("torch.Tensor", "numpy.ndarray")
_SINGLE = frozenset(["item", "float", "int", "bool"])
_CALLS = 4  # of .item(), a sample
_ELEMENTS = 16  # a sample, from which an array operation is worth it


def _is_single(site: Site, per_sample: float) -> bool:
    """Whether a site takes single elements out of an array, or makes a list of all."""
    name, listed = last_name(site.callee), site.argument.type in ("Tensor", "ndarray")
    if site.kind == "loop":
        return listed and site.argument.dims == 1 and site.argument.items * per_sample >= _ELEMENTS
    if name == "tolist":
        return site.callee.startswith(_ARRAYS) and site.result.items * per_sample >= _ELEMENTS
    if name in _SINGLE:
        return (site.callee.startswith(_ARRAYS) or listed) and site.argument.items <= 1 and per_sample >= _CALLS
    if site.kind == "item":
        return site.callee.startswith(_ARRAYS) and site.result.items <= 1 and per_sample >= _ELEMENTS
    return False


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        per_sample = site.count / max(1, ledger.samples)
        if not _is_single(site, per_sample):
            continue
        many = site.kind == "loop" or last_name(site.callee) == "tolist"
        elements = site.argument.items if many else times
        what = "a loop" if site.kind == "loop" else plain(site.callee)
        yield Finding(
            RULE.id,
            f"{what} takes elements of an array one by one: {per(elements)} a {'time' if many else unit}, "
            f"{often_text(times)} a {unit}"
            if many
            else f"{what} takes single elements of an array: {per(times)} a {unit}",
            site.file,
            site.line,
            site.function,
            times,
            f"{'arrays' if many else 'elements'} a {unit}",
            RULE.fix,
            predicted(ledger, rewritten_ns(ledger, site), site),
        )


RULE = Rule(
    id="element-by-element",
    reason="Each element becomes a Python object or a tensor of its own; one array operation does all of them in C.",
    example="def __getitem__(self, i):\n    return torch.tensor([x.item() / 255 for x in self.rows[i]])",
    fix="use one operation on the whole array: self.rows[i] / 255",
    limits="Loops over Python lists are not reported.",
    find=_find,
    yields_to=("arrow-to-python",),
)
