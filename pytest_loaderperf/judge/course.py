"""The course of a claim: what each observation measured, and the evidence after it. For reports; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Course:
    """One entry for each observation: a pair, or a trial.

    ``values``: what it measured, in the claim's unit. ``for_claim`` and ``against_claim``: the natural logs of the
    e-values for PASS and for FAIL after it; ``enough`` settles the claim.
    """

    values: np.ndarray
    for_claim: np.ndarray
    against_claim: np.ndarray
    enough: float
