"""The minimum detectable effect (MDE): what a test would have caught; and how long a claim probably takes to settle."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from pytest_loaderperf.judge.evidence import hits_needed
from pytest_loaderperf.judge.interval import CONFIDENCE

if TYPE_CHECKING:
    from pytest_loaderperf.judge.claim import Ruling

POWER = 0.9  # the probability of catching an effect of the size of the MDE
LONGEST_SECONDS = 3600.0  # for one claim: nobody waits longer


def chance_needed(n: int, hits: int) -> float:
    """The probability of a hit at which ``n`` observations have at least ``hits``, with probability ``POWER``."""
    return float(special.betaincinv(hits, n - hits + 1, POWER))


def detectable_shift(log_ratios: Sequence[float], n: int, alpha: float) -> float | None:
    """The smallest true shift down beyond the threshold, in log ratio, that ``n`` pairs as noisy as these reveal.

    It would be caught in 9 of 10 runs. None: no shift would.
    """
    hits = hits_needed(n, 0.5, -math.log(alpha))
    if hits > n or not len(log_ratios):
        return None
    noise = np.asarray(log_ratios) - np.median(log_ratios)
    return max(0.0, float(np.quantile(noise, chance_needed(n, hits), method="higher")))


def seconds_to_settle(ruling: Ruling, alpha: float, seconds_each: float) -> float | None:
    """Seconds of measuring, at ``seconds_each`` an observation, that would settle the claim in 9 of 10 runs.

    This is an estimate: it assumes that the true value is the estimate, and Gaussian noise as wide as the interval. If
    the interval has no end toward the threshold, too little is known of the noise; then it is the time of the fewest
    observations that can settle anything. None: the claim is settled, or an hour is too short.
    """
    n = ruling.n
    if not n or ruling.exact or ruling.outcome != "INCONCLUSIVE" or not 0 < ruling.estimate < math.inf:
        return None
    chance = _chance_on_its_side(ruling)
    if chance <= 0.5:  # noqa: PLR2004 a fair coin: the estimate is at the threshold
        return None
    most = math.floor(LONGEST_SECONDS / seconds_each)
    enough = -math.log(alpha)

    def chance_that_settles(m: int) -> float:
        hits = hits_needed(m, 0.5, enough)
        return chance_needed(m, hits) if hits <= m else 1.0 + 1 / m

    # With more observations, a smaller probability is enough.
    needed = 1 + bisect_left(range(1, most + 1), -chance, key=lambda m: -chance_that_settles(m))
    needed = max(needed, 2 * n)  # these were not enough, whatever the estimate
    return needed * seconds_each if needed <= most else None


def _chance_on_its_side(ruling: Ruling) -> float:
    """The probability that an observation is on the estimate's side of the threshold; 1 if unknown."""
    bound = ruling.low if ruling.estimate > ruling.needed else ruling.high
    if not 0 < bound < math.inf:
        return 1.0
    n, half_width = ruling.n, abs(math.log(ruling.estimate / bound))
    distance = abs(math.log(ruling.estimate / ruling.needed))
    if not half_width:
        return 1.0 if distance else 0.5
    # The interval's end is the observation with this share of all observations between it and the other end.
    share = min((hits_needed(n, 0.5, math.log(2 / (1 - CONFIDENCE))) - 0.5) / n, 1 - 0.5 / n)
    return float(special.ndtr(distance / half_width * special.ndtri(share)))
