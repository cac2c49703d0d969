"""How a run measures, and the false-alarm budget that its claims share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_loaderperf.defaults import (
    DEFAULT_ALPHA,
    DEFAULT_BUDGET_SECONDS,
    DEFAULT_DEVICE,
    DEFAULT_MAX_BUDGET_SECONDS,
    DEFAULT_POLICY,
    DEFAULT_TIMEOUT_SECONDS,
    POLICIES,
)
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.judge import claim_alpha

if TYPE_CHECKING:
    from pytest_loaderperf.ranks.link import Link


def no_base() -> NoReturn:
    """There is no base outside pytest."""
    raise ClaimError(
        "run.base is the same test at another commit: run it by pytest --loaderperf --loaderperf-base=REF. "
        "In a script, measure(a, against=b) and compare with run.against."
    )


@dataclass(frozen=True, slots=True)
class Options:
    """How a run measures. ``next_alpha`` hands out the false-alarm share of each claim.

    ``max_budget_seconds`` is the budget if the 95 % interval does not contain the threshold when ``budget`` ends.
    ``inconclusive`` is what an undecided claim counts as: "pass", "fail" or "leaning".
    ``link``: to the other ranks of the job, if this is one of several.
    ``progress`` is called with a text on what is measured, ``abandon`` with a report before the process must end, and
    ``on_close`` with the run before it releases its loaders. ``make_base`` makes the side to compare with. ``silent``:
    rules of the doctor that must not fire.
    """

    budget_seconds: float = DEFAULT_BUDGET_SECONDS
    device: str = DEFAULT_DEVICE
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    next_alpha: Callable[[], float] = field(default_factory=lambda: alpha_shares(DEFAULT_ALPHA))
    progress: Callable[[str], None] = lambda text: None
    abandon: Callable[[str], None] = lambda report: None
    on_close: Callable[[Any], None] = lambda run: None
    make_base: Callable[[], Any] = no_base
    max_budget_seconds: float = DEFAULT_MAX_BUDGET_SECONDS
    inconclusive: str = DEFAULT_POLICY
    silent: tuple[str, ...] = ()
    link: Link | None = None

    @property
    def there(self) -> dict[str, Any]:
        """The options that another process needs, as keyword arguments."""
        return {"device": self.device, "timeout_s": self.timeout_seconds}

    def __post_init__(self) -> None:
        if self.inconclusive not in POLICIES:
            raise ClaimError(f"inconclusive: expected one of {', '.join(POLICIES)}, got {self.inconclusive!r}.")


def max_budget_for(
    budget_seconds: float, max_seconds: float, what: str, default_seconds: float = DEFAULT_MAX_BUDGET_SECONDS
) -> float:
    """``max_seconds``; its default grows with the budget. Raises ClaimError if the budget exceeds a given one."""
    if max_seconds < budget_seconds and max_seconds != default_seconds:
        raise ClaimError(
            f"{what}: expected at least the budget of {budget_seconds:g} s, got {max_seconds:g} s. "
            "Raise it, or lower the budget."
        )
    return max(max_seconds, budget_seconds)


def alpha_shares(alpha: float) -> Callable[[], float]:
    """A function that gives each claim of a run, in turn, its share of ``alpha``."""
    spent = iter(range(1 << 62))
    return lambda: claim_alpha(alpha, next(spent))


def known_rules(names: object) -> tuple[str, ...]:
    """Ids of the doctor's rules, from a list of them. Raises ClaimError for others."""
    if not names:
        return ()
    from pytest_loaderperf.diagnosis import RULES

    known = [rule.id for rule in RULES]
    found = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else [names]
    if unknown := [name for name in found if name not in known]:
        raise ClaimError(f"the marker's silent: expected rules among {', '.join(known)}, got {unknown!r}.")
    return tuple(map(str, found))
