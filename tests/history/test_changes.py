"""What a step means: worse or better, since which commits, and whether the code is the cause."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.history import Store
from pytest_loaderperf.history import repository as asked_of_git
from pytest_loaderperf.history.changes import find_changes
from pytest_loaderperf.history.table import Facts, Metric, Table
from pytest_loaderperf.history.timeline import repository_of, timeline
from tests.history.made import BEGIN_S, DAY_S, commits, fill

COUNT = 60


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with 60 commits, and their names."""
    folder = tmp_path_factory.mktemp("repository")
    return folder, commits(folder, COUNT)


def levels(*parts, seed=0, deviation=0.01):
    """Parts of ``(points, level)``, each value times noise."""
    values = np.concatenate([np.full(points, float(level)) for points, level in parts])
    return list(values * np.exp(deviation * np.random.default_rng(seed).standard_normal(len(values))))


def table_of(names, metric, values, facts=lambda _i: {}):
    known = Facts(None, 0.0, 0.0, "m", "2.13", None)
    runs = [
        known._replace(commit=name, commit_time_s=BEGIN_S + i * DAY_S, time_s=BEGIN_S + i * DAY_S, **facts(i))
        for i, name in enumerate(names)
    ]
    return Table(runs, {metric: dict(enumerate(values))})


def only_change(table, folder, **how):
    (series,) = find_changes(table, timeline(table, folder), **how)
    (change,) = series.changes
    return change


@pytest.mark.parametrize(
    "name, unit, factor, worse",
    [
        ("throughput", "samples/s", 0.8, True),
        ("throughput", "samples/s", 1.25, False),
        ("batch_latency_p50", "s", 1.25, True),
        ("batch_latency_p50", "s", 0.8, False),
        ("data_wait", "1", 1.25, True),
        ("roofline_fraction", "1", 0.8, True),
        ("peak_memory", "B", 1.25, True),
    ],
)
def test_worse_is_meant_as_the_user_means_it(repository, name, unit, factor, worse):
    folder, names = repository
    values = levels((30, 10.0), (30, 10.0 * factor))
    change = only_change(table_of(names, Metric("test_a", name, unit), values), folder)
    assert (change.at.commit, change.worse, change.regression) == (names[30], worse, worse)
    assert change.low < 100 * (factor - 1) < change.high
    assert (change.before_at.commit, change.at.subject) == (names[29], "Change 30")


def test_less_is_better_in_asv(repository):
    folder, names = repository
    values = levels((30, 10.0), (30, 8.0))
    assert not only_change(table_of(names, Metric("a", "track_ratio", "1", asv=True), values), folder).worse


def test_a_change_between_commits_that_were_not_measured_is_a_range(repository):
    folder, names = repository
    measured = [*names[:20:2], *names[24::2]]
    values = levels((10, 1.0), (len(measured) - 10, 1.3))
    change = only_change(table_of(measured, Metric("t", "epoch", "s"), values), folder)
    assert (change.before_first.commit, change.last.commit, change.commits) == (names[18], names[24], 6)


@pytest.mark.parametrize(
    "facts, named",
    [
        ({"machine": "other"}, "another machine"),
        ({"torch": "2.14"}, "another torch (2.13 -> 2.14)"),
        ({"driver": "9"}, "another driver"),
    ],
)
def test_what_else_changed_is_named_and_is_no_regression(repository, facts, named):
    folder, names = repository
    table = table_of(names, Metric("t", "epoch", "s"), levels((30, 1.0), (30, 1.3)), lambda i: facts if i >= 30 else {})
    change = only_change(table, folder)
    assert (change.coincides, change.worse, change.regression) == ((named,), True, False)


def test_alternating_machines_are_separate_series(repository):
    folder, names = repository
    values = [value * (1 + i % 2) for i, value in enumerate(levels((40, 1.0), (20, 1.4)))]
    table = table_of(names, Metric("t", "epoch", "s"), values, lambda i: {"machine": "ab"[i % 2]})
    found = find_changes(table, timeline(table, folder))
    assert [[change.at.commit for change in series.changes] for series in found] == [[names[40]], [names[41]]]
    assert all(change.regression for series in found for change in series.changes)


