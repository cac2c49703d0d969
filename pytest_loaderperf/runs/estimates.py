"""A metric's value over many records, and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pytest_loaderperf.judge import quantile, quantile_interval
from pytest_loaderperf.runs.metric import Definition, Estimate


def estimate_of(definition: Definition, records: Sequence[Any]) -> Estimate:
    """The metric over ``records``; NaN without any."""
    if definition.q is not None:
        q, values = definition.q, [ns * 1e-9 for record in records for ns in record.latencies_ns]
    else:
        q, values = 0.5, [definition.of(record) for record in records]
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if definition.exact:
        return Estimate(max(values), max(values), max(values), len(values))
    samples = () if definition.q is not None else tuple(values)
    return Estimate(quantile(values, q), *quantile_interval(values, q), len(values), samples)


def median_of(values: Sequence[float]) -> Estimate:
    """The median of ``values``; NaN without any."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0)
    return Estimate(quantile(values, 0.5), *quantile_interval(values, 0.5), len(values), tuple(values))
