"""Results of earlier runs, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, NamedTuple, Self

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.history.repository import Checkout, checkout
from pytest_loaderperf.history.table import MOST_VALUE, Facts, Metric, Table

FOLDER = ".loaderperf"
FILE = "history.sqlite3"
_APPLICATION = 0x4C504552  # "LPER", in the header of the file
_VERSION = 1
_WAITS_S = 20.0  # for another writer
_CPU = "cpu"  # the device of most runs, which is not named
_PRIMARY = 0xFF  # of an error code of SQLite, the part that says what kind it is
_OF_THE_PLACE = (  # errors that the file's content is not the reason for
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
)
_SCHEMA = """
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,          -- of the run, in seconds since 1970
    commit_id TEXT,              -- null: outside git
    commit_time REAL,
    branch TEXT,                 -- null: detached head
    dirty INTEGER,               -- 1: with changes that are not committed; null: not known
    machine TEXT NOT NULL,       -- the fingerprint of the hardware
    torch TEXT, driver TEXT, base_commit TEXT, alpha REAL, partial INTEGER,
    facts TEXT NOT NULL          -- the result's "machine", as JSON
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    result INTEGER NOT NULL REFERENCES results ON DELETE CASCADE,
    commit_id TEXT, nodeid TEXT NOT NULL, loader TEXT, batch_size INTEGER, device TEXT
);
CREATE INDEX runs_by_commit ON runs (commit_id, nodeid);
CREATE INDEX runs_by_result ON runs (result);
CREATE TABLE metrics (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    side TEXT NOT NULL, metric TEXT NOT NULL, value REAL, low REAL, high REAL, n INTEGER, unit TEXT NOT NULL,
    PRIMARY KEY (run, side, metric)
) WITHOUT ROWID;
CREATE TABLE claims (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    number INTEGER NOT NULL,
    claim TEXT NOT NULL, verdict TEXT NOT NULL, failed INTEGER, estimate REAL, low REAL, high REAL, needed REAL,
    unit TEXT, pairs INTEGER, alpha REAL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
"""
_CLAIM = ("claim", "verdict", "failed", "estimate", "low", "high", "needed", "unit", "pairs", "alpha")
_METRIC = ("value", "low", "high", "n", "unit")


class StoreError(LoaderPerfError):
    """The store cannot be read or written: it is damaged, of another program, or of a newer version."""


def keep(document: Mapping[str, Any], root: Path, time_s: float, most: int) -> None:
    """Add a result to the store of the project at ``root``, which then has ``most`` results at most.

    The store's folder is made if it is missing, such that git ignores it. Raises OSError or StoreError.
    """
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    if not (folder / FILE).exists():
        with suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as ignored:
            ignored.write("*\n")
    with Store(folder / FILE, writes=True) as store:
        store.append(document, checkout(root), time_s, most)


class Kept(NamedTuple):
    """What the newest run of a test at a commit measured: by side and metric, and its claims."""

    metrics: dict[tuple[str, str], dict[str, Any]]
    claims: list[dict[str, Any]]


class Store:
    """The results in ``file``; with ``writes`` it is made if it is missing. Close it, or use it in a ``with``.

    Any number of processes may read and write at the same time: a writer waits for another, readers never do.
    Raises StoreError.
    """

    def __init__(self, file: Path, *, writes: bool = False) -> None:
        self.file = file
        with self._explained():
            self._database = _opened_to_write(file) if writes else _opened_to_read(file)
            try:
                self._check()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()

    def _check(self) -> None:
        ask = self._database.execute
        if not self.file.stat().st_size:
            raise StoreError(
                f"{self.file}: expected results of earlier runs, got an empty file. Remove it, and the next run of "
                "pytest --loaderperf makes a new one."
            )
        if ask("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise StoreError(f"{self.file}: expected results of earlier runs, got a database of another program.")
        version = ask("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise StoreError(
                f"{self.file}: expected results in version {_VERSION}, got version {version}. "
                "Use the version of pytest-loaderperf that wrote it, or move the file away."
            )

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is written in the block is in the file as a whole, or not at all."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # SQLite ends it by itself where the disk is full
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def append(self, document: Mapping[str, Any], of: Checkout, time_s: float, keep: int) -> None:
        """Add a result of ``--loaderperf-json``'s form, and remove the oldest beyond ``keep`` results."""
        machine = document["machine"]
        facts = Facts.of_machine(machine)
        row = {
            "time": time_s,
            "commit_id": document["commit"],
            "commit_time": of.time_s,
            "branch": of.branch,
            "dirty": of.dirty,
            "machine": facts.machine,
            "torch": facts.torch,
            "driver": facts.driver,
            "base_commit": document["base_commit"],
            "alpha": document["alpha"],
            "partial": document["partial"],
            "facts": json.dumps(machine),
        }
        with self._explained(), self._whole():
            result = self._insert("results", row)
            for run in document["runs"]:
                self._append_run(run, result, document["commit"])
            oldest = "SELECT id FROM results ORDER BY id DESC LIMIT -1 OFFSET ?"
            self._database.execute(f"DELETE FROM results WHERE id IN ({oldest})", (keep,))  # noqa: S608 constants

    def _append_run(self, run: Mapping[str, Any], result: int, commit: str | None) -> None:
        named = {key: run[key] for key in ("nodeid", "loader", "batch_size", "device")}
        number = self._insert("runs", {"result": result, "commit_id": commit, **named})
        for side in run["sides"]:
            for metric, entry in side["metrics"].items():
                known = {"run": number, "side": side["name"], "metric": metric}
                self._insert("metrics", known | {key: entry[key] for key in _METRIC})
        for i, claim in enumerate(run["claims"]):
            self._insert("claims", {"run": number, "number": i} | {key: claim[key] for key in _CLAIM})

    def _insert(self, table: str, row: Mapping[str, Any]) -> int:
        """The row's id."""
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        inserted = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 names are ours
        return self._database.execute(inserted, tuple(row.values())).lastrowid or 0

    def newest(self, commit: str, nodeid: str) -> Kept | None:
        """What was measured last for a test at a commit; None: nothing. Takes as long however much is kept."""
        found = "SELECT id FROM runs WHERE commit_id = ? AND nodeid = ? ORDER BY id DESC LIMIT 1"
        with self._explained():
            run = self._database.execute(found, (commit, nodeid)).fetchone()
            if run is None:
                return None
            columns = f"SELECT side, metric, {', '.join(_METRIC)} FROM metrics WHERE run = ?"  # noqa: S608 constants
            metrics = {
                row[:2]: dict(zip(_METRIC, row[2:], strict=True)) for row in self._database.execute(columns, run)
            }
            columns = f"SELECT {', '.join(_CLAIM)} FROM claims WHERE run = ? ORDER BY number"  # noqa: S608 constants
            claims = [dict(zip(_CLAIM, row, strict=True)) for row in self._database.execute(columns, run)]
        return Kept(metrics, claims)

    def table(self, side: str = "loader") -> Table:
        """All values of one side's metrics. What was measured on another device than the CPU is a test of its own."""
        with self._explained():
            results = self._database.execute(
                "SELECT id, commit_id, coalesce(commit_time, time), time, machine, torch, driver, dirty FROM results"
            ).fetchall()
            facts = [Facts(*row[1:]) for row in results]
            if strange := next((fact for fact in facts if not fact.is_sound), None):
                raise sqlite3.DataError(f"a result of {strange.commit!r} at {strange.commit_time_s!r}")
            column = {row[0]: i for i, row in enumerate(results)}
            runs = {
                run: (nodeid if device in (None, _CPU) else f"{nodeid} ({device})", column[result])
                for run, nodeid, device, result in self._database.execute("SELECT id, nodeid, device, result FROM runs")
                if result in column  # another process may have added one
            }
            cells = self._database.execute(
                # n is 0 for what was not measured, such as the ratio of a loader to itself.
                "SELECT run, metric, unit, value FROM metrics WHERE side = ? AND n > 0 AND value BETWEEN ? AND ?",
                (side, -MOST_VALUE, MOST_VALUE),
            )
            rows: defaultdict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
            for run, metric, unit, value in cells:  # of a thousand runs a few 100,000: a join takes half as long again
                if found := runs.get(run):
                    rows[found[0], metric, unit][found[1]] = value
            if strange_name := next((key for key in rows if not all(isinstance(name, str) for name in key)), None):
                raise sqlite3.DataError(f"a metric with the name {strange_name!r}")
        return Table(facts, {Metric(*key): row for key, row in rows.items()})

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite as StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY in _OF_THE_PLACE:
                raise StoreError(f"{self.file}: {error}. Expected a folder and a file that can be used.") from None
            raise StoreError(
                f"{self.file}: expected results of earlier runs, got a damaged or foreign file: {error}. "
                "Move it away, and the next run makes a new one."
            ) from None


def _opened_to_write(file: Path) -> sqlite3.Connection:
    if not file.exists():
        _make(file)
    database = sqlite3.connect(file, timeout=_WAITS_S, isolation_level=None)
    database.execute("PRAGMA foreign_keys = ON")
    return database


def _make(file: Path) -> None:
    """An empty store, which appears as a whole: two processes that switch a file to WAL at once wait for each other."""
    scratch = file.with_name(f".{file.name}.{token_hex(8)}")
    try:
        with closing(sqlite3.connect(scratch)) as database:
            database.execute("PRAGMA journal_mode = WAL")  # readers read while a run writes
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        try:
            file.hardlink_to(scratch)
        except FileExistsError:
            pass  # another process was faster
        except OSError:  # a file system without links
            scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


def _opened_to_read(file: Path) -> sqlite3.Connection:
    """A connection that changes no result. Where SQLite cannot make its own files, nobody can write either.

    ``mode=ro`` would leave these files behind.
    """
    address = file.resolve().as_uri()
    for mode in ("mode=rw", "mode=ro&immutable=1"):
        database = sqlite3.connect(f"{address}?{mode}", uri=True, timeout=_WAITS_S, isolation_level=None)
        try:
            database.execute("PRAGMA query_only = ON")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            database.close()
            if "immutable" in mode or not file.exists():
                raise
        except BaseException:
            database.close()
            raise
        else:
            return database
    raise AssertionError