def test_a_regression_that_was_fixed_is_none(repository):
    folder, names = repository
    table = table_of(names, Metric("t", "epoch", "s"), levels((20, 1.0), (20, 1.3), (20, 1.02)))
    (series,) = find_changes(table, timeline(table, folder))
    assert [(c.worse, c.recovered, c.regression) for c in series.changes] == [
        (True, True, False),
        (False, False, False),
    ]


def test_since_leaves_out_earlier_changes(repository):
    folder, names = repository
    table = table_of(names, Metric("t", "epoch", "s"), levels((20, 1.0), (20, 1.3), (20, 1.7)))
    order = timeline(table, folder)
    (series,) = find_changes(table, order, since=order.since(folder, names[25][:9]))
    assert [change.at.commit for change in series.changes] == [names[40]]
    (series,) = find_changes(table, order, since=order.since(folder, "HEAD"))
    assert series.changes == []
    with pytest.raises(ResultError, match=r"--since: expected a commit of HEAD's history, or one .*, got nothing\."):
        order.since(folder, "nothing")


@pytest.mark.parametrize("ref", ["", "1", "abc"])
def test_since_takes_nothing_for_any_commit(repository, ref):
    folder, _ = repository
    absent = [f"{'abc1'[i % 4 :]}{i:040d}"[:40] for i in range(12)]  # of another clone: some begin with these digits
    order = timeline(table_of(absent, Metric("t", "epoch", "s"), [1.0] * 12), folder)
    assert order.since(folder, absent[0][:4]) in [column.place for column in order.columns]
    with pytest.raises(ResultError, match=r"--since: expected a commit .* got (an empty text|1|abc)\."):
        order.since(folder, ref)


def test_changes_beyond_all_measurements_are_still_numbers(repository):
    folder, names = repository
    for values in ([1e-300] * 30 + [1e90] * 30, list(np.exp(9.0 * np.arange(-30, 30)))):
        table = table_of(names, Metric("t", "epoch", "s"), values)
        (series,) = find_changes(table, timeline(table, folder))
        assert np.isfinite([*series.levels, series.drift_percent, *(change.high for change in series.changes)]).all()


def test_values_that_are_not_positive_step_in_their_own_unit(repository):
    folder, names = repository
    values = [0.0 if i % 7 == 0 and i < 30 else value for i, value in enumerate(levels((30, 0.1), (30, 0.5)))]
    change = only_change(table_of(names, Metric("t", "data_wait", "1"), values), folder)
    assert (change.at.commit, change.worse) == (names[30], True)


def test_several_runs_of_a_commit_count_as_their_median(repository):
    folder, names = repository
    table = table_of([*names, *names, *names], Metric("t", "epoch", "s"), [1.0] * COUNT + [1.1] * COUNT + [9.0] * COUNT)
    (series,) = find_changes(table, timeline(table, folder))
    assert series.values == [1.1] * COUNT


def test_a_ratio_to_the_base_is_no_series(tmp_path):
    names = commits(tmp_path, 8)
    fill(tmp_path, names, {"base_ratio": [1.0] * 8, "against_ratio": [0.9] * 8})
    with Store(tmp_path / ".loaderperf" / "history.sqlite3") as store:
        table = store.table()
    assert [series.metric.name for series in find_changes(table, timeline(table, tmp_path))] == ["against_ratio"]


def shuffled(names):
    return [names[(i * 7) % COUNT] for i in range(COUNT)]


def test_commits_are_in_the_order_of_git_whenever_they_were_measured(repository):
    folder, names = repository
    order = timeline(table_of(shuffled(names), Metric("t", "epoch", "s"), [1.0] * COUNT), folder)
    assert [column.commit for column in order.columns] == names
    assert order.remarks == []


