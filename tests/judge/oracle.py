"""Slow and exact: what the judge's fast evidence must come to, in whole numbers and fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

HALF = Fraction(1, 2)


@cache
def e_value(hits: int, n: int, p0: Fraction) -> Fraction:
    """The average over p in (p0, 1) of (p/p0)^hits ((1-p)/(1-p0))^misses, by rational antiderivative."""
    misses = n - hits
    integral = sum(
        Fraction(math.comb(misses, j) * (-1) ** j, hits + j + 1) * (1 - p0 ** (hits + j + 1)) for j in range(misses + 1)
    )
    return integral / ((1 - p0) * p0**hits * (1 - p0) ** misses)


def enough(n: int, p0: Fraction, alpha: Fraction) -> int:
    """Fewest hits of ``n`` that settle; n + 1 if none do."""
    return next((hits for hits in range(n + 1) if e_value(hits, n, p0) >= 1 / alpha), n + 1)


def alarm_chance(needed: Sequence[int]) -> Fraction:
    """The chance that a fair coin's tails settle before its heads do, where ``needed[n]`` of n tosses settle.

    By counting all 2^n ways, toss by toss.
    """
    ways, alarms = {0: 1}, Fraction(0)  # number of ways to each count of heads, still open
    for n in range(1, len(needed)):
        tossed = {heads: ways.get(heads, 0) + ways.get(heads - 1, 0) for heads in range(n + 1)}
        alarms += Fraction(sum(w for heads, w in tossed.items() if n - heads >= needed[n]), 2**n)
        ways = {heads: w for heads, w in tossed.items() if needed[n] > max(heads, n - heads)}
    return alarms


def betting_e_value(values: Sequence[Fraction], mean: Fraction, bets: Sequence[Fraction]) -> Fraction:
    """The average over ``bets`` of the products of 1 + bet (value - mean)."""
    return sum((math.prod(1 + bet * (value - mean) for value in values) for bet in bets), Fraction(0)) / len(bets)
