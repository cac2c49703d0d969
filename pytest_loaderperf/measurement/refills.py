"""A round of refills: loaders that prefetch take turns, each until its prefetch is full again.

Such a loader continues after a request, but only until its prefetch is full. From one full prefetch to the next it has
done all the work of the batches that were taken, and no other work. So two loaders can take turns of a few batches, and
both run under the same conditions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.observations import Refilled
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.measurement.trials import Pace, refill_batches


def in_refills(
    sides: Sequence[AnySide], paces: Mapping[str, Pace], order: random.Random, conditions: Conditions
) -> dict[str, SteadyRecord]:
    """One round, by name. Raises ShortEpochError if an epoch is too short, MeasureError if a side never rests."""
    batches, turns = refill_batches(paces)
    if not turns:
        raise sides[0].short_epoch_error()
    for side in sides:
        side.conditions = conditions
        if not side.ready((turns + 1) * batches + side.warmup_batches, warm=False):
            raise side.short_epoch_error()
    for side in sides:
        side.observe(Refilled(), batches, conditions)  # now its prefetch is full
    taken: dict[str, list[SteadyRecord]] = {side.name: [] for side in sides}
    in_turn = order.sample(list(sides), len(sides))
    for _ in range(turns):
        for side in in_turn:
            taken[side.name].append(side.observe(Refilled(), batches, conditions))
        in_turn.reverse()  # another side has rested longer each time
    return {name: _together(records) for name, records in taken.items()}


def _together(records: Sequence[SteadyRecord]) -> SteadyRecord:
    return SteadyRecord(
        tuple(ns for record in records for ns in record.latencies_ns),
        sum(record.wall_ns for record in records),
        sum(record.samples for record in records),
        sum(record.nbytes for record in records),
        tuple(_of_a_sample(record.wall_ns, record) for record in records),
        cpu_slices_ns=tuple(_of_a_sample(record.effort.cpu_ns if record.effort else 0, record) for record in records),
    )


def _of_a_sample(ns: int, record: SteadyRecord) -> float:
    return ns / record.samples if record.samples else math.nan
