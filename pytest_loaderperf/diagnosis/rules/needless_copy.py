"""Copies of arrays that nothing modifies afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, last_name, often_text, plain, regular

_ARRAYS = ("Tensor", "ndarray", "memmap")
_NBYTES = 1024  # of a copy, from which it is worth a line
_SHARE, _BATCH_SHARE = 0.01, 0.05  # of the time, for copies of samples and of whole batches
_DOES = {
    "tensor": "use torch.from_numpy(array), or torch.as_tensor(array): they share its memory",
    "array": "use np.asarray(array): it copies only if it must",
    "astype": "leave it out: it copies also where the type is the same; or astype(dtype, copy=False)",
    "contiguous": "leave it out: collate copies the sample into the batch anyway, in any layout",
    "ascontiguousarray": "leave it out: collate copies the sample into the batch anyway, in any layout",
    "deepcopy": "return the sample itself: collate copies it into the batch",
    "asdict": "take the fields as they are: {field.name: getattr(x, field.name) for field in fields(x)}",
    "astuple": "take the fields as they are: tuple(getattr(x, field.name) for field in fields(x))",
    "copy": "leave it out: collate copies the sample into the batch",
    "clone": "leave it out: collate copies the sample into the batch",
}


def _is_needless(site: Site) -> bool:
    name, source = last_name(site.callee), site.argument
    if name not in _DOES or not site.checked or site.kept < site.checked or site.aliases > HALF * site.looked_at:
        return False
    if name in ("deepcopy", "asdict", "astuple"):
        return site.growing < HALF * site.looked_at
    if source.type not in _ARRAYS or not source.shareable or source.dtype != site.result.dtype:
        return False
    return site.result.nbytes >= _NBYTES and (
        not name.endswith(("contiguous", "contiguousarray")) or not source.contiguous
    )


def _find(ledger: Ledger) -> Iterator[Finding]:
    for site, times, unit in regular(ledger):
        worth = share_of_time(ledger, site) >= (_SHARE if unit == "sample" else _BATCH_SHARE)
        if worth and _is_needless(site):
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} copies what nothing modifies afterwards: {often_text(times)} a {unit}, "
                f"{site.result.nbytes:,} bytes each"
                if site.result.nbytes
                else f"{plain(site.callee)} copies what nothing modifies afterwards: {often_text(times)} a {unit}",
                site.file,
                site.line,
                site.function,
                times,
                f"copies a {unit}",
                _DOES[last_name(site.callee)],
                predicted(ledger, site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="needless-copy",
    reason="Collate copies every sample into the batch. A copy before that only costs time and memory.",
    example="def __getitem__(self, i):\n    return torch.tensor(self.rows[i])  # rows: a NumPy array",
    fix="share the memory: torch.from_numpy(self.rows[i])",
    limits="Copies of read-only arrays are not reported. The first eight copies of a line are watched.",
    find=_find,
    yields_to=("repeated-work", "snapshot-per-batch", "float64-round-trip", "large-hand-over"),
)
