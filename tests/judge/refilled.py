"""As simulation.py, for loaders that take turns of refills: what RatioTest makes of trials and of refills. No clock.

``python -m tests.judge.refilled`` prints the tables of docs/simulation.md on refills.

A claim has one trial's sums and one round of refills a round here. Noise is Gaussian in the log ratios.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from pytest_loaderperf.judge import AGREE_ALPHA
from tests.judge.noise import SEED
from tests.judge.simulation import FIRST_SHARE, THRESHOLD, evidence, first_settled, percent, table, until

CLAIMS, ROUNDS = 10_000, 100
CPU_SPREAD = 0.02
SPREADS = ((0.1, 0.02), (0.1, 0.05), (0.2, 0.15))  # of sums, and of refills by the clock
EFFECTS = (0.02, 0.05, 0.1)  # slower than allowed


def series(sums, by_clock, of_cpu, spreads, claims=2000):
    """Log ratios (3, claims, rounds) of trials' sums, and of refills by the clock and in CPU time."""
    rng = np.random.default_rng(SEED)
    ratios = zip((sums, by_clock, of_cpu), (*spreads, CPU_SPREAD), strict=True)
    return np.stack([rng.normal(math.log(ratio), spread, (claims, ROUNDS)) for ratio, spread in ratios])


def looks(rounds, needed, alpha):
    """Rounds at which a RatioTest of an at-least claim says PASS, and FAIL."""
    enough, some = 2 / alpha, 1 / AGREE_ALPHA
    sums_pass, sums_fail = evidence(rounds[0], needed, obvious=False)
    clock_pass, clock_fail = evidence(rounds[1], needed, obvious=False)
    cpu_pass, cpu_fail = evidence(rounds[2], needed, obvious=False)
    passes = (cpu_pass >= enough) & (sums_pass >= some) & (clock_fail < some)
    likelier = sums_fail * clock_fail > sums_pass * clock_pass
    fails = (cpu_fail >= enough) & (sums_pass < some) & (clock_pass < some) & likelier
    return first_settled((sums_pass >= enough) | passes), first_settled((sums_fail >= enough) | fails)


def _slower_rows():
    for effect in EFFECTS:
        ratio = THRESHOLD * (1 - effect)
        cells = []
        for spreads in SPREADS:
            passed, failed = looks(series(ratio, ratio, ratio, spreads), THRESHOLD, FIRST_SHARE)
            caught = percent((failed < passed).mean())
            cells.append(f"{caught} | {until(failed, ROUNDS)} | {until(failed, ROUNDS, 0.9)}")
        yield f"| {percent(effect)} | {' | '.join(cells)} |"


def _limit_rows():
    truths = {
        "the same": (1.0, 1.0, 1.0),
        "a tenth more CPU time, 10 % faster": (1.1, 1.1, 0.9),
        "a tenth more CPU time, as quick": (1.0, 1.0, 0.9),
        "15 % slower now and then alone": (0.85, 1.0, 1.0),
    }
    for name, truth in truths.items():
        cells = []
        for spreads in SPREADS:
            passed, failed = looks(series(*truth, spreads), THRESHOLD, FIRST_SHARE)
            cells += [percent((passed < failed).mean()), percent((failed < passed).mean())]
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    caught = " | ".join(f"sums {sums}, clock {clock}: FAIL | rounds, half | nine of ten" for sums, clock in SPREADS)
    both = " | ".join(f"sums {sums}, clock {clock}: PASS | FAIL" for sums, clock in SPREADS)
    tables = [
        table(f"| slower than allowed by | {caught} |", _slower_rows()),
        table(f"| truth | {both} |", _limit_rows()),
    ]
    sys.stdout.write("\n".join(tables))


if __name__ == "__main__":
    main()
