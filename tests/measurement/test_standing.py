"""The pace of a side, as it is first seen and followed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_loaderperf.measurement.record import StartRecord, SteadyRecord
from pytest_loaderperf.measurement.standing import Standing

MS = 1_000_000


def record(batch_ms, batches=4):
    return SteadyRecord((batch_ms * MS,) * batches, batches * batch_ms * MS, batches, 0)


class OneSide(SimpleNamespace):
    """Whose first batch takes ``first_ms``, and each after it 3 ms."""

    def __init__(self, first_ms, *, inline=True):
        super().__init__(iterator=None, inline=inline, slow=False, starts=[], taken=0, called="the loader")
        self.first_ms = first_ms

    def start(self):
        self.iterator = iter(())
        self.starts.append(StartRecord(self.first_ms * MS))

    def take(self, batches):
        self.taken += batches
        return record(3, batches)

    def look_ahead(self, batch_seconds):
        pass


@pytest.mark.parametrize("first_ms, taken, pace_ms", [(50, True, 3), (1_900, True, 3), (2_100, False, 2_100)])
def test_no_more_batches_are_taken_to_learn_the_pace_where_the_first_took_seconds(first_ms, taken, pace_ms):
    side = OneSide(first_ms)
    standing = Standing.probed(side)
    assert bool(side.taken) is taken
    assert standing.batch_seconds == pytest.approx(pace_ms * 1e-3)
    assert side.slow is (pace_ms > 10)


@pytest.mark.parametrize("inline", [True, False])
def test_a_pace_guessed_from_the_first_batch_gives_way_to_the_first_trial(inline):
    side = OneSide(8_000, inline=inline)
    standing = Standing.probed(side)
    standing.note(record(1), side)
    assert standing.batch_seconds == pytest.approx(0.001)
    assert not side.slow
    standing.note(record(3), side)  # from then on it is followed
    assert standing.batch_seconds == pytest.approx(0.002)


def test_building_costs_its_time_the_first_batch_and_leaving_the_epoch_as_presumed_until_it_is_known():
    standing, side = Standing(0.001, presumed_release_seconds=0.5), OneSide(2_000)
    side.start()
    side.build_seconds, side.release_seconds = 1.0, 0.0
    assert standing.build_cost(side) == pytest.approx(1.0 + 2.0 + 0.5)
    side.release_seconds = 4.0
    assert standing.build_cost(side) == pytest.approx(1.0 + 2.0 + 4.0)
