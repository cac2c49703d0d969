"""``loaderperf data``."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from pyarrow import parquet

from pytest_loaderperf import cli
from pytest_loaderperf.data import workload, workload_names
from tests.data import stand_in


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    stand_in.put_in_place(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    status = cli.main(["data", *arguments])
    shown = capsys.readouterr()
    return status, shown.out.splitlines(), shown.err


def test_make_puts_a_workload_on_disk_and_says_where(folder, capsys):
    status, out, err = run(capsys, "make", "images", "-o", "t.parquet", "--samples", "20", "--seed", "3")
    assert (status, err) == (0, "")
    assert out[0].startswith("20 samples written to t.parquet: parquet, ")
    assert parquet.read_table("t.parquet").equals(workload("images", samples=20, seed=3).batches().read_all())


def test_make_takes_a_spec_and_a_format(folder, capsys):
    (folder / "mine.toml").write_text('factory = "arrays"\nsamples = 5\nshape = [2]\n')
    assert run(capsys, "make", "mine.toml", "-o", "table", "--format", "parquet")[0] == 0
    assert parquet.read_table("table").num_rows == 5


def test_make_replaces_by_force_alone(folder, capsys):
    (folder / "t.parquet").write_bytes(b"precious")
    arguments = ["make", "images", "-o", "t.parquet", "--samples", "5"]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, [])
    assert err == "loaderperf: t.parquet exists. Give another path, or --force (force=True) to replace it.\n"
    assert run(capsys, *arguments, "--force")[0] == 0


def test_an_interruption_is_said_and_no_traceback(capsys, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("pytest_loaderperf.data.workloads.make"), "checked_target", interrupted)
    status, out, err = run(capsys, "make", "images", "-o", "t.parquet")
    assert (status, out, err.splitlines()[-1]) == (130, [], "loaderperf: interrupted")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["make", "nope", "-o", "t.parquet"], "unknown workload 'nope'"),
        (["make", "images", "-o", "t.xyz"], "t.xyz is of no known format"),
        (["make", "images", "-o", "t.parquet", "--format", "zip"], "unknown format 'zip'"),
        (["check", "gone"], "gone does not exist"),
    ],
)
def test_what_cannot_be_done_as_asked_ends_with_2(capsys, arguments, words):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, [])
    assert err.startswith(f"loaderperf: {words}")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "the following arguments are required: COMMAND"),
        (["make", "images"], "the following arguments are required: -o/--output"),
        (["make", "images", "-o", "t", "--samples", "0"], "expected an integer of at least 1, got '0'"),
        (["make", "images", "-o", "t", "--seed", "-1"], "expected an integer of at least 0, got '-1'"),
        (["check", "t", "--shape", "3x4"], "expected sizes such as 100,100, got '3x4'"),
        (["check", "t", "--max-errors", "few"], "expected an integer of at least 0, got 'few'"),
    ],
)
def test_a_usage_error_ends_with_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_list_shows_the_workloads_and_the_formats(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    names = workload_names()
    assert [line.split()[0] for line in out[1 : len(names) + 1]] == names
    assert out[len(names) + 2 :] == [
        "format   suffix    installed",
        "parquet  .parquet  yes",
        "absent   .absent   no: pip install no-such-package",
    ]


def test_check_ends_with_0_where_all_is_good(capsys):
    stand_in.write_table(workload("images", samples=5).batches(), "t.parquet")
    arguments = ["--classes", "10", "--shape", "100,100", "--dtype", "uint16", "--workers", "1"]
    assert run(capsys, "check", "t.parquet", *arguments) == (
        0,
        ["t.parquet: 5 rows of (100, 100) uint16 checked, no problems"],
        "",
    )


def test_check_ends_with_1_and_the_first_problems_and_writes_all_of_it(folder, capsys):
    stand_in.write_table(workload("images", samples=50).batches(), "t.parquet")
    status, out, _ = run(capsys, "check", "t.parquet", "--classes", "1", "--max-errors", "2", "--json", "out/r.json")
    wrong = [row for row, label in enumerate(workload("images", samples=50).labels) if label]
    assert status == 1
    assert [line.split(":")[0] for line in out[:2]] == [f"t.parquet, row {row}, label" for row in wrong[:2]]
    assert out[2] == f"and {len(wrong) - 2} more"
    assert out[-1] == "result written to out/r.json"
    document = json.loads((folder / "out/r.json").read_text())
    assert (document["schema"], document["good"], document["found"]) == ("loaderperf-check/1", False, len(wrong))
    assert document["problems"][0]["row"] == wrong[0]


def test_a_result_that_cannot_be_written_is_refused_before_checking(folder, capsys):
    (folder / "r.json").mkdir()
    status, out, err = run(capsys, "check", ".", "--json", "r.json")
    assert (status, out) == (2, [])
    assert err == "loaderperf: --json: cannot write r.json. Expected the path of a file in a writable folder.\n"
