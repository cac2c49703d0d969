"""The length of trials: a pure function of what is known of each side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES, Pace, piece_batches, rhythm_of, sliced_batches

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
        ({"batch_seconds": 1 * MS, "rhythm": 50}, 100),  # two slow batches
        ({"batch_seconds": 1 * MS, "rhythm": 3000}, 1000),
        ({"batch_seconds": 0.3}, 4),
        ({"batch_seconds": 0.5, "ready": 4}, 4),  # 2 workers of a second a batch
        ({"batch_seconds": 2.0}, 1),
        ({"batch_seconds": 1.0, "ready": 16}, 8),
        ({"batch_seconds": 1 * MS, "affordable": 9}, 9),
    ],
)
def test_a_trial_in_one_piece_fits_the_loader(pace, batches):
    assert piece(**pace) == batches


def test_the_slow_side_of_a_pair_gets_as_much_time_and_not_as_many_batches():
    batches = piece_batches({"fast": Pace(1 * MS, 4), "slow": Pace(30 * MS, 4)})
    assert batches == {"fast": 20, "slow": 4}


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


@given(
    st.lists(
        st.builds(
            Pace,
            st.floats(1e-7, 100),
            st.integers(0, 200),
            st.integers(MIN_TRIAL_BATCHES, 5000),
            st.floats(0, 100),
            st.integers(1, 5000),
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


@pytest.mark.parametrize(
    "latencies_ns, rhythm",
    [
        ([1000] * 31, 1),
        ([1000] * 500, 1),
        (([1000] * 49 + [25_000]) * 20, 50),
        (([1000] * 49 + [5_000]) * 20, 1),  # not so slow
        ([1000] * 2000 + [50_000], 1),  # hardly any of the time
        (([1, 1_000_000]) * 30, 1),  # 2 workers' batches come in pairs: half of them is no rhythm
        ([0, *([0] * 31 + [90_000]) * 5], 32),
        ([1000 + 90_000 * (number in {7, 9, 40, 43, 95, 180, 181, 300}) for number in range(320)], 1),  # at random
    ],
)
def test_slow_batches_that_come_again_are_a_rhythm(latencies_ns, rhythm):
    assert rhythm_of(latencies_ns) == rhythm
