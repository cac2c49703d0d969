"""The length of trials: a pure function of what is known of each side."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.measurement.trials import (
    MIN_TRIAL_BATCHES,
    REFILLS,
    Pace,
    piece_batches,
    refill_batches,
    sliced_batches,
)

MS = 1e-3


def piece(**pace):
    return piece_batches({"a": Pace(**pace)})["a"]


@pytest.mark.parametrize(
    "pace, batches",
    [
        ({"batch_seconds": 1 * MS}, 20),
        ({"batch_seconds": 1 * MS, "overhead_seconds": 0.01}, 30),  # three times what lies between trials
        ({"batch_seconds": 1 * MS, "overhead_seconds": 10.0}, 100),  # but not longer than that pays
        ({"batch_seconds": 1 * MS, "ready": 64}, 64),  # a burst of what was ready is no trial
        ({"batch_seconds": 0.3}, 4),
        ({"batch_seconds": 0.5, "ready": 4}, 2),  # one batch of each of 2 workers, which take a second
        ({"batch_seconds": 2.0}, 1),
        ({"batch_seconds": 1 * MS, "ready": 16}, 16),  # as many of each worker
        ({"batch_seconds": 2 * MS, "ready": 4}, 12),
        ({"batch_seconds": 0.4, "ready": 6}, 3),
        ({"batch_seconds": 1.0, "ready": 16}, 8),
        ({"batch_seconds": 1 * MS, "affordable": 9}, 9),
    ],
)
def test_a_trial_in_one_piece_fits_the_loader(pace, batches):
    assert piece(**pace) == batches


def test_the_slow_side_of_a_pair_gets_as_much_time_and_not_as_many_batches():
    batches = piece_batches({"fast": Pace(1 * MS, 4), "slow": Pace(30 * MS, 4)})
    assert batches == {"fast": 12, "slow": 4}


def test_an_epoch_too_short_for_a_trial_halves_it():
    assert [piece_batches({"a": Pace(1e-5, affordable=100)}, halvings)["a"] for halvings in range(6)] == [
        100,
        50,
        25,
        12,
        6,
        4,
    ]


def test_in_slices_each_side_gives_as_many_batches_unless_it_is_far_slower():
    assert sliced_batches({"a": Pace(0.1 * MS), "b": Pace(0.2 * MS)}) == {"a": 20, "b": 20}
    assert sliced_batches({"a": Pace(0.5 * MS), "b": Pace(20 * MS)}) == {"a": 4, "b": 1}
    assert sliced_batches({"a": Pace(0.1 * MS), "b": Pace(0.1 * MS)}, longer=8) == {"a": 160, "b": 160}


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Pace,
            st.floats(1e-7, 100),
            st.integers(0, 200),
            st.integers(MIN_TRIAL_BATCHES, 5000),
            st.floats(0, 100),
            st.lists(st.integers(0, 10**9), max_size=200),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 4),
)
def test_every_trial_times_at_least_a_batch_and_no_more_than_an_epoch_holds(paces, halvings):
    named = dict(enumerate(paces))
    shortest = min(pace.affordable for pace in paces)
    for batches in (piece_batches(named, halvings), sliced_batches(named, 1, halvings)):
        assert set(batches) == set(named)
        assert all(1 <= n <= shortest for n in batches.values())


def bursts(every, cost, number=4096):
    return [cost if at % every == every - 1 else 1_000_000 for at in range(number)]


def drift(number=4096):
    """Of a machine whose speed wanders."""
    drawn = random.Random(2)  # noqa: S311 no secret depends on it
    return [round(1_000_000 * math.exp(wander)) for wander in accumulate(drawn.gauss(0, 0.02) for _ in range(number))]


@pytest.mark.parametrize("every", [50, 64, 90])
def test_a_trial_holds_whole_periods_of_bursts(every):
    batches = piece(batch_seconds=1.5 * MS, overhead_seconds=0.01, latencies_ns=bursts(every, 25_000_000))
    assert min(batches % every, every - batches % every) <= every // 5
    assert batches >= every - every // 10


@pytest.mark.parametrize("latencies_ns", [[1_000_000] * 4096, drift(), bursts(50, 25_000_000, 200), []])
def test_where_longer_trials_do_not_pay_they_stay_short(latencies_ns):
    assert piece(batch_seconds=1 * MS, overhead_seconds=0.01, latencies_ns=latencies_ns) == 30


def test_a_rhythm_of_many_seconds_is_not_waited_for():
    assert piece(batch_seconds=1 * MS, latencies_ns=bursts(3000, 10**9)) <= 1000


def test_the_first_trial_of_a_side_that_may_have_batches_ready_is_short():
    assert piece(batch_seconds=1e-6, ready=4) == 12
    assert piece(batch_seconds=1e-6, ready=4, latencies_ns=[1_000] * 100) == 20_000


@pytest.mark.parametrize(
    "pace, batches",
    [
        ({"batch_seconds": 1 * MS, "ready": 4}, 8),
        ({"batch_seconds": 3 * MS, "ready": 4}, 4),
        ({"batch_seconds": 5 * MS, "ready": 4}, 2),  # one of each of 2 workers
        ({"batch_seconds": 5 * MS, "ready": 16}, 4),  # of which nobody knows how many workers make them
        ({"batch_seconds": 0.02, "ready": 8}, 4),
        ({"batch_seconds": 0.1, "ready": 0}, 1),
    ],
)
def test_a_turn_of_refills_is_short_and_as_long_for_each_worker(pace, batches):
    assert refill_batches({"a": Pace(**pace), "b": Pace(**pace)}) == (batches, REFILLS)


@pytest.mark.parametrize(
    "slow_ms, fast_ms, batches, turns",
    [(8, 4, 2, REFILLS), (30, 4, 2, REFILLS), (30, 0.5, 2, 0), (1, 0.6, 16, REFILLS)],
)
def test_a_slower_side_takes_as_many_batches_a_turn(slow_ms, fast_ms, batches, turns):
    paces = {"fast": Pace(fast_ms * MS, 4), "slow": Pace(slow_ms * MS, 4)}
    assert refill_batches(paces) == (batches, turns)


@pytest.mark.parametrize(
    "pace, turns",
    [
        ({"batch_seconds": 4 * MS, "affordable": 30}, REFILLS),
        ({"batch_seconds": 4 * MS, "affordable": 8}, 3),
        ({"batch_seconds": 4 * MS, "affordable": 7}, REFILLS),  # of a batch each
        ({"batch_seconds": 4 * MS, "affordable": 3}, 0),
        ({"batch_seconds": 4 * MS, "affordable": 9, "ready": 0}, 3),
        ({"batch_seconds": 0.2}, 0),
        ({"batch_seconds": 0.08, "ready": 8}, 0),  # four batches take too long
    ],
)
def test_there_are_no_refills_of_short_epochs_and_slow_batches(pace, turns):
    assert refill_batches({"a": Pace(4 * MS), "b": Pace(**pace)})[1] == turns


@pytest.mark.parametrize("affordable, found", [(400, (80, 4)), (240, (60, 3)), (60, (15, 0))])
def test_turns_of_quick_batches_are_shorter_in_short_epochs_to_two_milliseconds(affordable, found):
    pace = Pace(0.1 * MS, affordable=affordable)
    assert refill_batches({"a": pace, "b": pace}) == found
