"""How rules read a ledger: how often something happened, and which sites are calls of a name."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.ledger import Event, Ledger, Site

HALF = 0.5
POOLS = ("Executor", "Pool")  # the ends of names of what owns threads or processes
_FEWEST = 4  # times: less may be a start
_NAMES = "Add Sub Mult Div FloorDiv Mod Pow BitAnd BitOr Eq NotEq Lt LtE Gt GtE In".split()
_SYMBOLS = dict(zip(_NAMES, "+ - * / // % ** & | == != < <= > >= in".split(), strict=True)) | {"NotIn": "not in"}


def often(ledger: Ledger, count: int) -> tuple[float, str]:
    """``count`` of the counting pass as times a sample, a batch or an epoch: the first of them that has one at least.

    (0, "") if it happened less than every second batch.
    """
    if count < _FEWEST:
        return 0.0, ""
    if count >= HALF * max(1, ledger.samples):
        return count / max(1, ledger.samples), "sample"
    if count >= HALF * max(1, ledger.batches):
        return count / max(1, ledger.batches), "batch"
    return 0.0, ""


def regular(ledger: Ledger) -> Iterator[tuple[Site, float, str]]:
    """Sites that are reached once for every sample or batch, with how often."""
    for site in ledger.sites:
        times, unit = often(ledger, site.count)
        if unit:
            yield site, times, unit


def last_name(callee: str) -> str:
    """``tensor`` of ``torch.tensor``."""
    return callee.rpartition(".")[2]


def per(count: float) -> str:
    """A number of times as text: whole numbers without decimals."""
    return f"{count:,.0f}" if abs(count - round(count)) < 0.05 else f"{count:,.1f}"  # noqa: PLR2004 said beside it


def often_text(count: float) -> str:
    """How often, in words: ``once``, ``5.2 times``."""
    said = per(count)
    return "once" if said == "1" else f"{said} times"


def growth_text(site: Site) -> str:
    """How its time grows with its size, in words; "" if that is not known, or it does not."""
    return f"; its time grows with size to the power {site.exponent:.1f}" if site.exponent >= HALF else ""


def callers(ledger: Ledger, inner: Site | Event) -> list[Site]:
    """Other sites in the same function as ``inner``."""
    return [site for site in ledger.sites if (site.file, site.function) == (inner.file, inner.function)]


def plain(callee: str) -> str:
    """A callee as a user writes it."""
    if callee in _SYMBOLS:
        return f"the operator {_SYMBOLS[callee]}"
    name = "open" if callee == "io.open" else callee.removeprefix("builtins.")
    return f"{name.removesuffix('.__getitem__')}[...]" if name.endswith(".__getitem__") else f"{name}()"


def function_ns(ledger: Ledger, site: Site) -> float:
    """Time of all calls of the function that ``site`` is in, as far as it is known; 0 if it is not."""
    name = last_name(site.function.removesuffix(".<locals>").removesuffix(".__init__"))  # or the class that is made
    calls = sum(one.total_ns for one in ledger.sites if one.user and last_name(one.callee) == name)
    if name in ("__getitem__", "__getitems__"):
        return float(max(calls, ledger.counted_ns.get("fetch", 0)))
    if site.file == ledger.loader.collate_file and not calls:
        return float(ledger.counted_ns.get("collate", 0))
    return float(calls)


def rewritten_ns(ledger: Ledger, site: Site) -> float:
    """Time that an array operation in place of ``site`` and what it feeds would save: most of its function's."""
    stays = [one for one in callers(ledger, site) if _is_of_arrays(one) or _reads(one)]
    return max(float(site.total_ns), function_ns(ledger, site) - sum(one.own_ns for one in stays))


def _is_of_arrays(site: Site) -> bool:
    """Whether a call is an array operation already: not one that makes an array of single numbers, or takes one out."""
    return bool(site.result.dtype) and not site.argument.numbers and (site.result.items > 1 or site.argument.items <= 1)


def _reads(site: Site) -> bool:
    """Whether a call opens a file, or gives text or bytes, which are no numbers yet."""
    return site.path_calls > 0 or site.result.type in ("str", "bytes")
