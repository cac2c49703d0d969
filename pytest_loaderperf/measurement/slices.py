"""A round in slices: sides that make batches only in the asking thread take turns within a trial.

A shared machine changes its speed within milliseconds. In shorter slices both sides run at the same speed, and their
sums still average over as many batches as a trial in one piece.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence

from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import SteadyRecord

_SLICE_SECONDS = 0.0002


def in_slices(
    sides: Sequence[AnySide],
    batches: Mapping[str, int],
    batch_seconds: Mapping[str, float],
    order: random.Random,
    conditions: Conditions,
) -> dict[str, SteadyRecord]:
    """One trial of each side, by name: ``batches`` of each, one of which takes ``batch_seconds``.

    Each slice is taken under ``conditions``: what one side changes must not affect the next.

    Raises ShortEpochError if an epoch ends meanwhile.
    """
    slices = min(max(1, round(batches[side.name] * batch_seconds[side.name] / _SLICE_SECONDS)) for side in sides)
    slices = min(slices, *(batches[side.name] for side in sides))
    latencies: list[list[int]] = [[] for _ in sides]
    slices_ns: list[list[float]] = [[] for _ in sides]
    wall_ns, samples = [0] * len(sides), [0] * len(sides)
    # Strictly in turns: two slices of a side in a row would run at another speed than the other side's. The first side
    # is drawn at random, so that both have the same chances.
    turns = order.sample(range(len(sides)), len(sides))
    began_ns = time.perf_counter_ns()
    with conditions.hold():
        for side in sides:
            conditions.impose()
            if not side.ready(batches[side.name], warm=False):
                raise side.short_epoch_error()
        for number in range(slices):
            for turn in turns:
                side = sides[turn]
                most = batches[side.name]
                conditions.impose()
                taken = side.slice(most * (number + 1) // slices - most * number // slices, latencies[turn])
                if taken is None:
                    raise side.short_epoch_error()
                wall_ns[turn] += taken[0]
                samples[turn] += taken[1]
                slices_ns[turn].append(taken[0] / taken[1] if taken[1] else math.nan)
    return {
        side.name: SteadyRecord(
            tuple(latencies[turn]),
            wall_ns[turn],
            samples[turn],
            side.batch_nbytes * batches[side.name],
            tuple(slices_ns[turn]),
            began_ns=began_ns,
        ).checked(side.called)
        for turn, side in enumerate(sides)
    }
