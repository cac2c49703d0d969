"""Files that are opened again for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Event, Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import last_name, often, often_text, plain

_READERS = frozenset(
    (
        "read_csv read_json read_parquet read_excel read_table read_feather read_pickle imread loadtxt genfromtxt "
        "read_bytes read_text fromfile"
    ).split()
)
_READ, _OPEN = (
    "read it once, in __init__, and keep what was read",
    "open it once, on first use in each process, and keep it",
)
_REPEATS = 1.5  # opens of a file in an epoch, from which they are too many


def _again(ledger: Ledger, opens: int, files: int) -> bool:
    """Whether the same files are opened several times an epoch."""
    processes = max(1, ledger.loader.num_workers) * max(1, ledger.epochs)
    return files > 0 and opens > _REPEATS * files * processes


def lines(ledger: Ledger) -> Iterator[tuple[Event | Site, int, int, list[Site]]]:
    """Lines that open files again: the event or call, its opens, its files, and the calls of that line."""
    for event in ledger.events:
        if event.kind == "open" and _again(ledger, event.count, event.distinct):
            at = [site for site in ledger.sites if (site.file, site.line) == (event.file, event.line) and not site.user]
            yield event, event.count, event.distinct, at
    heard = {(event.file, event.line) for event in ledger.events if event.kind == "open"}
    for site in ledger.sites:
        if (site.file, site.line) in heard or site.user or site.kind != "call":
            continue
        if _again(ledger, site.path_calls, site.paths):
            yield site, site.path_calls, site.paths, [site]


def _fix(callee: str) -> str:
    if last_name(callee) in _READERS:
        return _READ
    return RULE.fix if callee.startswith("numpy.") else _OPEN


def _find(ledger: Ledger) -> Iterator[Finding]:
    for place, opens, files, calls in lines(ledger):
        times, unit = often(ledger, opens)
        opening = [site for site in calls if site.kind == "call" and site.path_calls]
        if not unit or (calls and not opening):
            continue  # a subscript or a method that reads what is open: read-amplification
        callee = max(opening, key=lambda site: site.total_ns).callee if opening else ""
        name = plain(callee) if callee else "open()"
        yield Finding(
            RULE.id,
            f"{name} opens the same {'file' if files == 1 else f'{files} files'} again: {often_text(times)} a {unit}",
            place.file,
            place.line,
            place.function,
            times,
            f"opens a {unit}",
            _fix(callee),
            predicted(ledger, max((site.total_ns for site in opening), default=0)),
            callee=callee,
        )


RULE = Rule(
    id="file-reopened",
    reason="Opening a file reads its header, its index or its footer again, which costs more than one sample.",
    example="def __getitem__(self, i):\n    return np.load(self.path)[i]",
    fix=f"{_OPEN} (for arrays: np.load(path, mmap_mode='r'))",
    limits="A file that is opened under a name that is no argument of a call in the user's code, by a library "
    "in C, is not seen.",
    find=_find,
)
