"""Arrays that become float64 and then float32 again."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import last_name, often_text, plain, regular

_WIDE = "float64"
_NARROW = ("float32", "float16", "bfloat16", "uint8", "int32", "int16")
_ITEMS = 256  # of an array, from which it is worth a line


def _dtype(site: Site) -> str:
    """The type of what goes in: of the larger of its arguments."""
    return site.largest.dtype or site.argument.dtype


def _is_of_narrow(site: Site) -> bool:
    """Whether no argument is float64, or only one that is smaller than what is computed: a mean of each channel."""
    wide = {_WIDE, "int64"} & set(site.dtypes)
    larger = site.largest.dtype in _NARROW and site.largest.items == site.result.items
    return bool(site.dtypes) and (not wide or (wide == {_WIDE} and larger))


def _fix(site: Site) -> str:
    if _WIDE in site.dtypes:
        return "keep the constants in float32 as well: self.mean = np.asarray(mean, dtype=np.float32), once"
    if last_name(site.callee) == "double":
        return "leave .double() out, or write .float()"
    if site.kind == "operator" or last_name(site.callee) in ("divide", "true_divide", "subtract", "multiply", "add"):
        return RULE.fix
    return "convert to float32 at once: np.asarray(x, dtype=np.float32), x.astype(np.float32)"


def _find(ledger: Ledger) -> Iterator[Finding]:
    sites = [entry for entry in regular(ledger) if entry[0].result.items >= _ITEMS and entry[0].kind != "loop"]
    narrows = [site for site, _, _ in sites if _dtype(site) == _WIDE and site.result.dtype in _NARROW]
    for site, times, unit in sites:
        back = [other for other in narrows if (other.in_workers > 0) == (site.in_workers > 0)]
        if not back:
            continue  # or the array crosses processes in between: large-hand-over
        if site.result.dtype == _WIDE and _is_of_narrow(site) and not site.user:
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} makes float64 of {' and '.join(site.dtypes)}, and line "
                f"{back[0].line} makes {back[0].result.dtype} of it: {often_text(times)} a {unit}",
                site.file,
                site.line,
                site.function,
                times,
                f"arrays a {unit}",
                _fix(site),
                predicted(ledger, site.total_ns / 2 + sum(other.total_ns for other in back)),
                callee=site.callee,
            )


RULE = Rule(
    id="float64-round-trip",
    reason="float64 doubles the memory that every step reads and writes, and the result is rounded in the end.",
    example="image = self.images[i] / 255.0  # uint8 / float gives float64\nreturn image.astype(np.float32)",
    fix="compute in float32 from the start: self.images[i].astype(np.float32) / np.float32(255)",
    limits="Only conversions and operators in the user's own lines are seen.",
    find=_find,
)
