"""Work whose result is the same for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import last_name, often_text, plain, regular

_SHARE = 0.05  # of a sample's time, from which it is worth a line
_NS = 10_000  # of a call
_KNOWN = 0.9  # of the calls that were seen
_FEWEST = 4  # results that were compared
_SIZE = 64  # bytes or elements of a result that is the same whatever the arguments are
_SEVERAL = 2  # calls an epoch with the same arguments
_HOLDERS = frozenset(  # in which a subscript only finds what is there
    "list tuple dict str bytes Size OrderedDict defaultdict deque DataFrame Series".split()
)
_EACH = "do it once for each, in __init__ or by functools.cache, and keep the results"
_OWN = 0.5  # of a function's time that its own statements take, not calls inside it
_MAKES = frozenset(  # they must give a new object each time
    (
        "zeros ones empty full zeros_like ones_like empty_like full_like iter lock len range zip enumerate "
        "reversed isinstance hasattr getattr get sleep wait join start put acquire release collect list.append "
        "randperm permutation arange linspace partial Generator default_rng manual_seed seed Tensor "
        "deepcopy clone copy contiguous state_dict"
    ).split()
)


def _is_repeated(ledger: Ledger, site: Site) -> bool:
    if last_name(site.callee) in _MAKES or site.kind in ("loop", "with", "store") or site.path_calls:
        return False
    if site.kind == "item" and (site.aliases or site.argument.type in _HOLDERS):
        return False  # a view of what is kept, or the thing itself
    known = _are_known(ledger, site) and site.equal == site.compared >= _FEWEST
    size = max(site.result.nbytes, site.result.items, site.result.nested)
    alike = site.alike == site.looked_at > _FEWEST and size >= _SIZE and not ledger.constant
    return known or alike


def _are_known(ledger: Ledger, site: Site) -> bool:
    """Whether nearly all calls had arguments of earlier ones, but for the first call with each.

    Each epoch asks for all data again: that alone is no repetition.
    """
    first = site.distinct * site.processes
    several = site.keyed >= _SEVERAL * first * max(1, ledger.epochs)
    return site.known + first * several >= _KNOWN * site.keyed - 1


def _inside(ledger: Ledger, call: Site) -> list[Site]:
    """Sites in the user's function that ``call`` calls."""
    file, _, line = call.user.rpartition(":")
    name = last_name(call.callee)
    return [
        one
        for one in ledger.sites
        if one.file == file
        and one.line >= int(line)
        and (last_name(one.function) == name or one.function.startswith(f"{name}."))  # or it makes, or is, an object
    ]


def _costly(ledger: Ledger) -> Iterator[tuple[Site, float, str]]:
    for site, times, unit in regular(ledger):
        share = share_of_time(ledger, site)
        worth = share >= _SHARE and site.total_ns >= _NS * site.count
        if worth and (_is_repeated(ledger, site) or _makes_the_same(ledger, site)):
            yield site, times, unit


def _makes_the_same(ledger: Ledger, call: Site) -> bool:
    """Whether a call of the user's own code, such as of a class, gives what cannot be compared, of equal parts."""
    if not call.user or call.alike or call.compared or not _are_known(ledger, call):
        return False
    parts = sum(one.own_ns for one in _inside(ledger, call) if _is_repeated(ledger, one))
    return parts >= _OWN * call.total_ns


def _is_nearest(ledger: Ledger, call: Site) -> bool:
    """Whether a call of the user's own function is to be named, and not what takes most of its time inside it.

    Only a line whose results can be compared, or that opens a file, can be nearer.
    """
    if call.own_ns >= _OWN * call.total_ns:
        return True
    inside = _inside(ledger, call)
    nearer = (one for one in inside if one.total_ns >= _OWN * call.total_ns and (_is_line(one) or one.path_calls))
    return bool(inside) and not any(nearer)


def _is_line(site: Site) -> bool:
    """Whether a line is what to change: in ``__init__`` it is done once already, for each object that is made."""
    return site.alike > 0 and not site.function.endswith("__init__")


def _gives_several(site: Site) -> bool:
    return site.distinct > 1 and site.alike < site.looked_at and site.kind != "comprehension"


def _find(ledger: Ledger) -> Iterator[Finding]:
    found = [entry for entry in _costly(ledger) if not entry[0].user or _is_nearest(ledger, entry[0])]
    explained = [one for site, _, _ in found if site.user for one in _inside(ledger, site)]
    for site, times, unit in found:
        if site not in explained:
            several = _gives_several(site)
            given = f"one of {site.distinct} results" if several else "the same result"
            name = "this expression" if site.kind == "comprehension" else plain(site.callee)
            yield Finding(
                RULE.id,
                f"{name} gives {given} {often_text(times)} a {unit}, in {share_of_time(ledger, site):.0%} of the time",
                site.file,
                site.line,
                site.function,
                times,
                f"times a {unit}",
                _EACH if several else RULE.fix,
                predicted(ledger, site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="repeated-work",
    reason="Parsing, decoding, decompressing or building the same thing for every sample costs its time every time.",
    example='def __getitem__(self, i):\n    vocabulary = json.loads(self.text)["words"]',
    fix="do it once, in __init__ or on first use, and keep the result",
    limits="Results of unknown types cannot be compared. Only the first 64 calls of a line are compared in each "
    "process.",
    find=_find,
    yields_to=("read-amplification", "scan-per-item"),
)
