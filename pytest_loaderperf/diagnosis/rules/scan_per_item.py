"""Work that grows with the size of the dataset, done for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, callers, function_ns, last_name, often_text, plain, regular

_LISTS = ("list", "tuple")
_COMPARES = frozenset("Eq NotEq Lt LtE Gt GtE".split())
_SEARCHES = frozenset(
    (
        "index count remove where nonzero argwhere flatnonzero sorted sort argsort unique isin in1d min max sum "
        "any all eq ne lt le gt ge between choice list tuple set dict Counter filter map query shuffle groupby"
    ).split()
)
_MAKES = frozenset(["list", "tuple", "set", "dict", "Counter"])
_FINDS = frozenset(
    "eq ne __getitem__ where nonzero argwhere flatnonzero isin in1d filter query groupby get_group".split()
)
_BY_KEY = "group the rows once: rows = {key: np.flatnonzero(keys == key) for key in np.unique(keys)}"
_RANGES = frozenset("Lt LtE Gt GtE lt le gt ge between".split())
_BY_RANGE = "keep it sorted, and find both ends: low, high = np.searchsorted(keys, [first, last])"
_DRAW = "draw again what comes twice: rng.integers(n, size=k), or random.sample(range(n), k)"
_CHOICE_NS, _CHOICE_ELEMENT_NS = 100_000, 5  # of a choice that orders all elements, and of each: others take less
_ORDERS = frozenset(["randperm", "permutation", "sample", "shuffle"])
_SORTS = frozenset(["builtins.sorted", "list.sort"])  # of all that is left, for every batch
_LINEAR = frozenset(["tarfile.TarFile.getmember", "tarfile.TarFile.getnames"])
_BATCH_SHARE = 0.1  # of the time
_FEWEST = 4  # results that were compared
_LEAST = 256  # elements
_SHARE = 0.02  # of a sample's time


def _reads_all(site: Site, items: int, *, whole: bool) -> int:
    """How many elements a site reads each time, if it reads all of something that stays the same; else 0."""
    name, persistent = last_name(site.callee), site.same_operand >= HALF * max(1, site.looked_at - 1)
    if site.callee in _LINEAR:
        return max(items, site.largest.items)
    persistent = persistent or (whole and name in _SEARCHES - _MAKES and site.equal == site.compared >= _FEWEST)
    if name in _ORDERS and site.result.items >= items:
        return site.result.items
    if site.callee in ("In", "NotIn") and site.largest.type in _LISTS:
        items = _LEAST  # a set needs no search, however long the list is
    if not persistent or site.largest.items < items:
        return 0
    if name == "choice" and site.total_ns < site.count * max(_CHOICE_NS, _CHOICE_ELEMENT_NS * site.largest.items):
        return 0
    if site.kind == "loop":
        reads = site.largest.type in (*_LISTS, "ndarray", "dict", "set")
    elif site.callee in ("In", "NotIn"):
        reads = site.largest.type in (*_LISTS, "ndarray", "Tensor")
    elif site.kind == "item":  # rows of a table by a mask
        reads = site.callee.startswith("pandas") and "bool" in site.dtypes
    else:
        reads = site.scans >= HALF * site.looked_at and (site.callee in _COMPARES or name in _SEARCHES)
    return site.largest.items if reads else 0


def _beside(ledger: Ledger, loop: Site) -> list[Site]:
    """What runs a loop inside an expression: its comprehension, or the call that gets its generator."""
    return [
        site
        for site in callers(ledger, loop)
        if site.line == loop.line and (site.kind == "comprehension" or site.argument.type == "generator")
    ]


def _is_repeated(ledger: Ledger, loop: Site) -> bool:
    """Whether what the loop makes is the same each time: then nothing is searched."""
    return any(site.alike == site.looked_at > _FEWEST and not ledger.constant for site in _beside(ledger, loop))


def _loop_ns(ledger: Ledger, loop: Site) -> float:
    """Time of a loop; of a statement, what the function takes in no other line, and in lines that it repeats."""
    if beside := _beside(ledger, loop):
        return max(site.total_ns for site in beside)
    others = [one for one in callers(ledger, loop) if one.count <= loop.count]
    return max(0.0, function_ns(ledger, loop) - sum(one.own_ns for one in others))


def _is_of_all_keys(ledger: Ledger, site: Site) -> bool:
    """Whether it reads one thing for each sample, made again each time, and is what its function mostly repeats."""
    rows = ledger.loader.dataset_items or 0
    others = [one.total_ns for one in callers(ledger, site) if one.equal == one.compared >= _FEWEST and not one.user]
    return HALF * rows <= site.largest.items <= 2 * rows and site.total_ns >= HALF * max(others, default=0)


def _fix(site: Site) -> str:
    name = last_name(site.callee)
    if name == "choice":
        return _DRAW
    if name in _RANGES:
        return _BY_RANGE
    if site.callee in _COMPARES or name in _FINDS:
        return _BY_KEY
    if site.callee in ("In", "NotIn"):
        return "keep a set beside it, and ask that: seen = set(...)"
    return "build it once, in __init__, and keep it" if name in _MAKES | {"unique", "sorted"} else RULE.fix


def _find(ledger: Ledger) -> Iterator[Finding]:
    least = max(_LEAST, int(HALF * (ledger.loader.dataset_items or 0)))
    for site, times, unit in regular(ledger):
        elements = _reads_all(site, least, whole=_is_of_all_keys(ledger, site))
        if unit == "batch" and share_of_time(ledger, site) >= _BATCH_SHARE and site.callee in _SORTS:
            elements = site.largest.items if ledger.loader.dataset_items and site.largest.items >= least else 0
        share = share_of_time(ledger, site)
        if site.kind == "loop" and _is_repeated(ledger, site):
            continue
        if elements and (unit == "sample" or site.callee in _SORTS) and (share >= _SHARE or site.kind == "loop"):
            what = {"loop": "a loop", "operator": "a comparison"}.get(site.kind, plain(site.callee))
            yield Finding(
                RULE.id,
                f"{what} goes through {elements:,} elements, {often_text(times)} a {unit}: time grows with the dataset",
                site.file,
                site.line,
                site.function,
                times,
                f"scans a {unit}",
                _fix(site),
                predicted(ledger, _loop_ns(ledger, site) if site.kind == "loop" else site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="scan-per-item",
    reason="A search through all of the data for each sample makes an epoch's time grow with the square of its size.",
    example="def __getitem__(self, i):\n    return self.rows[self.names.index(self.order[i])]",
    fix="build a dict or a sorted index once: self.position = {name: n for n, name in enumerate(names)}",
    limits="Searches inside a library are seen by the size of what they are called with.",
    find=_find,
    yields_to=("read-amplification",),
)
