"""``loaderperf scale``."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from pytest_loaderperf.cli import main
from pytest_loaderperf.report import write_json
from tests.report import results

NODEID = "test_a.py::test_it[<script>alert(1)</script>-ä-$x$]"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result of two tests, the first of which has 2,500 batches of 1 ms, and a stall of 40 ms every 997."""
    file = tmp_path_factory.mktemp("a result") / "result.json"
    runs = [results.run(name, [results.ratio_verdict(1.0)], batches=2500) for name in (NODEID, "test_b.py::test_b")]
    write_json(results.result(runs), file)
    return file


@pytest.fixture
def scale(result, monkeypatch, capsys):
    """Runs the command on it, and returns its status, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments, file=result):
        status = main(["scale", str(file), *arguments])
        return status, *capsys.readouterr()

    return run


ONE = ("--test", "test_it", "--step", "10ms", "--ranks", "512,8,1024", "--prefetch", "0,4")
SMALL = ("--test", "test_it", "--step", "10ms", "--ranks", "2", "--prefetch", "0")


def test_a_job_of_each_size_is_shown_with_the_quantile_that_matters(scale):
    status, shown, errors = scale(*ONE)
    lines = shown.splitlines()
    assert (status, errors) == (0, "")
    assert lines[0] == f"loader (DataLoader) of {NODEID}"
    said = " ".join(" ".join(lines[1:3]).split())
    assert said.startswith(
        "2,500 batches: p50 990 us, p99 1.76 ms, longest 40.0 ms; made when they are requested; with"
    )
    rows = [line.split() for line in lines if re.match(r" *[\d,]+ +\d ", line)]
    assert [row[:2] for row in rows] == [[n, d] for n in ("8", "512", "1,024") for d in ("0", "4")]
    assert all("█" in row[-1] for row in rows)
    told = " ".join(shown.partition("\n\nAt ")[2].split())
    assert told.startswith("8 ranks, p90 matters: ")
    assert re.search(r"At 512 ranks, p99\.9 matters: 46 % of the steps have a batch of 2\.\d\d ms or more\.", told)
    assert "p99.99 matters at 1,024 ranks; but 2,500 batches only show up to p99.92: a step may take longer" in told
    assert "For 1,024 ranks, measure 20,000 batches, in about 52 s" in told
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in shown


def test_without_prefetch_the_loaders_own_is_taken_and_deeper_ones(scale, tmp_path):
    file = tmp_path / "x.json"
    scale("--test", "test_b", "--loader", "against", "--step", "1", "--ranks", "2", "--json", str(file))
    found = json.loads(file.read_text())
    assert [job["prefetch"] for job in found["jobs"]] == [0, 2, 4]
    assert (found["schema"], found["loader"], found["step"]) == ("loaderperf-scale/1", "against", 1.0)
    assert found["jobs"][0]["step_time"].keys() == {"value", "low", "high"}
    assert found["tails"] == [
        {
            "ranks": 2,
            "quantile": 0.9,
            "latency": pytest.approx(0.00137, rel=0.1),
            "steps": pytest.approx(0.19, abs=0.01),
        }
        | {"batches_needed": 20, "seen": True}
    ]


def test_files_are_written_escaped_and_replaced(scale, tmp_path):
    files = {name: str(tmp_path / f"out.{name}") for name in ("html", "png", "json", "svg")}
    options = ["--html", files["html"], "--png", files["png"], "--json", files["json"]]
    status, shown, errors = scale(*SMALL, *options)
    assert (status, shown.count("written to"), errors) == (0, 3, "")
    assert scale(*SMALL, *options[:2], "--png", files["svg"])[0] == 0
    page = (tmp_path / "out.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;-ä-$x$" in page
    assert "p90 matters" in page
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert ET.parse(files["svg"]).getroot().tag.endswith("svg")  # noqa: S314 our own


def test_files_of_others_are_not_replaced(scale, result, tmp_path):
    other = tmp_path / "other.html"
    other.write_text("<p>mine</p>")
    assert "was not written by loaderperf" in scale(*SMALL, "--html", str(other))[2]
    assert "is a loaderperf document, which is not replaced" in scale(*SMALL, "--json", str(result))[2]
    assert "cannot write /dev/out.png" in scale(*SMALL, "--png", "/dev/out.png")[2]
    assert other.read_text() == "<p>mine</p>"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "the following arguments are required: --step"),
        (("--step", "-1"), "expected a time such as 10ms"),
        (("--step", "1", "--ranks", "0"), "expected numbers of ranks from 1 to 65,536 such as 8,64,512, got '0'"),
        (("--step", "1", "--ranks", "8,,9"), "got '8,,9'"),
        (("--step", "1", "--ranks", "1e3"), "got '1e3'"),
        (("--step", "1", "--ranks", "9" * 5000), "expected numbers of ranks"),
        (("--step", "1", "--prefetch", "1025"), "expected numbers of batches from 0 to 1,024 such as 2,8, got '1025'"),
        (("--step", "1", "--png", "x.py"), "expected a name that ends in .png"),
    ],
)
def test_wrong_options_are_usage_errors(scale, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        scale(*arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_what_cannot_be_used_is_said_and_gives_status_1(scale, tmp_path):
    file = tmp_path / "x.json"
    status, _, errors = scale("--step", "1")
    assert status == 1
    assert "expected --test with a part of one test's name, got none. Tests:\n  test_a.py::test_it" in errors
    assert "cannot read" in scale("--step", "1", file=file)[2]
    for content, words in (
        ("{", "cut off or is not JSON"),
        ('{"schema": "loaderperf-history/1"}', "got what `loaderperf history --json` found"),
        ('{"schema": "loaderperf/1", "machine": {}, "runs": []}', "commit: expected a text, got nothing"),
        (json.dumps(results.result([])), "expected a loader with batches"),
    ):
        file.write_text(content)
        status, _, errors = scale("--step", "1", file=file)
        assert (status, words in errors) == (1, True), errors
