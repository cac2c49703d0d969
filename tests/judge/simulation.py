"""Generated series of pairs with known truth, and what the judge makes of thousands of them. No clock.

``python -m tests.judge.simulation`` prints the tables of docs/simulation.md on what is measured in one piece; sliced.py
knows rounds in slices, worked.py knows ratios of work.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np

from pytest_loaderperf.judge import Outcome, claim_alpha, pair_bets
from pytest_loaderperf.judge.betting import _BETS, _bets
from pytest_loaderperf.judge.evidence import hits_needed, log_evidence_below
from tests.judge.noise import FAIR, ONE_SIDED, SEED, SPREAD, Scenario, bursty, gaussian, heavy_tailed
from tests.judge.oracle import alarm_chance

CLAIMS = 10_000
PAIRS = 400
FIRST_SHARE = claim_alpha(0.001, 0)
THRESHOLD = 0.97
ALPHAS = (0.05, 0.01)
EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.10)
SPREADS = (0.03, 0.08)
WIDE_SPREADS = (0.15, 0.3, 0.45, 0.6, 1.0)
FACTORS = (2, 3, 5, 10, 30)
OBVIOUS_SPREADS = (0.1, 0.3, 0.5)
TRIALS, TRIAL_BATCHES = 200, 50
_CHUNK = 1000  # claims at a time, so that they stay in the processor's cache
UNLIKELY = 1e-6  # the chance at which another seed would break a bound
NAMED = {"ids": lambda scenario: scenario.__name__}
POWER_NOISE = [(gaussian, 0.03), (gaussian, 0.08), (heavy_tailed, SPREAD), (bursty, SPREAD)]


@cache
def hits_that_settle(pairs, alpha):
    """At each number of pairs from 0 on, how many on one side settle a claim."""
    return [hits_needed(n, 0.5, -math.log(alpha)) for n in range(pairs + 1)]


@cache
def fair_rate(pairs, alpha):
    """The exact chance of a false alarm where every pair is a fair coin."""
    return float(alarm_chance(hits_that_settle(pairs, alpha)))


def sign_looks(values, needed, alpha):
    """As ``first_looks``, by a SignTest."""
    pairs, limit = values.shape[1], math.log(needed)
    enough = np.array(hits_that_settle(pairs, alpha)[1:])
    return tuple(first_settled(on_side.cumsum(axis=1) >= enough) for on_side in (values > limit, values < limit))


def evidence(log_ratios, needed, *, obvious=True):
    """E-values (2, claims, pairs) of a PairTest for ratios above ``needed``, and for those below, after each pair.

    ``obvious``: of pairs whose trials are long.
    """
    chunks = np.array_split(log_ratios, math.ceil(len(log_ratios) / _CHUNK))
    return np.concatenate([_evidence(chunk, math.log(needed), obvious) for chunk in chunks], axis=1)


def _evidence(log_ratios, limit, obvious):
    claims, pairs = log_ratios.shape
    bet, steepness, log_factor = (of[:, None] for of in (pair_bets.BET, pair_bets.STEEPNESS, pair_bets.OBVIOUS_LOG))
    hit, miss = (np.exp(of)[:, None] for of in (pair_bets.OBVIOUS_HIT, pair_bets.OBVIOUS_MISS))
    shares = np.concatenate([pair_bets.SHARE, pair_bets.OBVIOUS_SHARE])
    wealth = np.tile(shares[:, None], (2, 1, claims))  # claims last: NumPy is fast along the last axis
    by_size, by_obvious = np.split(wealth, [len(bet)], axis=1)
    scales, seen, rescale_at = scales_of(log_ratios[:, :0]), np.empty((2, pairs, claims)), 1
    for n, x in enumerate(np.ascontiguousarray(log_ratios.T) - limit):
        if n == rescale_at:
            scales, rescale_at = scales_of(log_ratios[:, :n]), pair_bets.rescaled_after(n)
        won = bet * np.tanh(steepness * (x / scales))
        by_size[0] *= 1 + won
        by_size[1] *= 1 - won
        if obvious:
            by_obvious *= miss
        if obvious and np.abs(x).max() >= log_factor.min():
            far = np.maximum(log_factor, pair_bets.OBVIOUS_SCALES * scales)
            by_obvious *= np.where([x >= far, -x >= far], hit / miss, 1)
        wealth.sum(axis=1, out=seen[:, n])
    return seen.swapaxes(1, 2)


def scales_of(log_ratios):
    """As ``pair_bets.scale_of``, of every series (claims, pairs) at once."""
    claims, n = log_ratios.shape
    if n < 2:
        return np.full(claims, pair_bets.scale_of(()))
    ordered = np.sort(log_ratios, axis=1)
    spread = (ordered[:, n - 1 - (n - 1) // 4] - ordered[:, (n - 1) // 4]) / 1.349
    return np.maximum(1e-4, (3 * 0.02 + (n - 1) * spread) / (3 + n - 1))


def looks_at(seen, alpha, *, at_least=True):
    """As ``first_looks``, from e-values."""
    above, below = (first_settled(on_side >= 1 / alpha) for on_side in seen)
    return (above, below) if at_least else (below, above)


def first_looks(log_ratios, needed, alpha, *, at_least=True):
    """For each series, the number of pairs at which it passes, and at which it fails; pairs + 1: never."""
    return looks_at(evidence(log_ratios, needed), alpha, at_least=at_least)


def first_settled(settled):
    return np.where(settled.any(axis=1), settled.argmax(axis=1) + 1, settled.shape[1] + 1)


def outcome_at(passes, failed, n):
    """What a claim has come to at ``n`` looks, from the first looks that settle it."""
    if min(passes, failed) > n:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS if passes < failed else Outcome.FAIL


def alarms(seen, alpha):
    """Which series fail, from e-values."""
    passes, fails = looks_at(seen, alpha)
    return fails < passes


def slower(effect, noise=gaussian, spread=SPREAD, *, claims=2000, pairs=PAIRS):
    """Log ratios of a loader that is ``effect`` slower than is needed; ``spread`` is one of Gaussian noise."""
    return noise(np.random.default_rng(SEED), claims, pairs) * (spread / SPREAD) + math.log1p(-effect)


def fails(looks, pairs=PAIRS):
    """The number of pairs at which each claim fails; pairs + 1: it does not."""
    passed, failed = looks
    return np.where(failed < passed, failed, pairs + 1)


def slow_batches(rng, claims, trials, *, size=TRIAL_BATCHES, burst=10, share=0.01):
    """Slow batches of each trial (claims, trials): ``share`` of all, ``burst`` at a time, also from trial to trial."""
    starts = rng.random((claims, trials * size + burst), dtype=np.float32) < -math.expm1(math.log1p(-share) / burst)
    started = starts.cumsum(axis=1, dtype=np.int16)
    slow = started[:, burst:] > started[:, :-burst]
    return slow.reshape(claims, trials, size).sum(axis=2)


def percentile_looks(slow, size, allowed, alpha):
    """As ``first_looks``, in trials of ``size`` batches, for a percentile: from the slow batches of each trial."""
    enough = -math.log(alpha)
    growth = np.log1p(_bets(allowed) * (np.arange(size + 1)[:, None] / size - allowed))
    log_wealth, in_all = np.zeros((len(slow), _BETS)), np.zeros(len(slow), dtype=int)
    passed, failed = np.zeros(slow.shape, dtype=bool), np.zeros(slow.shape, dtype=bool)
    for trial, seen in enumerate(slow.T):
        log_wealth += growth[seen]
        failed[:, trial] = np.logaddexp.reduce(log_wealth, axis=1) - math.log(_BETS) >= enough
        in_all += seen
        passed[:, trial] = log_evidence_below(in_all, size * (trial + 1), allowed) >= enough
    return first_settled(passed), first_settled(failed)


def table(head: str, rows: Iterator[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows, ""])


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _fair_rows() -> Iterator[str]:
    for scenario in FAIR:
        series = scenario(np.random.default_rng(SEED), CLAIMS, PAIRS)
        seen = {needed: evidence(series, needed) for needed in (1.0, THRESHOLD)}
        rates = [alarms(seen[needed], alpha).mean() for alpha in ALPHAS for needed in seen]
        yield f"| {name_of(scenario)} | {' | '.join(map(percent, rates))} |"
    exact = " | ".join(f"{percent(fair_rate(PAIRS, alpha))} | " for alpha in ALPHAS)
    yield f"| signs alone, a fair coin, exact | {exact} |"


def _one_sided_rows() -> Iterator[str]:
    for scenario in ONE_SIDED:
        rates = {needed: confirmed_rates(scenario, needed, (*ALPHAS, FIRST_SHARE)) for needed in (1.0, THRESHOLD)}
        for alpha in (*ALPHAS, FIRST_SHARE):
            cells = [percent(rate) for needed in rates for rate in rates[needed][alpha]]
            yield f"| {name_of(scenario)} | {alpha:g} | {' | '.join(cells)} |"


def confirmed_rates(scenario, needed, alphas, claims=CLAIMS):
    """For each alpha: share of claims that fail once, and share whose FAIL is confirmed by as many new pairs."""
    both = np.hsplit(scenario(np.random.default_rng(SEED), claims, 2 * PAIRS), 2)
    first, second = (evidence(series, needed) for series in both)
    once = {alpha: alarms(first, alpha) for alpha in alphas}
    return {alpha: (once[alpha].mean(), (once[alpha] & alarms(second, alpha)).mean()) for alpha in alphas}


def _wide_rows() -> Iterator[str]:
    for spread in WIDE_SPREADS:
        series = slower(0, spread=spread, claims=CLAIMS)
        beyond = [(series[:, 0] > math.log(factor)).mean() for factor in (2, 5)]
        rates = [
            alarms(seen, alpha).mean()
            for seen in (evidence(series, 1.0), evidence(series, 1.0, obvious=False))
            for alpha in (*ALPHAS, FIRST_SHARE)
        ]
        yield f"| {spread:g} | {' | '.join(map(percent, [*beyond, *rates]))} |"


def _power_rows() -> Iterator[str]:
    for effect in EFFECTS:
        cells = []
        for noise, spread in POWER_NOISE:
            series = slower(effect, noise, spread)
            ours, signs = (fails(looks(series, 1.0, FIRST_SHARE)) for looks in (first_looks, sign_looks))
            cells += [percent((ours <= PAIRS).mean()), f"{until(ours, PAIRS)} ({until(signs, PAIRS)})"]
        yield f"| {percent(effect)} | {' | '.join(cells)} |"


def _obvious_rows() -> Iterator[str]:
    for factor in FACTORS:
        cells = []
        for spread in OBVIOUS_SPREADS:
            looks = fails(first_looks(slower(1 - 1 / factor, spread=spread, pairs=50), 1.0, FIRST_SHARE), 50)
            cells.append(f"{until(looks, 50)} | {until(looks, 50, 0.99)}")
        yield f"| {factor:g} times | {' | '.join(cells)} |"


def _percentile_rows() -> Iterator[str]:
    for share in (0.01, 0.02, 0.03, 0.05, 0.1):
        slow = slow_batches(np.random.default_rng(SEED), 2000, TRIALS, share=share)
        passes, fails = percentile_looks(slow, TRIAL_BATCHES, 0.01, FIRST_SHARE)
        rates = [
            percent((first < np.minimum(other, TRIALS + 1)).mean())
            for first, other in [(fails, passes), (passes, fails)]
        ]
        yield f"| {percent(share)} | {' | '.join(rates)} | {until(fails, TRIALS)} |"


def until(looks: np.ndarray, most: int, share: float = 0.5) -> str:
    quantile = np.quantile(looks, share)
    return f"{quantile:.0f}" if quantile <= most else f"over {most}"


def name_of(scenario: Scenario) -> str:
    return scenario.__name__.replace("_", " ")


def main() -> None:
    """Print all tables."""
    columns = " | ".join(f"alpha {alpha:g}: claimed 1 | claimed {THRESHOLD}" for alpha in ALPHAS)
    one_sided = f"claimed 1 | confirmed | claimed {THRESHOLD} | confirmed"
    shares = " | ".join(f"{alpha:g}" for alpha in (*ALPHAS, FIRST_SHARE))
    power = " | ".join(
        f"{name_of(noise)}{f' {spread:g}' if noise is gaussian else ''}: caught | pairs (by signs)"
        for noise, spread in POWER_NOISE
    )
    obvious = " | ".join(f"spread {spread:g}: pairs | 99 % within" for spread in OBVIOUS_SPREADS)
    tables = [
        table(f"| noise | {columns} |", _fair_rows()),
        table(f"| noise | alpha | {one_sided} |", _one_sided_rows()),
        table(f"| slower than allowed by | {power} |", _power_rows()),
        table(f"| slower | {obvious} |", _obvious_rows()),
        table(f"| spread | beyond 2 | beyond 5 | FAIL at {shares} | without obvious: {shares} |", _wide_rows()),
        table("| slow batches | FAIL | PASS | trials to FAIL |", _percentile_rows()),
    ]
    sys.stdout.write("\n".join(tables))


if __name__ == "__main__":
    main()
