"""How a run measures, and the false-alarm budget that its claims share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.judge import claim_alpha
from pytest_loaderperf.measurement import DEFAULT_TIMEOUT_SECONDS

DEFAULT_BUDGET_SECONDS = 10.0
DEFAULT_ALPHA = 0.001


def no_base() -> NoReturn:
    """There is no base outside pytest."""
    raise ClaimError(
        "run.base is the same test at another commit: run it by pytest --loaderperf --loaderperf-base=REF. "
        "In a script, measure(a, against=b) and compare with run.against."
    )


@dataclass(frozen=True, slots=True)
class Options:
    """How a run measures. ``next_alpha`` hands out the false-alarm share of each claim.

    ``progress`` is told what is measured; ``abandon``, with a report, that the process must end; ``on_close``, with the
    run, that it is about to release what it measured; ``make_base`` makes the side to pair with.
    """

    budget_seconds: float = DEFAULT_BUDGET_SECONDS
    device: str = "cpu"
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    next_alpha: Callable[[], float] = field(default_factory=lambda: alpha_shares(DEFAULT_ALPHA))
    progress: Callable[[str], None] = lambda text: None
    abandon: Callable[[str], None] = lambda report: None
    on_close: Callable[[Any], None] = lambda run: None
    make_base: Callable[[], Any] = no_base


def alpha_shares(alpha: float) -> Callable[[], float]:
    """A function that gives each claim of a run, in turn, its share of ``alpha``."""
    spent = iter(range(1 << 62))
    return lambda: claim_alpha(alpha, next(spent))
