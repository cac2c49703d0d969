"""Evidence that may be looked at after every observation: e-values, which rarely get large if a hypothesis is true.

Let ``hits`` of ``n`` observations be on one side of a limit. Against "the chance of a hit is at most p0", whatever
happened before, each factor (p/p0)^hit ((1-p)/(1-p0))^miss with p > p0 has an expectation of at most one, and so has
their average over p, uniform on (p0, 1). By Ville's inequality it ever exceeds 1/alpha with chance at most alpha,
however often one looks (Ville 1939; Robbins 1970; Ramdas et al., Statistical Science 2023).
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from scipy import special

Counts = int | np.ndarray


def log_evidence_above(hits: Counts, n: Counts, p0: float) -> np.ndarray:
    """Natural log of the e-value against "the chance of a hit is at most ``p0``", for ``hits`` of ``n``."""
    hits = np.asarray(hits, dtype=float)
    misses = n - hits
    with np.errstate(divide="ignore"):  # without evidence the logarithm is minus infinity
        upper_mass = np.log(special.betaincc(hits + 1, misses + 1, p0))
    log_integral = special.betaln(hits + 1, misses + 1) + upper_mass
    evidence: np.ndarray = log_integral - hits * np.log(p0) - (misses + 1) * np.log1p(-p0)
    return evidence


def log_evidence_below(hits: Counts, n: int, p0: float) -> np.ndarray:
    """Natural log of the e-value against "the chance of a hit is at least ``p0``", for ``hits`` of ``n``."""
    return log_evidence_above(n - np.asarray(hits), n, 1 - p0)


def hits_needed(n: int, p0: float, log_needed: float) -> int:
    """Fewest hits of ``n`` whose log e-value for a chance above ``p0`` reaches ``log_needed``; n + 1 if none does."""
    # The evidence grows with every further hit, so bisection finds the first that is enough.
    return bisect_left(range(n + 1), log_needed, key=lambda hits: float(log_evidence_above(hits, n, p0)))
