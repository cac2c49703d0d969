"""Noise of generated series of pairs whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import signal, special

SPREAD = 0.03  # standard deviation of a pair's log ratio
SEED = 20240607

Scenario = Callable[..., np.ndarray]  # (rng, claims, pairs); FAIR ones also how trials become pairs: ``turns``


def in_turns(rng: np.random.Generator, log_times: np.ndarray) -> np.ndarray:
    """Log ratios (claims, pairs) of trials (claims, 2 x pairs) that follow each other; a coin orders each pair."""
    first, second = log_times[:, 0::2], log_times[:, 1::2]
    return np.where(rng.random(first.shape) < 0.5, first - second, second - first)


class AlwaysFirst:
    """A generator whose coins all fall on the same side, so that who comes first is always the same."""

    def __init__(self):
        self._rng = np.random.default_rng(SEED)

    def random(self, shape):
        return np.zeros(shape)

    def __getattr__(self, name):
        return getattr(self._rng, name)


def _white(rng, claims, pairs):
    return rng.normal(0, SPREAD / math.sqrt(2), (claims, 2 * pairs))


def gaussian(rng, claims, pairs, turns=in_turns):
    """Every trial by itself."""
    return turns(rng, _white(rng, claims, pairs))


def heavy_tailed(rng, claims, pairs, turns=in_turns):
    """Times whose logarithm has no variance: Student's t with 1.5 degrees of freedom."""
    return turns(rng, 0.02 * rng.standard_t(1.5, (claims, 2 * pairs)))


def drifting(rng, claims, pairs, turns=in_turns):
    """A machine that becomes up to ten times as slow, or as fast."""
    drift = rng.uniform(-1, 1, (claims, 1)) * np.linspace(0, math.log(10), 2 * pairs)
    return turns(rng, drift + _white(rng, claims, pairs))


def bursty(rng, claims, pairs, turns=in_turns):
    """Stretches of 25 trials, one in five of them half as slow again and ten times as noisy."""
    loud = np.repeat(rng.random((claims, math.ceil(2 * pairs / 25))) < 0.2, 25, axis=1)[:, : 2 * pairs]
    return turns(rng, 0.4 * loud + _white(rng, claims, pairs) * np.where(loud, 10, 1))


def periodic(rng, claims, pairs, turns=in_turns):
    """A neighbour with a period of 2 to 50 trials: at 2 it always strikes the same place in a pair."""
    periods, phases = 2 + rng.integers(0, 49, (claims, 1)), rng.uniform(0, 2 * math.pi, (claims, 1))
    wave = 0.1 * np.sin(2 * math.pi * np.arange(2 * pairs) / periods + phases)
    return turns(rng, wave + _white(rng, claims, pairs))


def autocorrelated(rng, claims, pairs, turns=in_turns):
    """Each trial takes over 95 % of what disturbed the one before."""
    return turns(rng, signal.lfilter([1.0], [1.0, -0.95], _white(rng, claims, pairs), axis=1))


def coarse_timer(rng, claims, pairs, turns=in_turns):
    """A clock with ticks of 5 % of a trial: three pairs in five are tied."""
    ticks = np.round(20 * np.exp(_white(rng, claims, pairs)))
    return turns(rng, np.log(ticks))


def one_sided_stalls(rng, claims, pairs):
    """One trial in twenty of the loader, never of the other, takes twice to four times as long; the median is even."""
    share, noise = 0.05, gaussian(rng, claims, pairs)
    stalls = (rng.random((claims, pairs)) < share) * rng.uniform(math.log(2), math.log(4), (claims, pairs))
    return noise - stalls - SPREAD * special.ndtri((0.5 - share) / (1 - share))


def layout_shifts(rng, claims, pairs):
    """Each side is up to a few percent off (2 %, standard deviation), drawn anew when it is rebuilt: every 8 pairs."""
    offsets = rng.normal(0, 0.02 * math.sqrt(2), (claims, math.ceil(pairs / 8)))
    return gaussian(rng, claims, pairs) + np.repeat(offsets, 8, axis=1)[:, :pairs]


def layout_for_good(rng, claims, pairs):
    """The like, but drawn once, for loaders that cannot be rebuilt."""
    return gaussian(rng, claims, pairs) + rng.normal(0, 0.02 * math.sqrt(2), (claims, 1))


def one_sided_stretches(rng, claims, pairs):
    """For 16 pairs at a time, one stretch in twenty, the loader alone is slower by half; the median is even."""
    share, noise = 0.05, gaussian(rng, claims, pairs)
    slow = np.repeat(rng.random((claims, math.ceil(pairs / 16))) < share, 16, axis=1)[:, :pairs]
    return noise - 0.4 * slow - SPREAD * special.ndtri((0.5 - share) / (1 - share))


# Whatever came before, a pair at the threshold falls on either side with the same chance: the promise holds.
FAIR: list[Scenario] = [
    gaussian,
    heavy_tailed,
    drifting,
    bursty,
    periodic,
    autocorrelated,
    coarse_timer,
]
# What strikes one side alone makes ratios that are not symmetric, or that stay off: nothing is promised at the
# threshold, only some way above it.
ONE_SIDED: list[Scenario] = [one_sided_stalls, layout_shifts, layout_for_good, one_sided_stretches]
