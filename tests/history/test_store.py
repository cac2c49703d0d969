"""Results are kept, found again, and never lost to another writer, a damaged file or a full disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import ExitStack

import pytest

from pytest_loaderperf.diagnosis import growth
from pytest_loaderperf.history import Store, StoreError, keep
from pytest_loaderperf.history.repository import Checkout
from tests.history.made import document

NODEID = "test_a.py::test_it[8-ä]"
AT = Checkout(1.0, "main", False)
WRITER = """
import sys
from pathlib import Path
from pytest_loaderperf.history import Store
from pytest_loaderperf.history.repository import Checkout
from tests.history.made import document
for i in range(20):
    with Store(Path(sys.argv[1]), writes=True) as store:
        store.append(document(sys.argv[2], {"throughput": float(i)}), Checkout(), 1.0, 1000)
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "history.sqlite3"


def test_what_was_kept_is_found_by_commit_and_test(file):
    claim = {"claim": "throughput >= 1", "verdict": "PASS", "failed": False, "estimate": 2.0, "low": 1.5, "high": None}
    claim |= {"needed": 1.0, "unit": "samples/s", "pairs": 9, "alpha": 0.001}
    made = document("abc", {"throughput": 7.0, "first_batch": 0.5})
    made["runs"][0]["claims"] = [claim]
    with Store(file, writes=True) as store:
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
        store.append(made, AT, 2.0, 10)
        store.append(document("def", {"throughput": 3.0}), AT, 3.0, 10)
    with Store(file) as store:
        kept = store.newest("abc", NODEID)
        assert kept.metrics["loader", "throughput"] == {
            "value": 7.0,
            "low": 7.0,
            "high": None,
            "n": 5,
            "unit": "samples/s",
        }
        assert kept.claims == [claim]
        assert store.newest("abc", "test_b.py::test_it") is None
        assert store.newest("none", NODEID) is None


def test_a_look_up_takes_as_long_however_much_is_kept(tmp_path):
    """Each step of SQLite's machine calls a function of Python, which ``growth`` counts."""

    def look_up(count):
        store = opened.enter_context(Store(tmp_path / f"{count}.sqlite3", writes=True))
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
        database = store._database
        with store._whole():
            rows = [(1, f"commit {i // 10}", f"test_{i % 10}") for i in range(count)]
            database.executemany("INSERT INTO runs (result, commit_id, nodeid) VALUES (?, ?, ?)", rows)
            database.execute(
                "INSERT INTO metrics SELECT id, 'loader', 'throughput', 1.0, 1.0, 1.0, 5, 's' FROM runs WHERE id > 1"
            )
        database.set_progress_handler(lambda: 0, 1)
        middle = count // 2
        assert store.newest(f"commit {middle // 10}", f"test_{middle % 10}").metrics
        return lambda: store.newest(f"commit {middle // 10}", f"test_{middle % 10}")

    with ExitStack() as opened:
        assert growth(look_up, sizes=[100, 1_000, 10_000, 100_000]).exponent < 0.1


def test_the_oldest_results_are_removed_with_their_values(file):
    with Store(file, writes=True) as store:
        for i in range(7):
            store.append(document(f"c{i}", {"throughput": float(i)}), AT, float(i), 3)
        assert [run.commit for run in store.table().runs] == ["c4", "c5", "c6"]
        assert store._database.execute("SELECT count(*) FROM runs").fetchone() == (3,)
        assert store._database.execute("SELECT count(*) FROM metrics").fetchone() == (3,)


def test_a_reader_reads_while_another_writes(file):
    with Store(file, writes=True) as writer:
        writer.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
        with writer._whole(), Store(file) as reader:
            writer._append_run(document("abc", {"throughput": 2.0})["runs"][0], 1, "abc")
            assert reader.newest("abc", NODEID).metrics["loader", "throughput"]["value"] == 1.0


def test_two_writers_lose_nothing(file):
    command = [sys.executable, "-c", WRITER, str(file)]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in ("a" * 40, "b" * 40)]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [b"", b""]
    with Store(file) as store:
        assert sorted(run.commit[0] for run in store.table().runs) == ["a"] * 20 + ["b"] * 20


def test_a_file_system_without_links_has_a_store_too(file, monkeypatch):
    def refuse(_self, _target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(type(file), "hardlink_to", refuse)
    with Store(file, writes=True) as store:
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
    assert list(file.parent.iterdir()) == [file]


def test_a_result_is_added_as_a_whole_or_not_at_all(file):
    broken = document("abc", {"throughput": 1.0})
    broken["runs"].append({"nodeid": "test_b.py::test_it"})
    with Store(file, writes=True) as store:
        with pytest.raises(KeyError):
            store.append(broken, AT, 1.0, 10)
        store.append(document("def", {"throughput": 1.0}), AT, 1.0, 10)
        assert [run.commit for run in store.table().runs] == ["def"]
        assert store._database.execute("SELECT count(*) FROM runs").fetchone() == (1,)


@pytest.mark.parametrize(
    "content, words",
    [
        (
            b"not a database, but long enough to look at" * 99,
            "expected results of earlier runs, got a damaged or foreign",
        ),
        (b"SQLite format 3\0" + bytes(5000), "expected results of earlier runs, got a d"),
    ],
)
def test_a_damaged_file_is_said_and_stays(file, content, words):
    file.write_bytes(content)
    for writes in (False, True):
        with pytest.raises(StoreError, match=words):
            Store(file, writes=writes)
    assert file.read_bytes() == content


def test_a_file_that_is_cut_off_is_said(file):
    with Store(file, writes=True) as store:
        for i in range(50):
            store.append(document("abc", {"throughput": float(i)}), AT, 1.0, 100)
    file.write_bytes(file.read_bytes()[:9000])
    with (
        pytest.raises(StoreError, match="expected results of earlier runs, got a damaged or foreign file"),
        Store(file, writes=True) as store,
    ):
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 100)


