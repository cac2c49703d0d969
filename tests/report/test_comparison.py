"""Two results side by side, and the table of loader engines."""

from __future__ import annotations

import json

import pytest

from pytest_loaderperf.cli import main
from pytest_loaderperf.report import write_json
from pytest_loaderperf.report.comparison import comparison, comparison_lines
from pytest_loaderperf.report.engines import engine_lines
from tests.report.made_results import HOSTILE, claim, entry, result, run, side

A = result(
    run(
        sides=[side("loader", throughput=100.0, batch_latency_p99=0.010), side("old", throughput=5.0)], claims=[claim()]
    ),
    run("test_it.py::test_gone"),
)
B = result(
    run(
        sides=[side("loader", throughput=50.0, batch_latency_p99=0.005, peak_memory=1024.0)],
        claims=[claim(verdict="FAIL"), claim("new")],
    ),
    run("test_it.py::test_new"),
    commit="def456",
)


def test_metrics_are_paired_with_ratio_and_direction():
    (test,) = comparison(A, B)["tests"]
    found = {(each["side"], each["metric"]): (each["ratio"], each["change"]) for each in test["metrics"]}
    assert found == {
        ("loader", "throughput"): (0.5, "worse"),
        ("loader", "batch_latency_p99"): (0.5, "better"),
        ("loader", "peak_memory"): (None, None),
        ("old", "throughput"): (None, None),
    }


def one_change(a, b):
    """How a throughput changes from the entry ``a`` to ``b``."""
    compared = comparison(*(result(run(sides=[side("loader", throughput=each)])) for each in (a, b)))
    return compared["tests"][0]["metrics"][0]["change"]


@pytest.mark.parametrize(
    "a, b, change",
    [
        (entry(100.0, "samples/s"), entry(150.0, "samples/s"), "better"),
        (entry(100.0, "samples/s"), entry(110.0, "samples/s"), "unclear"),
        (entry(100.0, "samples/s", None), entry(150.0, "samples/s", None), "unclear"),
        (entry(100.0, "samples/s", None), entry(100.0, "samples/s", None), "same"),
        (entry(100.0, "samples/s"), entry(150.0, "B/s"), None),
        (entry(100.0, "samples/s"), entry(None, "samples/s"), None),
        (entry(0.0, "samples/s"), entry(1.0, "samples/s"), None),
        (entry(100.0, "samples/s"), entry(float("nan"), "samples/s"), None),
    ],
)
def test_a_change_is_named_only_where_the_intervals_are_apart(a, b, change):
    assert one_change(a, b) == change


def test_verdicts_and_tests_of_only_one_are_kept():
    compared = comparison(A, B)
    assert compared["tests"][0]["claims"] == [
        {"claim": "throughput >= 100 samples/s", "a": "PASS", "b": "FAIL"},
        {"claim": "new", "a": None, "b": "PASS"},
    ]
    assert compared["only_in_a"] == ["test_it.py::test_gone"]
    assert compared["only_in_b"] == ["test_it.py::test_new"]


def texts(lines):
    return [line.text for line in lines]


def test_the_table_at_80_columns():
    lines = comparison_lines(comparison(A, B), ["a.json", "b.json"], 80)
    machine = comparison(A, B)["a"]["machine"]
    assert texts(lines) == [
        f"A  a.json  (commit abc123, machine {machine})",
        f"B  b.json  (commit def456, machine {machine})",
        "metric                       A         B  B / A",
        "test_it.py::test_it",
        "    throughput           100/s    50.0/s   0.50  worse",
        "    batch_latency_p99  10.0 ms   5.00 ms   0.50  better",
        "    peak_memory              -  1.00 KiB      -",
        "  old",
        "    throughput          5.00/s         -      -",
        "  PASS -> FAIL  throughput >= 100 samples/s",
        "  - -> PASS  new",
        "only in A: test_it.py::test_gone",
        "only in B: test_it.py::test_new",
        "Stored numbers show trends and are no gate: both sides of a verdict are measured",
        "in turns, in one run. For one: pytest --loaderperf --loaderperf-base=REF",
    ]
    assert [line.color for line in lines[4:6]] == ["red", "green"]


def test_intervals_are_left_out_where_they_have_no_room():
    for width in range(70, 120):
        lines = texts(comparison_lines(comparison(A, B), ["a.json", "b.json"], width))
        (row,) = [line for line in lines if "batch_latency_p99" in line]
        assert row.endswith("0.50  better")
        assert ("9.00 ms to 11.0 ms" in row) == (width >= 95)


