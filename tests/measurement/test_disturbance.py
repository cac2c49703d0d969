"""What disturbed a measurement, on a played machine."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from pytest_loaderperf.measurement import activity
from pytest_loaderperf.measurement import disturbance as disturbances
from pytest_loaderperf.measurement.activity import TICK_NS
from pytest_loaderperf.measurement.disturbance import Machine, disturbance, grown


class Played:
    """A machine of two CPUs, and a third that is not for us; ``own_ns`` is our CPU time."""

    def __init__(self, quota_file, monkeypatch):
        self.own_ns, self.quota_file = 0, quota_file
        self.stat()
        quota_file.write_text("usage_usec 5\nnr_throttled 0\nthrottled_usec 7\n")
        monkeypatch.setattr(disturbances.psutil, "cpu_times", lambda *, percpu: self.times)
        self.machine = Machine({0, 1}, quota_file, lambda: self.own_ns)

    def stat(self, user=1.0, system=0.0, steal=0.0):
        ours = Times(user=user, nice=0.5, system=system, idle=100.0, iowait=7.0, steal=steal)
        self.times = [ours, ours, Times(user=9e9, nice=0.0, system=0.0, idle=0.0, iowait=0.0, steal=9e9)]


class Unstolen(NamedTuple):
    user: float
    nice: float
    system: float
    idle: float


class Times(NamedTuple):
    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    steal: float


@pytest.fixture
def played(tmp_path, monkeypatch):
    return Played(tmp_path / "cpu.stat", monkeypatch)


def test_everything_is_read_of_our_cpus(played):
    played.stat(user=4.0, system=2.0, steal=3.0)
    played.own_ns = 123
    assert played.machine.read() == {
        "busy_ns": 13_000_000_000,
        "stolen_ns": 6_000_000_000,
        "own_ns": 123,
        "quota_us": 7,
    }


@pytest.mark.parametrize("content", [None, "", "nonsense\n", "0 0\n", "throttled_usec\n"])
def test_a_quota_that_cannot_be_read_is_left_out_and_the_rest_stays(played, content):
    played.quota_file.unlink()
    if content is not None:
        played.quota_file.write_text(content)
    assert played.machine.read().keys() == {"busy_ns", "stolen_ns", "own_ns"}


def test_a_container_whose_times_are_all_zero_tells_nothing_about_them(played):
    played.times = [Times(*[0.0] * 6)] * 3
    assert played.machine.read().keys() == {"quota_us"}


def test_a_system_without_stolen_time_tells_the_others(played):
    played.times = [Unstolen(1.0, 0.0, 0.0, 2.0)] * 2
    assert played.machine.read().keys() == {"busy_ns", "own_ns", "quota_us"}


def test_a_system_that_tells_nothing_gives_nothing(tmp_path):
    machine = Machine(frozenset(), tmp_path / "none", lambda: pytest.fail("dear, and of no use"))
    assert machine.read() == {}


def test_a_counter_that_goes_backwards_is_left_out():
    before = {"stolen_ns": 5, "busy_ns": 5}
    after = {"stolen_ns": 4, "busy_ns": 5, "quota_us": 7}
    assert grown(before, after) == {"busy_ns": 0}


def spans(*rounds):
    """Rounds of 0.5 s, each with what its counters grew by."""
    return [(0.5, counters) for counters in rounds]


QUIET = {"stolen_ns": 0, "busy_ns": 500_000_000, "own_ns": 500_000_000, "quota_us": 0}


def test_a_quiet_machine_was_not_disturbed():
    seen = disturbance(spans(QUIET, QUIET), 2)
    assert seen.share == 0
    assert seen.causes == {"stolen": 0, "other_processes": 0, "cpu_quota": 0}


# Limits for 0.5 s on two CPUs: 5 % and a tick; the second row of each pair is the first above.
@pytest.mark.parametrize(
    "change, cause",
    [
        ({"stolen_ns": 25_000_000 + TICK_NS}, None),
        ({"stolen_ns": 25_000_001 + TICK_NS}, "stolen"),
        ({"busy_ns": 550_000_000 + 2 * TICK_NS}, None),
        ({"busy_ns": 550_000_001 + 2 * TICK_NS}, "other_processes"),
        ({"quota_us": 25_000}, None),
        ({"quota_us": 25_001}, "cpu_quota"),
        ({"own_ns": 900_000_000}, None),
    ],
)
def test_each_cause_disturbs_from_its_limit_on(change, cause):
    seen = disturbance(spans(QUIET, QUIET | change, QUIET, QUIET), 2)
    assert {name: share for name, share in seen.causes.items() if share} == ({cause: 0.25} if cause else {})
    assert seen.share == (0.25 if cause else 0)


def test_what_has_several_causes_counts_for_the_first():
    both = QUIET | {"stolen_ns": 400_000_000, "busy_ns": 900_000_000}
    seen = disturbance(spans(both, QUIET | {"busy_ns": 900_000_000}), 2)
    assert (seen.share, seen.causes["stolen"], seen.causes["other_processes"]) == (1, 0.5, 0.5)


def test_short_rounds_are_judged_together():
    """A tick in one of many short rounds is the clock's coarseness, not a disturbance."""
    quiet = {"busy_ns": 0, "own_ns": TICK_NS // 2}
    ticked = {"busy_ns": TICK_NS, "own_ns": TICK_NS // 2}
    assert disturbance([(0.01, span) for span in (quiet, ticked) * 100], 1).share == 0
    assert disturbance([(0.01, ticked)] * 200, 1).share == 1


def test_the_rest_of_a_run_belongs_to_what_came_before():
    busy = QUIET | {"busy_ns": 900_000_000}
    assert disturbance([(0.5, QUIET), (0.5, busy), (0.1, QUIET)], 2).share == pytest.approx(0.6 / 1.1)


def test_a_run_shorter_than_that_is_judged_as_it_is():
    assert disturbance([(0.1, {"busy_ns": 200_000_000, "own_ns": 100_000_000})], 2).share == 1


@pytest.mark.parametrize("nothing", [[], spans({}, {}), spans({"busy_ns": 1})])
def test_where_no_cause_can_be_read_the_share_is_unknown(nothing):
    seen = disturbance(nothing, 2)
    assert (seen.share, seen.causes) == (None, {})


def test_time_of_which_nothing_is_known_counts_neither_way():
    seen = disturbance(spans(QUIET, {}, QUIET | {"quota_us": 400_000}), 2)
    assert seen.share == 0.5


def test_totals_name_what_could_not_be_read():
    first = {"stolen_ns": 1_000_000}
    seen = disturbance(spans(first, first | {"busy_ns": 5_000, "own_ns": 9_000}), 2)
    assert seen.totals == {
        "stolen_seconds": pytest.approx(0.002),
        "other_cpu_seconds": 0,
        "quota_seconds": None,
    }


def test_two_readings_of_a_played_machine_make_a_disturbance(played):
    before = played.machine.read()
    played.stat(user=101, steal=0)
    played.own_ns = 1_000_000_000
    span = 1.0, grown(before, played.machine.read())
    assert disturbance([span], played.machine.cpus).totals["other_cpu_seconds"] == pytest.approx(200 - 1)


GRANDCHILD = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", work]) if "ended" in sys.argv else subprocess.Popen([sys.executable, "-c", work])
print("done", flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("which", ["ended", "living"])
def test_the_cpu_time_of_grandchildren_is_ours(which):
    """As the workers of a loader at another commit are: they end and are replaced while we measure."""
    before = activity.tree_cpu_ns()
    command = [sys.executable, "-c", GRANDCHILD, which]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        deadline = time.monotonic() + 60
        while activity.tree_cpu_ns() - before < 300_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.communicate(b"\n")
    if which == "ended":
        assert activity.tree_cpu_ns() - before >= 300_000_000
