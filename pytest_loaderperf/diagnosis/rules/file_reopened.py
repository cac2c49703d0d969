"""Files that are opened again for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted
from pytest_loaderperf.diagnosis.ledger import Event, Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import callers, function_ns, last_name, often, often_text, plain

_READERS = frozenset(
    (
        "read_csv read_json read_parquet read_excel read_table read_feather read_pickle imread loadtxt genfromtxt "
        "read_bytes read_text fromfile"
    ).split()
)
_STREAMS = frozenset(
    (
        "open io.open codecs.open gzip.open bz2.open lzma.open pathlib.Path.open pyarrow.memory_map pyarrow.OSFile "
        "pyarrow.input_stream"
    ).split()
)
_PARTLY = frozenset("seek setpos pread write writelines print dump savetxt".split())  # not read from its start
_READ, _RECORDS, _OPEN = (
    "read it once, in __init__, and keep what was read",
    "read it once, and keep what was read, or where each record starts: file.seek(starts[i])",
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


def _is_read_from_its_start(ledger: Ledger, opening: Site) -> bool:
    """Whether what takes long is likely to read it, not to open it."""
    around = callers(ledger, opening)
    return opening.callee in _STREAMS and not any(last_name(site.callee) in _PARTLY for site in around)


def _reading_ns(ledger: Ledger, opening: Site) -> float:
    """Time of its function, but for the arrays that it makes of what was read."""
    arrays = sum(one.own_ns for one in callers(ledger, opening) if one.result.dtype)
    return max(float(opening.total_ns), function_ns(ledger, opening) - arrays)


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
        longest = max(opening, key=lambda site: site.total_ns, default=None)
        reads = longest is not None and _is_read_from_its_start(ledger, longest)
        callee = longest.callee if longest is not None else ""
        spent_ns = longest.total_ns if longest is not None else 0
        name = plain(callee) if callee else "open()"
        yield Finding(
            RULE.id,
            f"{name} opens the same {'file' if files == 1 else f'{files} files'} again: {often_text(times)} a {unit}",
            place.file,
            place.line,
            place.function,
            times,
            f"opens a {unit}",
            _RECORDS if reads else _fix(callee),
            predicted(ledger, _reading_ns(ledger, longest) if longest is not None and reads else spent_ns),
            callee="" if reads else callee,  # to keep it open would not be the fix
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
