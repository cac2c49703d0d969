"""The runs of a table in the order of git's history, one column for each commit and environment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from pytest_loaderperf.errors import ResultError, printable
from pytest_loaderperf.history import repository
from pytest_loaderperf.history.table import Facts, Table

_LEAST_DIGITS = 4  # of a commit's name, as for git: fewer, or none, would mean any commit
Place = tuple[float, int, float]
"""In HEAD's history, whether ordered by time after that commit, and that time."""


class Column(NamedTuple):
    """Runs of one commit in one environment. ``commit``: None outside git. ``subject``: empty if it is not known."""

    place: Place
    commit: str | None
    subject: str
    facts: Facts
    runs: tuple[int, ...]


class Timeline(NamedTuple):
    """The columns in order, the commits of HEAD's history, and remarks on the order and on what was left out."""

    columns: list[Column]
    commits: list[repository.Commit]
    remarks: list[str]

    def since(self, folder: Path, ref: str) -> Place:
        """The place of a commit. Raises ResultError if it is neither in HEAD's history nor among the results."""
        name = repository.resolve(folder, ref) or ref
        for i, commit in enumerate(self.commits):
            if commit.name == name:
                return (i, 0, 0.0)
        found = [column.place for column in self.columns if column.commit and column.commit.startswith(name)]
        if not found or len(name) < _LEAST_DIGITS:
            got = printable(ref) or "an empty text"
            raise ResultError(f"--since: expected a commit of HEAD's history, or one that was measured, got {got}.")
        return max(found)


def repository_of(table: Table, folders: Sequence[Path]) -> Path:
    """The one of these folders whose repository has most of the commits, else the first."""
    names = {run.commit for run in table.runs}
    return max(folders, key=lambda folder: len(names & {commit.name for commit in repository.commits(folder)}))


def timeline(table: Table, folder: Path) -> Timeline:
    """The runs in the order of the history of the repository around ``folder``; by time what it does not know."""
    commits = repository.commits(folder)
    index = {commit.name: i for i, commit in enumerate(commits)}
    measured = [number for number, run in enumerate(table.runs) if not run.dirty]
    absent = {run.commit for run in table.runs if run.commit is not None and run.commit not in index}
    elsewhere = repository.known(folder, absent) if commits and absent else set()
    kept = [number for number in measured if table.runs[number].commit not in elsewhere]
    latest = list(accumulate((commit.time_s for commit in commits), max))
    groups: dict[tuple[object, ...], tuple[Place, list[int]]] = {}
    for number in kept:
        run = table.runs[number]
        place = _place(run, index, latest)
        key = (number,) if run.commit is None else (run.commit, *run.environment)
        groups.setdefault(key, (place, []))[1].append(number)
    columns = []
    for place, numbers in sorted(groups.values()):
        facts = table.runs[numbers[-1]]
        subject = "" if facts.commit not in index else commits[index[facts.commit]].subject
        columns.append(Column(place, facts.commit, subject, facts, tuple(numbers)))
    remarks = [*table.remarks, *_left_out(len(table.runs) - len(measured), len(measured) - len(kept))]
    return Timeline(columns, commits, [*remarks, *_ordered(columns, folder, commits)])


def commit_count(columns: Sequence[Column]) -> int:
    """Of how many commits these are: a commit has a column for each environment."""
    return len({column.commit or id(column) for column in columns})


def _place(run: Facts, index: dict[str, int], latest: Sequence[float]) -> Place:
    if run.commit in index:
        return (index[run.commit], 0, 0.0)
    return (bisect_right(latest, run.commit_time_s) - 1, 1, run.commit_time_s)


def _left_out(dirty: int, elsewhere: int) -> list[str]:
    remarks = []
    if dirty:
        remarks.append(f"left out, with changes that were not committed: {dirty:,} of the runs")
    if elsewhere:
        remarks.append(f"left out, of commits that are not in HEAD's history: {elsewhere:,} of the runs")
    return remarks


def _ordered(columns: Sequence[Column], folder: Path, commits: Sequence[repository.Commit]) -> list[str]:
    by_time, count = commit_count([column for column in columns if column.place[1]]), commit_count(columns)
    if not by_time:
        return []
    which = "the commits" if by_time == count else f"{by_time:,} of {count:,} commits"
    if not commits:
        return [f"{which} are ordered by time: there is no git repository here"]
    shallow = ", which is shallow (git fetch --unshallow)" if repository.is_shallow(folder) else ""
    return [f"{which} are ordered by time: not in the repository here{shallow}"]