def test_a_database_of_another_program_is_left_alone(file):
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE results (theirs)")
    other.commit()
    other.close()
    for writes in (False, True):
        with pytest.raises(StoreError, match=r"expected results of earlier runs, got a database of another program\."):
            Store(file, writes=writes)


@pytest.mark.parametrize(
    "change, words",
    [
        ("DROP TABLE metrics", "no such table: metrics"),
        ("ALTER TABLE results DROP COLUMN driver", "no such column: driver"),
        ("UPDATE results SET commit_time = 'x'", "a result of 'abc' at 'x'"),
        ("UPDATE results SET time = 9e999, commit_time = NULL", "a result of 'abc' at inf"),
        ("UPDATE results SET torch = x'00'", "a result of 'abc' at 1.0"),
        ("UPDATE runs SET nodeid = x'00'", "a metric with the name"),
    ],
)
def test_content_of_another_kind_is_said(file, change, words):
    with Store(file, writes=True) as store:
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
        store._database.execute(change)
    with Store(file) as store, pytest.raises(StoreError, match=words) as caught:
        store.table()
    assert "expected results of earlier runs, got a damaged or foreign file" in str(caught.value)
    assert str(caught.value).endswith("Move it away, and the next run makes a new one.")


def test_what_was_not_measured_has_no_history(file):
    made = document("abc", {"throughput": 1.0, "dataloader_ratio": 1.0})
    made["runs"][0]["sides"][0]["metrics"]["dataloader_ratio"]["n"] = 0  # a loader to itself
    with Store(file, writes=True) as store:
        store.append(made, AT, 1.0, 10)
        assert [metric.name for metric in store.table().values] == ["throughput"]


def test_a_newer_version_is_left_alone(file):
    with Store(file, writes=True) as store:
        store._database.execute("PRAGMA user_version = 2")
    for writes in (False, True):
        with pytest.raises(StoreError, match=r"expected results in version 1, got version 2\. Use the version of"):
            Store(file, writes=writes)


def test_a_missing_file_is_not_made_by_a_reader(file):
    with pytest.raises(StoreError, match="unable to open database file"):
        Store(file)
    assert not file.exists()


def test_a_folder_without_permission_to_write_can_be_read(file, monkeypatch):
    """As root may write anywhere, SQLite's refusal to make its files is simulated."""
    with Store(file, writes=True) as store:
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
    connect = sqlite3.connect

    def refusing(address, **how):
        return Refusing() if address.endswith("mode=rw") else connect(address, **how)

    class Refusing:
        def execute(self, _statement):
            raise sqlite3.OperationalError("unable to open database file")

        def close(self):
            pass

    monkeypatch.setattr(sqlite3, "connect", refusing)
    with Store(file) as store:
        assert store.newest("abc", NODEID) is not None


def test_the_folder_is_made_such_that_git_ignores_it(tmp_path):
    keep(document(None, {"throughput": 1.0}), tmp_path, 1.0, 10)
    assert (tmp_path / ".loaderperf" / ".gitignore").read_text() == "*\n"
    (tmp_path / ".loaderperf" / ".gitignore").write_text("theirs")
    keep(document(None, {"throughput": 1.0}), tmp_path, 2.0, 10)
    assert (tmp_path / ".loaderperf" / ".gitignore").read_text() == "theirs"


def test_a_full_disk_is_said_and_what_was_kept_stays(file):
    with Store(file, writes=True) as store:
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
        store._database.execute(f"PRAGMA max_page_count = {store._database.execute('PRAGMA page_count').fetchone()[0]}")
        many = document("def", {"throughput": 1.0})
        many["runs"] *= 500
        with pytest.raises(StoreError, match="database or disk is full"):
            store.append(many, AT, 2.0, 10)
        assert [run.commit for run in store.table().runs] == ["abc"]


def test_errors_name_a_file_with_umlauts_and_spaces(tmp_path):
    file = tmp_path / "ä ö %41?.sqlite3"
    with Store(file, writes=True) as store:
        store.append(document("abc", {"throughput": 1.0}), AT, 1.0, 10)
    with Store(file) as store:
        assert store.newest("abc", NODEID) is not None
    assert list(tmp_path.iterdir()) == [file]