def test_the_table_at_120_columns_has_intervals():
    lines = texts(comparison_lines(comparison(A, B), ["a.json", "b.json"], 120))
    assert ["throughput", "100/s", "90.0/s", "to", "110/s", "50.0/s", "45.0/s", "to", "55.0/s", "0.50", "worse"] in [
        line.split() for line in lines
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_hostile_names_are_escaped(width):
    hostile = result(
        run(HOSTILE, [side(HOSTILE, throughput=1.0)], [claim(HOSTILE)]), run("only" + HOSTILE), partial=True
    )
    other = result(run(HOSTILE, [side(HOSTILE, throughput=2.0)], [claim(HOSTILE, "FAIL")]), machine={"gpu": HOSTILE})
    lines = texts(comparison_lines(comparison(hostile, other), [HOSTILE, HOSTILE], width))
    assert all(len(line) <= width and line.isprintable() for line in lines)
    assert any("partial" in line for line in lines) or width < 80


def test_another_machine_and_other_versions_are_warned_of():
    limits = {"cpu.max": "200000 100000", "memory.max": None}
    moved = result(run(), machine={"cpu": "another CPU", "torch": "2.14", "container_limits": limits})
    (warning,) = [line for line in texts(comparison_lines(comparison(A, moved), "ab", 200)) if "warning" in line]
    assert warning == (
        "warning: the machines differ, so do not compare the figures: cpu a CPU / another CPU, container_limits none / "
        "cpu.max 200000 100000, torch 2.13.0+cpu / 2.14"
    )
    updated = result(run(), machine={"torch": "2.14"})
    (warning,) = [line for line in texts(comparison_lines(comparison(A, updated), "ab", 200)) if "warning" in line]
    assert warning == "warning: the software differs: torch 2.13.0+cpu / 2.14"


def test_results_without_a_common_test_say_so():
    lines = texts(comparison_lines(comparison(A, result(run("other"))), "ab", 80))
    assert "no test is in both results" in lines


def test_the_command_compares_two_files_and_never_fails_for_a_regression(tmp_path, capsys):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for document, file in zip((A, B), files, strict=True):
        write_json(document, file)
    assert main(["compare", *map(str, files), "--json", str(tmp_path / "c.json")]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "PASS -> FAIL" in printed
    assert json.loads((tmp_path / "c.json").read_text()) == comparison(A, B)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["a.json"], "expected two result files, or one dataset as MODULE:FACTORY, got 1: a.json"),
        (["a", "b", "c"], "expected two result files, or one dataset as MODULE:FACTORY, got 3: a b c"),
        (["a", "b", "--batch-size=2"], "--batch-size is for a dataset: expected MODULE:FACTORY, got two result files"),
        (["m:f", "--engines=x"], "--engines: expected some of dataloader, "),
        (["m:f", "--engines=x"], "got 'x'."),
        (["m:f", "--engines=dataloader,litdata"], "got litdata (cannot take this dataset: it reads its own chunks on "),
        (["absent.json", "b.json"], "cannot read absent.json"),
    ],
)
def test_the_command_says_what_it_expected(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_file_whose_name_has_a_colon_is_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(A, tmp_path / "a:b.json")
    assert main(["compare", "a:b.json"]) == 1
    assert "expected two result files" in capsys.readouterr().err
    assert main(["compare", "a:b.json", "a:b.json"]) == 0


# The table of engines


def estimate(value, spread=0.1):
    return {"value": value, "low": value * (1 - spread), "high": value * (1 + spread), "n": 7}


def engine(name, title, how, value, ratio=None, **changes):
    row = {"engine": name, "title": title, "how": how, "samples_per_second": estimate(value)}
    row |= {"ratio": ratio and estimate(ratio), "first_batch_seconds": 0.0123, "cpu_seconds_per_1k": 0.05}
    return row | {"pss_bytes": 2**27, "idle_cpu_share": 0.0, "differs": "", "unlike": ""} | changes


ENGINES = {
    "dataset": "mypkg:make",
    "kind": "Rows",
    "samples": 1000,
    "streams": False,
    "repeats": False,
    "batch_size": 32,
    "workers": 2,
    "turns": 7,
    "seconds": 31.0,
    "engines": [
        engine("dataloader", "torch DataLoader", "0 workers", 1000.0),
        engine("reference", "ReferenceLoader", "its own choice", 4000.0, 4.0, idle_cpu_share=0.3),
        engine("spdl", "SPDL", "2 threads", 500.0, 0.5, differs="it gives 5 samples in an epoch instead of 9"),
        {"engine": "nodes", "title": "torchdata.nodes", "how": "2 threads", "problem": "died: \x1bKilled"},
        {"engine": "grain", "title": "Grain", "not_run": "not installed: pip install grain"},
        {"engine": "grain-threads", "title": "Grain", "not_run": "not installed: pip install grain"},
    ],
}


def test_the_table_of_engines():
    assert texts(engine_lines(ENGINES, 80)) == [
        "mypkg:make: Rows, 1,000 samples, batch 32, shuffled",
        "loader            used as         samples/s  x DataLoader     TTFB",
        "ReferenceLoader   its own choice      4.00k          4.00  12.3 ms",
        "torch DataLoader  0 workers           1.00k             1  12.3 ms",
        "SPDL              2 threads             500          0.50  12.3 ms",
        "ReferenceLoader, its own choice: it used 30% of a core while others were",
        "  measured",
        "SPDL, 2 threads: it gives 5 samples in an epoch instead of 9",
        r"torchdata.nodes, 2 threads: failed: died: \x1bKilled",
        "the dataset gives other values each time it is read, so the values were not",
        "  compared",
        "not run: grain, grain-threads: not installed: pip install grain",
        "7 turns of all, 31 s, 2 workers at most",
    ]
    assert texts(engine_lines(ENGINES | {"workers": 1}, 80))[-1] == "7 turns of all, 31 s, 1 worker at most"
    wide = texts(engine_lines(ENGINES, 120))
    assert wide[2].split()[4:] == "4.00k 3.60k to 4.40k 4.00 3.60 to 4.40 12.3 ms 0.05 128 MiB".split()
    assert all(len(line) <= 120 for line in wide)
