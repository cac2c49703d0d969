"""Quantities with a unit, so that a time is never compared with a rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_loaderperf.errors import ClaimError

SECOND = "s"
SAMPLES_PER_SECOND = "samples/s"
BYTES_PER_SECOND = "B/s"
BYTE = "B"
ONE = "1"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit. ``5 * ms`` is a time of 0.005 s."""

    value: float
    unit: str

    def __mul__(self, factor: float) -> Quantity:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            return NotImplemented
        return Quantity(self.value * factor, self.unit)

    __rmul__ = __mul__

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}" if self.unit != ONE else f"{self.value:g}"


s = Quantity(1.0, SECOND)
ms = Quantity(1e-3, SECOND)
us = Quantity(1e-6, SECOND)


def as_seconds(value: object, what: str, example: str, *, bare: bool = False) -> float:
    """Seconds in ``value``, a positive time; a bare number counts as seconds only with ``bare``.

    Raises ClaimError for another unit, for a bare number without ``bare``, and for values not positive and finite.
    """
    seconds: float | None = None
    if isinstance(value, Quantity) and value.unit == SECOND:
        seconds = value.value
    elif bare and isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        got = str(value) if isinstance(value, Quantity) else repr(value)
        if not bare and isinstance(value, (int, float)) and value > 0:
            got, example = f"{got} without a unit", f"{example}, with `from pytest_loaderperf import ms, s`"
        raise ClaimError(f"{what}: expected a positive time, got {got}. Write {example}.")
    return seconds
