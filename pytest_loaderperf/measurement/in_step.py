"""Sides that are as far into their epochs as the others: one that is ahead would fill shared caches for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.roofline import Roofline
from pytest_loaderperf.measurement.standing import Standing

_MOST_SECONDS = 0.05  # far less than new workers take


def begin_in_step(sides: Sequence[AnySide], standings: Mapping[str, Standing], conditions: Conditions) -> None:
    """Read sides with workers that were just probed on to where the first of them is, instead of making them again."""
    compared = [side for side in sides if not isinstance(side.loader, Roofline)]
    far = max(side.taken for side in compared)
    cost_s = sum((far - side.taken) * standings[side.name].batch_seconds for side in compared)
    if any(side.inline or not side.taken for side in compared) or cost_s > _MOST_SECONDS:
        return  # or an epoch has ended meanwhile
    with conditions.hold():
        for side in compared:
            if side.taken < far:
                side.take(far - side.taken)
    for side in sides:
        standings[side.name].note_build(rebuildable=side.rebuildable)


def catch_up(
    sides: Sequence[AnySide],
    others: Sequence[AnySide],
    standings: Mapping[str, Standing],
    conditions: Conditions,
    most_s: float,
) -> bool:
    """Read ``sides``, in new epochs, as far as ``others`` are; False if that might take more than ``most_s``."""
    far = min((other.taken for other in others), default=0)
    if not others or far * sum(standings[side.name].batch_seconds for side in sides) > most_s:
        return False
    with conditions.hold():
        for side in sides:
            side.start()
            side.take(max(1, far - 1))
    return True
