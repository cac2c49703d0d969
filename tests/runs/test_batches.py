"""The batches of a side in the result file: few points, and every stall exactly."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pytest_loaderperf.measurement import Key, Round, Start, Steady, Work
from pytest_loaderperf.measurement.record import StartRecord, SteadyRecord
from pytest_loaderperf.ranks.job_side import JobSide
from pytest_loaderperf.runs.batches import batches_entry, made_by, trials_by_side

MS = 1_000_000


def record(*latencies_ns, began_ns=0):
    return SteadyRecord(latencies_ns, sum(latencies_ns), 1, 1, began_ns=began_ns)


def trial(began_ns, *latencies_ns):
    return began_ns, record(*latencies_ns)


def test_time_between_rounds_is_left_out_and_sides_stay_where_they_were_in_a_round():
    loader, base = Key("loader", Steady()), Key("base", Steady())
    one, two, three = record(1, began_ns=100), record(2, began_ns=90_000), record(3, began_ns=90_050)
    rounds = [
        Round({loader: one}, 2e-6),
        Round({Key("loader", Start()): StartRecord(5), Key("base", Work()): record(9)}, 3e-6),
        Round({loader: three, base: two}, 1e-6),
    ]
    assert trials_by_side(rounds) == {"loader": [(0, one), (5_050, three)], "base": [(5_000, two)]}


def test_few_batches_are_kept_one_by_one_at_their_times():
    entry = batches_entry([trial(40 * MS, 2 * MS, 3 * MS), trial(0, 4 * MS)])
    assert (entry["count"], entry["seconds"]) == (3, 0.009)
    line = entry["timeline"]
    assert (line["each"], line["starts"]) == (1, [0.0, 0.04, 0.042])  # the trials' own order is that of time
    assert line["typical"] == line["longest"] == [0.004, 0.002, 0.003]


def test_of_many_batches_few_points_and_every_stall_is_kept():
    waits = [MS + number for number in range(10_000)]
    for ms, number in ((40, 17), (41, 5_000), (42, 9_999)):
        waits[number] = ms * MS
    entry = batches_entry([trial(0, *waits[:6_000]), trial(sum(waits[:6_000]), *waits[6_000:])])
    line, stalls = entry["timeline"], entry["stalls"]
    assert (entry["count"], line["each"], len(line["starts"])) == (10_000, 50, 200)
    assert sum(entry["histogram"]["counts"]) == 10_000
    assert len(entry["histogram"]["edges"]) == len(entry["histogram"]["counts"]) + 1
    assert [line["longest"][place] for place in (0, 100, 199)] == [0.04, 0.041, 0.042]
    assert max(line["typical"]) < 0.0011
    assert (stalls["count"], stalls["latencies"]) == (3, [0.04, 0.041, 0.042])
    assert stalls["seconds"] == pytest.approx(0.123, rel=1e-3)
    assert stalls["starts"] == pytest.approx([sum(waits[:n]) * 1e-9 for n in (17, 5_000, 9_999)], rel=1e-3)


def test_of_many_stalls_the_longest_are_kept_and_all_are_counted():
    waits = np.full(10_000, 10_000)
    waits[::50] = np.arange(200) * MS + 30 * MS
    stalls = batches_entry([trial(0, *waits.tolist())])["stalls"]
    assert (stalls["count"], len(stalls["latencies"]), min(stalls["latencies"])) == (200, 100, 0.13)
    assert stalls["seconds"] == pytest.approx(sum(range(30, 230)) * 1e-3, rel=1e-3)
    assert stalls["starts"] == sorted(stalls["starts"])


def test_a_short_wait_is_no_stall_and_no_batch_is_no_entry():
    assert batches_entry([trial(0, *[1_000] * 99, 900_000)])["stalls"]["count"] == 0
    assert batches_entry([]) is None
    assert batches_entry([trial(0)]) is None


@pytest.mark.parametrize("latency", [0, 5 * MS])
def test_equal_batches_are_one_bin(latency):
    histogram = batches_entry([trial(0, *[latency] * 7)])["histogram"]
    assert histogram["counts"] == [7]
    low, high = histogram["edges"]
    assert 0 < low <= high


def test_the_latency_of_each_batch_is_kept_in_order_and_of_very_many_some_stretches():
    entry = batches_entry([trial(40 * MS, 2 * MS, 3 * MS), trial(0, 4 * MS)])
    assert entry["latencies"] == [0.004, 0.002, 0.003]
    many = batches_entry([trial(0, *range(MS, MS + 100_000))])
    assert (many["count"], len(many["latencies"])) == (100_000, 20_000)
    assert many["latencies"][0] == 0.001
    assert many["latencies"][-1] == pytest.approx(0.001096, rel=1e-3)  # the last stretch begins at 95,000


def test_of_a_job_the_latencies_of_each_rank_are_kept_one_rank_after_another():
    def job(began_ns, *ranks):
        slowest = tuple(map(max, zip(*ranks, strict=True)))
        return began_ns, SteadyRecord(slowest, sum(slowest), 1, 1, ranks=tuple(record(*rank) for rank in ranks))

    entry = batches_entry([job(99 * MS, (2 * MS, 5 * MS), (3 * MS, 4 * MS)), job(0, (1 * MS,), (9 * MS,))])
    assert entry["latencies"] == [0.001, 0.002, 0.005, 0.009, 0.003, 0.004]
    assert entry["count"] == 3


@pytest.mark.parametrize(
    "changes, workers, prefetch",
    [
        ({"inline": True}, 0, 0),
        ({"loader": SimpleNamespace(num_workers=2)}, 2, 4),
        ({"loader": SimpleNamespace(num_workers=8)}, 4, 4),
        ({"own_helpers": (3, 9)}, 3, 4),
        ({"own_helpers": (0, 1)}, 1, 4),
        ({"warmup_batches": 0}, 1, 1),
    ],
)
def test_who_makes_batches_is_what_the_loader_declares_or_what_was_seen_to_start(changes, workers, prefetch):
    plain = {"inline": False, "loader": None, "own_helpers": (0, 0), "warmup_batches": 4}
    assert made_by(SimpleNamespace(**(plain | changes))) == {"workers": workers, "prefetch": prefetch}


@pytest.mark.parametrize(
    "loader, helpers, workers, prefetch",
    [
        (SimpleNamespace(num_workers=0), (0, 0), 0, 0),
        (iter([]), (0, 0), 0, 0),
        (SimpleNamespace(num_workers=0), (0, 1), 1, 4),
        (SimpleNamespace(num_workers=2, prefetch_factor=2), (2, 0), 2, 4),
    ],
)
def test_the_side_of_a_job_has_the_makers_of_rank_0(loader, helpers, workers, prefetch):
    side = object.__new__(JobSide)
    side.loader, side.own_helpers, side.warmup_batches = loader, helpers, 4
    assert made_by(side) == {"workers": workers, "prefetch": prefetch}