def test_without_git_the_order_is_that_of_time(tmp_path):
    names = [f"{i:040x}" for i in range(5)]
    order = timeline(table_of(names, Metric("t", "epoch", "s"), [1.0] * 5), tmp_path)
    assert [column.commit for column in order.columns] == names
    assert order.remarks == ["the commits are ordered by time: there is no git repository here"]


def test_runs_outside_git_are_separate_columns(tmp_path):
    order = timeline(table_of([None] * 3, Metric("t", "epoch", "s"), [1.0] * 3), tmp_path)
    assert [column.runs for column in order.columns] == [(0,), (1,), (2,)]


def test_a_commit_that_the_repository_does_not_have_is_placed_by_time(repository):
    folder, names = repository
    mixed = [*names[:30], "f" * 40, *names[31:]]
    order = timeline(table_of(mixed, Metric("t", "epoch", "s"), [1.0] * COUNT), folder)
    assert [column.commit for column in order.columns] == mixed
    assert order.remarks == ["1 of 60 commits are ordered by time: not in the repository here"]
    on_two = table_of([*mixed, *mixed], Metric("t", "epoch", "s"), [1.0] * 120, lambda i: {"machine": "ab"[i >= COUNT]})
    assert timeline(on_two, folder).remarks == order.remarks


def test_a_shallow_clone_is_named(repository, tmp_path):
    folder, names = repository
    subprocess.run(["git", "clone", "-q", "--depth", "5", folder.as_uri(), tmp_path / "clone"], check=True)
    order = timeline(table_of(names, Metric("t", "epoch", "s"), [1.0] * COUNT), tmp_path / "clone")
    assert [column.commit for column in order.columns] == names
    assert order.remarks == [
        "55 of 60 commits are ordered by time: not in the repository here, which is shallow (git fetch --unshallow)"
    ]


def test_a_detached_head_shows_its_own_history(repository, tmp_path):
    folder, names = repository
    subprocess.run(["git", "clone", "-q", folder.as_uri(), tmp_path / "clone"], check=True)
    subprocess.run(["git", "-C", tmp_path / "clone", "checkout", "-q", names[9]], check=True)
    order = timeline(table_of(names, Metric("t", "epoch", "s"), [1.0] * COUNT), tmp_path / "clone")
    assert [column.commit for column in order.columns] == names[:10]
    assert order.remarks == ["left out, of commits that are not in HEAD's history: 50 of the runs"]


def test_changes_that_were_not_committed_are_left_out(tmp_path):
    names = commits(tmp_path, 3)
    fill(tmp_path, names, {"epoch": [1.0] * 3})
    fill(tmp_path, names, {"epoch": [2.0] * 3}, dirty=True)
    with Store(tmp_path / ".loaderperf" / "history.sqlite3") as store:
        table = store.table()
    order = timeline(table, tmp_path)
    assert find_changes(table, order)[0].values == [1.0] * 3
    assert order.remarks == ["left out, with changes that were not committed: 3 of the runs"]


def test_a_repository_that_shows_signatures_is_read(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    names = commits(tmp_path, 2)
    for setting in ("gpg.format=ssh", f"user.signingKey={key}", "commit.gpgSign=true", "log.showSignature=true"):
        git("config", *setting.split("=", 1))
    git("-c", "user.name=n", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "signed")
    listed = asked_of_git.commits(tmp_path)
    assert [commit.subject for commit in listed] == ["Change 0", "Change 1", "signed"]
    assert [commit.name for commit in listed[:2]] == names
    assert asked_of_git.checkout(tmp_path).time_s == listed[-1].time_s
    assert asked_of_git.commit_date_ms(tmp_path, "HEAD") == listed[-1].time_s * 1000


def test_the_repository_that_knows_the_commits_is_taken(repository, tmp_path):
    folder, names = repository
    commits(tmp_path, 2)
    table = table_of(names[:3], Metric("t", "epoch", "s"), [1.0] * 3)
    assert repository_of(table, [tmp_path, folder]) == folder
    assert repository_of(table, [tmp_path, tmp_path / "none"]) == tmp_path
