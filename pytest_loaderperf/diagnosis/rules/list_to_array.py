"""Python lists of numbers that become arrays for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import last_name, often_text, plain, regular, rewritten_ns

_MAKES = frozenset(
    "tensor as_tensor array asarray asanyarray FloatTensor LongTensor IntTensor DoubleTensor Tensor".split()
)
_SHARE = 0.02  # of the time
_ITEMS = 16  # numbers a sample, from which an array is worth it


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        listed = site.argument
        made = last_name(site.callee) in _MAKES and site.callee.startswith(("torch", "numpy"))
        numbers = listed.items * site.count / max(1, ledger.samples)
        arrays = listed.type in ("list", "tuple") and listed.nbytes > 0 and site.callee == "torch.tensor"
        indices = site.function.endswith("__getitems__") and listed.items <= (ledger.loader.batch_size or 0)
        worth = share_of_time(ledger, site) >= _SHARE and not indices
        if worth and made and (arrays or (listed.numbers and numbers >= _ITEMS)) and site.result.items > 1:
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} reads a Python list of {listed.items:,} "
                f"{'arrays, element by element' if arrays else 'numbers'}, "
                f"{often_text(times)} a {unit}",
                site.file,
                site.line,
                site.function,
                times,
                f"lists a {unit}",
                "join the arrays first: torch.from_numpy(np.stack(arrays))" if arrays else RULE.fix,
                predicted(ledger, rewritten_ns(ledger, site), site),
                callee=site.callee,
            )


RULE = Rule(
    id="list-to-array",
    reason="A list is read element by element, and each element is a Python object.",
    example="def __getitem__(self, i):\n    return torch.tensor(self.rows[i])  # rows: lists of floats",
    fix="keep the data as one array from the start: self.rows = torch.tensor(rows) in __init__",
    limits="Lists of fewer than 16 numbers a sample are not reported.",
    find=_find,
    yields_to=("arrow-to-python", "element-by-element", "repeated-work"),
)
