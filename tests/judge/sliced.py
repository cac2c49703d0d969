"""As simulation.py, for rounds in slices: what RatioTest makes of the ratios of sums and of typical slices. No clock.

``python -m tests.judge.sliced`` prints the tables of docs/simulation.md on rounds in slices.

A series of rounds is an array (2, claims, rounds): log ratios of the sums, and log medians of the slices' ratios.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import numpy as np
from scipy import special

from pytest_loaderperf.judge import CONFIRM_ALPHA
from pytest_loaderperf.judge.ratio import AGREE_ALPHA
from tests.judge import noise, simulation
from tests.judge.noise import SEED, SPREAD
from tests.judge.simulation import (
    ALPHAS,
    EFFECTS,
    FIRST_SHARE,
    THRESHOLD,
    first_settled,
    name_of,
    percent,
    table,
    until,
)

CLAIMS = 10_000
ROUNDS = 60
LONG = 200  # rounds that a small effect may take
SLICES = 8
LAYOUT = 0.02 * math.sqrt(2)  # standard deviation of the log ratio, at 2 % a side
REBUILT_EVERY = (1, 2, 8, 2 * ROUNDS)  # rounds; the last: never
RHYTHMS = (SLICES // 2, SLICES, 10, 5 * SLICES)
SLOW_SHARE = 0.3  # of the time, in slow slices


def sides(rng, log_times):
    """Slices (claims, 2 x rounds x SLICES) that follow each other, dealt to two sides; one coin a round.

    Returns two arrays (claims, rounds, SLICES).
    """
    turns = log_times.reshape(len(log_times), -1, SLICES, 2)
    first, second, coin = turns[..., 0], turns[..., 1], rng.random((*turns.shape[:2], 1)) < 0.5
    return np.where(coin, second, first), np.where(coin, first, second)


def rounds_of(loader, other):
    """The two log ratios of throughput of each round."""
    of_sums = _log_sum(other) - _log_sum(loader)
    return np.stack([of_sums, np.median(other - loader, axis=2)]).round(12)  # equal sums in another order are equal


def _log_sum(log_times):
    most = log_times.max(axis=2, keepdims=True)  # lest exp overflow
    return np.log(np.exp(log_times - most).sum(axis=2)) + most[..., 0]


def in_slices(rng, log_times):
    """As ``in_turns``, but (2, claims, rounds)."""
    return rounds_of(*sides(rng, log_times))


def unsteady_slices(rng, claims, pairs):
    """Log times (claims, 2 x pairs) on a machine 1.3 to 1.6 times as slow for some 3 slices, then fast for 3."""
    shape = (claims, 2 * pairs)
    switched = rng.random(shape, dtype=np.float32) < 1 / 3
    slow = (switched.cumsum(axis=1, dtype=np.int16) + rng.integers(0, 2, (claims, 1))) % 2
    since = np.maximum.accumulate(np.where(switched, np.arange(shape[1], dtype=np.int16), 0), axis=1)
    slowness = np.take_along_axis(np.log(rng.uniform(1.3, 1.6, shape)), since, axis=1)
    return slow * slowness + rng.normal(0, 0.001, shape)


def unsteady(rng, claims, pairs, turns=in_slices):
    """A machine that is slow for some 3 slices, then fast for 3."""
    return turns(rng, unsteady_slices(rng, claims, pairs))


def one_sided_stalls(rng, claims, pairs, turns=None):
    """In one round of twenty a slice of the loader takes twice to four times as long; the median of sums is even."""
    share = 0.05
    loader, other = sides(rng, rng.normal(0, SPREAD / math.sqrt(2), (claims, 2 * pairs)))
    struck = rng.random(loader.shape[:2]) < share
    loader[..., 0] += struck * rng.uniform(math.log(2), math.log(4), struck.shape)
    return rounds_of(loader, other) - SPREAD / math.sqrt(SLICES) * special.ndtri((0.5 - share) / (1 - share))


FAIR = [*noise.FAIR, unsteady]


def fair_rounds(scenario, *, claims=CLAIMS, rounds=ROUNDS, seed=SEED):
    """Rounds of the same loader twice."""
    return scenario(np.random.default_rng(seed), claims, rounds * SLICES, in_slices)


def ratio_looks(rounds, needed, alphas, *, at_least=True):
    """For each alpha as ``first_looks``, by a RatioTest at each of ``rounds`` (2, claims, rounds)."""
    by_sums, by_slices = (simulation.evidence(of, needed) for of in rounds)
    looks = {}
    for alpha in alphas:
        settled = (by_sums >= 2 / alpha) | ((by_slices >= 2 / alpha) & (by_sums >= 1 / AGREE_ALPHA))
        above, below = map(first_settled, settled)
        looks[alpha] = (above, below) if at_least else (below, above)
    return looks


def shares(looks, most=LONG):
    """Which share of claims passes, and which fails, within ``most`` rounds."""
    passes, fails = looks
    return ((passes < fails) & (passes <= most)).mean(), ((fails < passes) & (fails <= most)).mean()


def confirmed_rates(rounds, needed, alphas):
    """For each alpha: share of claims that fail in the first half of ``rounds``, and that the other half confirms."""
    halves = np.split(rounds, 2, axis=2)
    first = ratio_looks(halves[0], needed, alphas)
    second = ratio_looks(halves[1], needed, {*alphas, *(max(alpha, CONFIRM_ALPHA) for alpha in alphas)})
    rates = {}
    for alpha in alphas:
        once = first[alpha][1] < first[alpha][0]
        again = second[max(alpha, CONFIRM_ALPHA)][1] < second[alpha][0]
        rates[alpha] = once.mean(), (once & again).mean()
    return rates


def layout_shifts(every, *, claims=CLAIMS, rounds=2 * ROUNDS):
    """The same loader twice, each up to a few percent off (2 %, standard deviation), drawn anew ``every`` rounds."""
    rng = np.random.default_rng(SEED)
    offsets = rng.normal(0, LAYOUT, (claims, math.ceil(rounds / every))).repeat(every, axis=1)[:, :rounds]
    return noise.gaussian(rng, claims, rounds * SLICES, in_slices) + offsets


def fails_of_slower(effects, *, claims=2000, alpha=FIRST_SHARE):
    """For each effect, rounds at which claims fail where a loader is that much slower than allowed, machine unsteady.

    By the sums alone; by a RatioTest; by a RatioTest where layouts are drawn anew every round. LONG + 1: never.
    """
    even = fair_rounds(unsteady, claims=claims, rounds=LONG)
    offsets = np.random.default_rng(SEED + 1).normal(0, LAYOUT, even[0].shape)
    for effect in effects:
        rounds = even + math.log1p(-effect)
        every = [
            simulation.first_looks(rounds[0], 1.0, alpha),
            ratio_looks(rounds, 1.0, [alpha])[alpha],
            ratio_looks(rounds + offsets, 1.0, [alpha])[alpha],
        ]
        yield [simulation.fails(looks, LONG) for looks in every]


def rhythm(period, typical, slow, *, claims=2000, rounds=LONG, seed=SEED):
    """Rounds of loaders of which one slice in ``period`` takes SLOW_SHARE of the time, in step, on an unsteady machine.

    The loader's slow slices take ``slow`` times as long as the other's, its ``typical`` ones ``typical`` times.
    """
    rng = np.random.default_rng(seed)
    loader, other = sides(rng, unsteady_slices(rng, claims, rounds * SLICES))
    at = np.arange(rounds * SLICES).reshape(rounds, SLICES) + rng.integers(0, period, (claims, 1, 1))
    is_slow = at % period == 0
    cost = math.log((period - 1) * SLOW_SHARE / (1 - SLOW_SHARE)) * is_slow
    return rounds_of(loader + cost + np.where(is_slow, math.log(slow), math.log(typical)), other + cost)


def slow_part_slower(period, **sizes):
    """Only the slow slices became slower, by half: 15 % of the time."""
    return rhythm(period, 1, 1.5, **sizes)


def typical_slower(effect, **sizes):
    """Typical slices are ``effect`` slower, and the slow one of each round makes up for it: the sums are even."""
    typical = 1 / (1 - effect)
    return rhythm(SLICES, typical, 1 - (typical - 1) * (1 - SLOW_SHARE) / SLOW_SHARE, **sizes)


def _fair_rows() -> Iterator[str]:
    for scenario in FAIR:
        rounds = fair_rounds(scenario)
        looks = {needed: ratio_looks(rounds, needed, ALPHAS) for needed in (1.0, THRESHOLD)}
        rates = [shares(looks[needed][alpha])[1] for alpha in ALPHAS for needed in looks]
        yield f"| {name_of(scenario)} | {' | '.join(map(percent, rates))} |"


def _one_sided_rows() -> Iterator[str]:
    alphas = (*ALPHAS, FIRST_SHARE)
    stalls = fair_rounds(one_sided_stalls, rounds=2 * ROUNDS)
    layouts = ((every, layout_shifts(every)) for every in REBUILT_EVERY)
    for words, rounds in [
        ("one sided stalls", stalls),
        *((f"layouts, {'for good' if every == REBUILT_EVERY[-1] else f'every {every}'}", of) for every, of in layouts),
    ]:
        rates = {needed: confirmed_rates(rounds, needed, alphas) for needed in (1.0, THRESHOLD)}
        for alpha in alphas:
            cells = [percent(rate) for needed in rates for rate in rates[needed][alpha]]
            yield f"| {words} | {alpha:g} | {' | '.join(cells)} |"


def _power_rows() -> Iterator[str]:
    for effect, looks in zip(EFFECTS, fails_of_slower(EFFECTS), strict=True):
        cells = [f"{percent((fails <= LONG).mean())} | {until(fails, LONG)}" for fails in looks]
        yield f"| {percent(effect)} | {' | '.join(cells)} |"


def _rhythm_rows() -> Iterator[str]:
    slower = [(f"slow slices, one in {period}, slower by half", slow_part_slower(period)) for period in RHYTHMS]
    even = typical_slower(0.05)
    for words, rounds, needed in [
        *((words, rounds, THRESHOLD) for words, rounds in slower),
        ("typical slices 5 % slower, sums even", even, THRESHOLD),
        ("the same", even, 1.0),
    ]:
        looks = ratio_looks(rounds, needed, [FIRST_SHARE])[FIRST_SHARE]
        rates = [rate for most in (ROUNDS, LONG) for rate in shares(looks, most)]
        _, confirmed = confirmed_rates(rounds, needed, [FIRST_SHARE])[FIRST_SHARE]
        by_sums = shares(simulation.first_looks(rounds[0], needed, FIRST_SHARE))[1]
        yield f"| {words} | {needed:g} | {' | '.join(map(percent, [*rates, confirmed, by_sums]))} |"


def main() -> None:
    """Print all tables."""
    columns = " | ".join(f"alpha {alpha:g}: claimed 1 | claimed {THRESHOLD}" for alpha in ALPHAS)
    one_sided = f"claimed 1 | confirmed | claimed {THRESHOLD} | confirmed"
    rhythm_columns = " | ".join(f"PASS in {most} | FAIL in {most}" for most in (ROUNDS, LONG))
    power = " | ".join(f"{by}: caught | rounds" for by in ("sums alone", "with slices", "and new layouts"))
    tables = [
        table(f"| noise | {columns} |", _fair_rows()),
        table(f"| noise | alpha | {one_sided} |", _one_sided_rows()),
        table(f"| slower than allowed by | {power} |", _power_rows()),
        table(f"| loader | claimed | {rhythm_columns} | confirmed | FAIL by sums alone |", _rhythm_rows()),
    ]
    sys.stdout.write("\n".join(tables))


if __name__ == "__main__":
    main()
