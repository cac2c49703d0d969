"""Training, validation and test parts of a dataset."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from pytest_loaderperf.data.workloads.apportion import apportioned, stratified_counts
from pytest_loaderperf.data.workloads.draws import Draws
from pytest_loaderperf.errors import DataError

_TOLERANCE = 1e-9  # of the sum of the ratios: the rounding error of a dozen decimal fractions
_MOST_DENOMINATOR = 10**9  # as exact as the tolerance: 0.1 counts as one tenth, not as its float
_log = logging.getLogger("pytest_loaderperf")


def split(
    samples: Any, ratios: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int = 0, labels: Any = None, groups: Any = None
) -> tuple[np.ndarray, ...]:
    """Ascending int64 indices, one part for each ratio; every sample is in exactly one part. Parts may be empty.

    ``samples`` is their number, or their ``labels``. With labels, the split is stratified: each class has its share in
    every part, to within one sample, unless a class has fewer samples than there are parts; the log says so. Samples
    with the same entry of ``groups`` stay in one part; sizes and shares are then as close as assigning the groups from
    the largest to the smallest allows. The same arguments give the same parts on every machine.

    Raises DataError for ratios that are negative, NaN or do not add up to 1, and for labels or groups that do not fit.
    """
    weights = _weights(ratios)
    if type(seed) is not int or seed < 0:
        raise DataError(f"seed: expected an integer of at least 0, got {seed!r}.")
    if hasattr(samples, "__len__"):
        if labels is not None:
            raise DataError(
                "expected labels once, got them as samples and as labels=. "
                "Give the number of samples and labels=, or only the labels."
            )
        labels, samples = samples, len(samples)
    if not isinstance(samples, (int, np.integer)) or isinstance(samples, bool) or samples < 0:
        raise DataError(f"samples: expected an integer of at least 0, or their labels, got {samples!r}.")
    n = int(samples)
    order = Draws(seed).order(n)
    classes = np.zeros(n, np.int64) if labels is None else _codes("labels", labels, n)
    if groups is not None:
        part_of = _by_group(_codes("groups", groups, n), classes, order, weights)
    elif _allows_strata(classes, weights, labels):
        part_of = _stratified(classes, order, weights)
    else:
        part_of = np.empty(n, np.int64)
        part_of[order] = np.repeat(np.arange(len(weights)), apportioned(n, weights))
    return tuple(np.flatnonzero(part_of == part) for part in range(len(weights)))


def _weights(ratios: Sequence[float]) -> list[int]:
    """Integers in the proportions of the ratios."""
    given = list(ratios)
    good = all(isinstance(r, (int, float, np.integer, np.floating)) and 0 <= r < math.inf for r in given)
    if not given or not good or abs(math.fsum(given) - 1) > _TOLERANCE:
        raise DataError(
            f"ratios: expected numbers of at least 0 with the sum 1, such as (0.8, 0.1, 0.1), got {ratios!r}."
        )
    exact = [Fraction(float(ratio)).limit_denominator(_MOST_DENOMINATOR) for ratio in given]
    denominator = math.lcm(*(ratio.denominator for ratio in exact))
    return [int(ratio * denominator) for ratio in exact]


def _codes(name: str, values: Any, samples: int) -> np.ndarray:
    """int64 codes from 0, one for each distinct value."""
    array = np.asarray(values)
    if array.shape != (samples,):
        raise DataError(f"{name}: expected one value a sample, shape ({samples},), got shape {array.shape}.")
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.int64, copy=False)
    except TypeError as error:
        raise DataError(
            f"{name}: expected values of one kind that can be sorted, but {error}. Make them strings."
        ) from error


def _allows_strata(classes: np.ndarray, weights: Sequence[int], labels: Any) -> bool:
    if labels is None or not len(classes):
        return False
    counts, parts = np.bincount(classes), sum(weight > 0 for weight in weights)
    rarest = int(counts.argmin())
    if counts[rarest] >= parts:
        return True
    value = np.asarray(labels)[np.flatnonzero(classes == rarest)[0]]
    _log.info(
        "the split is not stratified: class %s has %d samples, fewer than the %d parts", value, counts[rarest], parts
    )
    return False


def _stratified(classes: np.ndarray, order: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    by_class = order[np.argsort(classes[order], kind="stable")]
    counts = stratified_counts(np.bincount(classes).tolist(), weights)
    part_of = np.empty(len(classes), np.int64)
    part_of[by_class] = np.repeat(np.tile(np.arange(len(weights)), len(counts)), np.ravel(counts))
    return part_of


def _by_group(groups: np.ndarray, classes: np.ndarray, order: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    """Assign each group, the largest first, to the part that needs its classes most."""
    if not len(groups):
        return groups
    total, parts = sum(weights), [part for part, weight in enumerate(weights) if weight]
    lacking = [[int(count) * weight for weight in weights] for count in np.bincount(classes)]  # in 1/total of a sample
    brought: dict[int, Counter[int]] = {}
    for group, label in zip(groups[order].tolist(), classes[order].tolist(), strict=True):
        brought.setdefault(group, Counter())[label] += 1
    part_of_group: np.ndarray = np.empty(len(brought), np.int64)
    for group, counts in sorted(brought.items(), key=lambda item: -item[1].total()):  # ties stay in the drawn order
        part = max(parts, key=lambda part: sum(n * lacking[label][part] for label, n in counts.items()))
        part_of_group[group] = part
        for label, n in counts.items():
            lacking[label][part] -= n * total
    return np.take(part_of_group, groups)
