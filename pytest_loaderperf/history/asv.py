"""The measured tests of a result, as asv's results of its commit: ``asv publish``, ``show`` and ``compare`` read them.

asv itself is not needed to write them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pytest_loaderperf.arguments import is_of_the_system
from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.history import repository
from pytest_loaderperf.history.asv_files import (
    BENCHMARKS,
    BENCHMARKS_VERSION,
    MACHINE,
    MACHINE_VERSION,
    RESULT_VERSION,
    locked,
    read,
    read_results,
    result_files,
    write,
)
from pytest_loaderperf.history.asv_machine import machine_of
from pytest_loaderperf.history.asv_rows import (
    COLUMNS,
    MOST_CELLS,
    VERSION,
    Table,
    axes_of,
    benchmark_of,
    combination,
    figures_of,
    joined,
    parse,
    parts_of,
    row_of,
    table_of,
)

Json = dict[str, Any]
Document = Mapping[str, Any]
ENVIRONMENT = "loaderperf"  # how the names of our environments begin
_CONFIG = "asv.conf.json"
_MOST_ASKED = 50  # files of results that are looked at to see whose they are


@dataclass(frozen=True, slots=True)
class AsvTarget:
    """Where results go: a results ``directory`` of asv, for the repository at ``root``.

    ``refusal`` says why nothing will be written; "" if nothing speaks against it.
    """

    directory: Path
    root: Path
    dirty_ok: bool
    refusal: str = ""


def asv_target(directory: Path, root: Path, *, dirty_ok: bool) -> AsvTarget:
    """Check the place before anything is measured. Raises ResultError if nothing could be written to it."""
    commit = repository.head(root)
    _check(directory, root)
    for path in directory.glob(f"*/{commit[:8]}-{ENVIRONMENT}-*.json"):
        read_results(path)  # what will be added to must be readable
    return AsvTarget(directory, root, dirty_ok, "" if dirty_ok else _refusal(differences(commit, directory, root)))


def differences(commit: object, directory: Path, root: Path) -> str:
    """Which tracked files differ from ``commit``, if it is checked out at ``root``, in words; "" if none do.

    Results of asv in ``directory`` do not count. Raises ResultError outside a repository.
    """
    if commit != (head := repository.head(root)):
        return ""
    changed = repository.changed_files(root, directory)
    return repository.dirty_text(changed, head) if changed else ""


def write_asv(document: Document, directory: Path, *, root: Path, dirty_ok: bool = False) -> str:
    """Merge a result into a results folder of asv, and return what to tell the user.

    ``root``: a folder in the repository that the result's commit is in. Unless ``dirty_ok``, nothing is written if
    that commit is checked out there and tracked files differ from it. Raises ResultError; what was there then stays.
    """
    commit = document.get("commit")
    if not isinstance(commit, str) or not commit:
        raise ResultError(
            "expected the result of a git commit, got one that was measured outside a repository. "
            "asv needs a commit for each result."
        )
    if not document["runs"]:
        return "asv: nothing was measured, so nothing was written"
    differing = differences(commit, directory, root)
    date_ms = repository.commit_date_ms(root, commit)
    if differing and not dirty_ok:
        return _refusal(differing)
    with locked(directory):
        _check(directory, root)
        machine = machine_of(document["machine"], directory)
        folder = directory / machine["machine"]
        book = _Book(directory, read(directory / BENCHMARKS, BENCHMARKS_VERSION) or {"version": BENCHMARKS_VERSION})
        for device in dict.fromkeys(run["device"] for run in document["runs"]):
            header = _header(document["machine"], machine, device) | {"commit_hash": commit, "date": date_ms}
            path = folder / f"{commit[:8]}-{header['env_name']}.json"
            results = book.open(path, header)["results"]
            for function, by_id in _tests(document["runs"], device).items():
                book.merge(function, by_id, results)
        # Results first: asv ignores those of which benchmarks.json does not know yet.
        write(folder / MACHINE, machine | {"version": MACHINE_VERSION})
        count = book.close()
    return f"asv: {count} results of commit {commit[:8]} written to {directory}"


def _refusal(differing: str) -> str:
    if not differing:
        return ""
    return (
        f"asv: nothing was written: {differing}, so these are not its results. "
        "Commit first, or set loaderperf_asv_dirty = true."
    )


def _check(directory: Path, root: Path) -> None:
    """Raise ResultError for a folder that has something else, or results of another repository."""
    if (directory / _CONFIG).exists():
        raise ResultError(f"expected the results_dir of {_CONFIG}, got the folder {directory} that has this file.")
    existing = next((one for one in (directory, *directory.parents) if one.exists()), directory)
    if not existing.is_dir() or not os.access(existing, os.W_OK) or is_of_the_system(existing):
        raise ResultError(f"cannot write to {existing}. Expected a folder for asv's results that can be written to.")
    read(directory / BENCHMARKS, BENCHMARKS_VERSION)
    for path in directory.glob(f"*/{MACHINE}"):
        read(path, MACHINE_VERSION)
    commits = [path.name.partition("-")[0] for path in directory.glob("*/*-*.json")]
    asked = list(dict.fromkeys(commits))[:_MOST_ASKED]
    if asked and not repository.known(root, set(asked)) and not repository.is_shallow(root):
        raise ResultError(
            f"{directory} has results of {len(set(commits))} commits, such as {asked[0]}, and the repository at {root} "
            "has none of them: they are another project's. Give another folder."
        )


def _header(facts: Mapping[str, Any], machine: Mapping[str, str], device: str) -> Json:
    """What a file of results says besides them. asv draws a line of its own for each Python, torch and device."""
    python = ".".join(str(facts.get("python")).split(".")[:2])
    requirements = {"torch": str(facts.get("torch"))}
    on = {} if device == "cpu" else {"device": device}
    name = "-".join([ENVIRONMENT, f"py{python}", f"torch{requirements['torch']}", *on.values()])
    return {
        "version": RESULT_VERSION,
        "env_name": name,
        "params": {**machine, "python": python, **requirements, **on},
        "python": python,
        "requirements": requirements,
        "env_vars": {},
        "result_columns": list(COLUMNS),
        "results": {},
        "durations": {},
    }


def _tests(runs: Iterable[Document], device: str) -> dict[str, dict[str | None, Json]]:
    """The figures of each test, by its function and its parametrise id."""
    tests: dict[str, dict[str | None, Json]] = {}
    for run in runs:
        if run["device"] == device:
            test = parse(run["nodeid"])
            tests.setdefault(test.function, {})[test.id] = figures_of(run["metrics"])
    return tests


class _Book:
    """The benchmarks of the folder, and the files of results that change; ``close`` writes them."""

    def __init__(self, directory: Path, benchmarks: Json) -> None:
        self._directory, self._benchmarks = directory, benchmarks
        self._changed: dict[Path, Json] = {}
        self._started_ms = time.time_ns() // 1_000_000
        self._count = 0
        if not any(_is_ours(entry) for entry in benchmarks.values()):
            self._restore()

    def open(self, path: Path, header: Json) -> Json:
        """The file of results at ``path``, to be changed. Raises ResultError if another machine wrote it."""
        if path not in self._changed:
            there = read_results(path) or header
            if there["commit_hash"] != header["commit_hash"] or there["params"] != header["params"]:
                differ = [
                    f"{key}: {there['params'].get(key)!r}"
                    for key, value in header["params"].items()
                    if there["params"].get(key) != value
                ] or [f"commit {there['commit_hash']}"]
                raise ResultError(
                    f"{path}: expected results of this machine and commit, got {', '.join(differ)}. Give each machine "
                    "a name of its own: asv machine --yes --machine NAME"
                )
            self._changed[path] = there
        return self._changed[path]

    def _restore(self) -> None:
        """Find our benchmarks in the results: `asv run` drops those that are not in its suite."""
        for path in result_files(self._directory, ENVIRONMENT):
            for name, row in _our_rows(read_results(path)):
                before = self._benchmarks.get(name, {}).get("params", [])
                width = len(row[1])
                axes = axes_of(table_of(row), before if len(before) == width else [[] for _ in range(width)])
                function, _, metric = name.rpartition(".")
                self._benchmarks[name] = benchmark_of(function, metric, axes)

    def merge(self, function: str, by_id: Mapping[str | None, Json], results: Json) -> None:
        """Add the figures of a test, by its ids, to the ``results`` of a file."""
        ids = [one or "" for one in by_id] if any(one is not None for one in by_id) else []
        names = {f"{function}.{metric}" for figures in by_id.values() for metric in figures}
        before = self._axes(function)
        width = parts_of(ids) if ids else 0
        if before and width and not self._fits(before, ids, width):
            if len(before) > 1:
                self._join(function)
            width = 1
        for name in sorted(names):
            metric = name.rpartition(".")[2]
            known = self._benchmarks.get(name, {}).get("params", [])
            table = {key: old for key, old in table_of(results.get(name, [None, []])).items() if len(key) == width}
            for one, found in by_id.items():
                if metric in found:
                    table[combination(one or "", width)] = found[metric]
            axes = axes_of(table, known if len(known) == width else ())
            self._benchmarks[name] = benchmark_of(function, metric, axes)
            results[name] = row_of(table, self._started_ms)
            self._count += 1

    def _axes(self, function: str) -> list[list[str]]:
        """The parameters of a test so far: of the first of its benchmarks."""
        ours = (entry for entry in self._benchmarks.values() if _is_ours(entry))
        return next((entry["params"] for entry in ours if entry["name"].rpartition(".")[0] == function), [])

    @staticmethod
    def _fits(before: Sequence[Sequence[str]], ids: Iterable[str], width: int) -> bool:
        """Whether ids can be split as those before them were."""
        if len(before) != width:
            return False
        return width == 1 or prod(map(len, axes_of((combination(one, width) for one in ids), before))) <= MOST_CELLS

    def _join(self, function: str) -> None:
        """Make the parameters of a test one, also in all earlier results, which asv would not show otherwise."""
        seen: dict[str, dict[tuple[str, ...], None]] = {}
        for path in dict.fromkeys([*result_files(self._directory, ENVIRONMENT), *self._changed]):
            content = self._changed.get(path) or read_results(path)
            for name, row in _our_rows(content):
                if name.rpartition(".")[0] == function and row[1]:
                    table: Table = {(joined(key),): figures for key, figures in table_of(row).items()}
                    seen.setdefault(name, {}).update(dict.fromkeys(table))
                    if content and len(row[1]) > 1:
                        content["results"][name] = row_of(table, row[COLUMNS.index("started_at")])
                        self._changed[path] = content
        for name, keys in seen.items():
            self._benchmarks[name] = benchmark_of(function, name.rpartition(".")[2], axes_of(keys))

    def close(self) -> int:
        """Write everything, and return how many results there are."""
        for path, content in self._changed.items():
            write(path, content, compact=True)
        write(self._directory / BENCHMARKS, self._benchmarks)
        return self._count


def _our_rows(content: Json | None) -> list[tuple[str, list[Any]]]:
    """The rows in a file of results that we wrote, by their names."""
    results = content["results"] if content else {}
    place = COLUMNS.index("version")
    return [(name, row) for name, row in results.items() if len(row) > place and row[place] == VERSION]


def _is_ours(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("version") == VERSION
