"""Python lists of numbers that become arrays for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, last_name, often_text, plain, regular, rewritten_ns

_MAKES = frozenset(
    "tensor as_tensor array asarray asanyarray FloatTensor LongTensor IntTensor DoubleTensor Tensor".split()
)
_PARSES = ("loads", "literal_eval", "eval")  # a list that they read is numbers already; a record may be a text's
_SHARE = 0.02  # of the time
_ITEMS = 16  # numbers a sample, from which an array is worth it


def _is_of_text(ledger: Ledger, site: Site) -> bool:
    """Whether the numbers are likely those of words: something splits or encodes a text for each sample."""
    whole = site.result.dtype.startswith(("int", "uint"))
    for one in ledger.sites if whole else ():
        parses = last_name(one.callee) in _PARSES
        encodes = one.argument.type in ("str", "bytes") and (
            one.result.type == "dict" if parses else one.result.numbers
        )
        if one.count >= HALF * ledger.samples and (encodes or (one.kind == "loop" and one.argument.texts)):
            return True
    return False


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        listed = site.argument
        made = last_name(site.callee) in _MAKES and site.callee.startswith(("torch", "numpy"))
        numbers = listed.items * site.count / max(1, ledger.samples)
        arrays = listed.type in ("list", "tuple") and listed.nbytes > 0 and site.callee == "torch.tensor"
        indices = site.function.endswith("__getitems__") and listed.items <= (ledger.loader.batch_size or 0)
        worth = share_of_time(ledger, site) >= _SHARE and not indices and not _is_of_text(ledger, site)
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
    limits="Lists of fewer than 16 numbers a sample, and numbers of words in a text, are not reported.",
    find=_find,
    yields_to=("arrow-to-python", "element-by-element", "repeated-work", "scan-per-item"),
)
