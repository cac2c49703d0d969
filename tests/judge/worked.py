"""As simulation.py, for loaders with workers: what RatioTest makes of rounds and of ratios of work. No clock.

``python -m tests.judge.worked`` prints the tables of docs/simulation.md on work.

A claim has one ratio of work a round here. Noise is Gaussian in the log ratios, whose standard deviations are given.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pytest_loaderperf.judge.ratio import AGREE_ALPHA, FAVOUR, FEWEST_SUMS, HIDDEN, HIDDEN_ALPHA
from tests.judge.noise import SEED
from tests.judge.simulation import (
    FIRST_SHARE,
    THRESHOLD,
    evidence,
    fails,
    first_looks,
    first_settled,
    percent,
    table,
    until,
)

CLAIMS = 10_000
ROUNDS = 150
PASS_WITHIN = (30, 60, 100, 150)
WORK_SPREADS = (0.02, 0.05)
WALL_SPREADS = (0.1, 0.2, 0.3)
HAND_OVER_SPREADS = (0.1, 0.15, 0.2, 0.3)
HAND_OVERS = (0.96, 0.95, 0.93, 0.9, 0.87, 0.85, 0.8, 0.7, 0.6)
EFFECTS = (0.02, 0.05, 0.1, 0.5)  # slower than allowed


@dataclass(frozen=True)
class Loader:
    """True ratios of throughput and of work, and the spreads of what is measured of them."""

    wall: float
    work: float
    wall_spread: float
    work_spread: float = WORK_SPREADS[1]

    def rounds(self, claims: int = CLAIMS, rounds: int = ROUNDS) -> np.ndarray:
        """Log ratios (2, claims, rounds): of sums, and of work."""
        rng = np.random.default_rng(SEED)
        sums = rng.normal(math.log(self.wall), self.wall_spread, (claims, rounds))
        return np.stack([sums, rng.normal(math.log(self.work), self.work_spread, (claims, rounds))])


def both(ratio: float, wall_spread: float, work_spread: float = WORK_SPREADS[1]) -> Loader:
    """A loader all of whose difference is in the work."""
    return Loader(ratio, ratio, wall_spread, work_spread)


def worked_looks(rounds, needed, alpha, *, strict=False):
    """As ``first_looks`` of an at-least claim, by a RatioTest at each of ``rounds`` (2, claims, rounds).

    ``strict`` is a rule that was not taken: work passes after 30 rounds whose sums make PASS twice as likely as noise.
    """
    enough = 2 / alpha
    sums_pass, sums_fail = evidence(rounds[0], needed)
    work_pass, work_fail = evidence(rounds[1], needed, obvious=False)  # work is measured in short pieces
    hidden, _ = evidence(rounds[0], needed * HIDDEN)
    n = np.arange(1, rounds.shape[2] + 1)
    over = (rounds[0] > math.log(needed)).cumsum(axis=1) - (rounds[0] < math.log(needed)).cumsum(axis=1)
    agreed = (hidden >= min(enough, 1 / HIDDEN_ALPHA)) & (sums_pass >= FAVOUR * sums_fail) & (over > 0)
    if strict:
        agreed = (sums_pass >= 1 / AGREE_ALPHA) & (over > 0) & (n >= 30)
    opposed = (sums_pass >= 1 / AGREE_ALPHA) | (n < FEWEST_SUMS)
    return (
        first_settled((sums_pass >= enough) | ((work_pass >= enough) & agreed)),
        first_settled((sums_fail >= enough) | ((work_fail >= enough) & ~opposed)),
    )


def passes(loader: Loader, claims: int = CLAIMS, *, strict: bool = False) -> np.ndarray:
    """The number of rounds at which each claim passes; ROUNDS + 1: it does not."""
    passed, failed = worked_looks(loader.rounds(claims), THRESHOLD, FIRST_SHARE, strict=strict)
    return np.where(passed < failed, passed, ROUNDS + 1)


def slower(effect: float, wall_spread: float, work_spread: float = WORK_SPREADS[1], claims: int = 2000):
    """Rounds at which claims fail whose loader is ``effect`` slower than allowed; by both, and by the sums alone."""
    rounds = both(THRESHOLD * (1 - effect), wall_spread, work_spread).rounds(claims)
    by_both, by_sums = worked_looks(rounds, THRESHOLD, FIRST_SHARE), first_looks(rounds[0], THRESHOLD, FIRST_SHARE)
    return fails(by_both, ROUNDS), fails(by_sums, ROUNDS)


def _same_rows() -> Iterator[str]:
    for work_spread in WORK_SPREADS:
        for wall_spread in WALL_SPREADS:
            loader = both(1.0, wall_spread, work_spread)
            passed, failed = worked_looks(loader.rounds(), THRESHOLD, FIRST_SHARE)
            at_once = [percent(((passed < failed) & (passed <= most)).mean()) for most in PASS_WITHIN]
            by_sums, _ = first_looks(loader.rounds()[0], THRESHOLD, FIRST_SHARE)
            others = [percent((looks <= ROUNDS).mean()) for looks in (passes(loader, strict=True), by_sums)]
            cells = [percent((failed < passed).mean()), *at_once, *others]
            yield f"| {work_spread:g} | {wall_spread:g} | {' | '.join(cells)} |"


def _hand_over_rows() -> Iterator[str]:
    for ratio in HAND_OVERS:
        loaders = [Loader(ratio, 1.0, spread) for spread in HAND_OVER_SPREADS]
        rates = [(passes(loader, strict=strict) <= ROUNDS).mean() for strict in (False, True) for loader in loaders]
        yield f"| {ratio:g} | {' | '.join(map(percent, rates))} |"


def _slower_rows() -> Iterator[str]:
    for effect in EFFECTS:
        cells = []
        for work_spread, wall_spread in [(0.02, 0.1), (0.05, 0.1), (0.05, 0.3)]:
            by_both, by_sums = slower(effect, wall_spread, work_spread)
            caught = percent((by_both <= ROUNDS).mean())
            cells.append(f"{caught} | {until(by_both, ROUNDS)} ({until(by_sums, ROUNDS)})")
        yield f"| {percent(effect)} | {' | '.join(cells)} |"


def main() -> None:
    """Print all tables."""
    within = " | ".join(f"PASS in {most}" for most in PASS_WITHIN)
    spreads = " | ".join(f"{by}: {spread:g}" for by in ("spread", "strict") for spread in HAND_OVER_SPREADS)
    columns = " | ".join(
        f"work {work}, rounds {wall}: caught | rounds (by sums)"
        for work, wall in [(0.02, 0.1), (0.05, 0.1), (0.05, 0.3)]
    )
    tables = [
        table(f"| spread of work | of rounds | FAIL | {within} | strict, in {ROUNDS} | by sums alone |", _same_rows()),
        table(f"| true ratio of rounds | {spreads} |", _hand_over_rows()),
        table(f"| slower than allowed by | {columns} |", _slower_rows()),
    ]
    sys.stdout.write("\n".join(tables))


if __name__ == "__main__":
    main()
