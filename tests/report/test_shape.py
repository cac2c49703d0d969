"""What a result file must have to be read, whatever report is made of it."""

from __future__ import annotations

import json

import pytest

from pytest_loaderperf.cli import main
from pytest_loaderperf.cli.report import FORMATS
from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.report import read_json, write_json
from pytest_loaderperf.report.shape import first_fault
from tests.report import by_hand, made_results, results

WHOLE = json.loads(json.dumps(results.each_verdict()))


def test_results_of_runs_and_those_of_the_tests_have_their_shape():
    for document in (WHOLE, by_hand.result(by_hand.run(by_hand.failed())), made_results.result(made_results.run())):
        assert first_fault(json.loads(json.dumps(document))) == ""


def changed(path, value):
    """``WHOLE`` with another value at a path, or without it."""
    document = json.loads(json.dumps(WHOLE))
    *steps, last = path
    inner = document
    for step in steps:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return document


CLAIM = ("runs", 0, "claims", 0)
FAULTS = [
    (("runs",), {}, "runs: expected a list, got an object"),
    (
        (*CLAIM, "course", "evidence_pass"),
        [],
        "runs[0].claims[0].course.evidence_pass: expected at least one value, got",
    ),
    (
        (*CLAIM, "counted"),
        "sheep",
        "runs[0].claims[0].counted: expected one of pairs, trials, batches, epochs, got 'sheep'",
    ),
    (("commit",), None, "commit: expected a text, got nothing"),
    (("machine", "cores"), "two", "machine.cores: expected an integer, got 'two'"),
    (("runs", 0), 7, "runs[0]: expected an object, got 7"),
    (("runs", 1, "sides"), None, "runs[1].sides: expected a list, got nothing"),
    (("runs", 0, "stages", "fetch"), "half", "runs[0].stages['fetch']: expected a number, got 'half'"),
    ((*CLAIM, "verdict"), "<b>", "runs[0].claims[0].verdict: expected one of PASS, FAIL, INCONCLUSIVE, got '<b>'"),
    ((*CLAIM, "unit"), "parsecs", "runs[0].claims[0].unit: expected one of s, samples/s, B/s, B, 1, got 'parsecs'"),
    ((*CLAIM, "estimate"), "0.9", "runs[0].claims[0].estimate: expected a number, got '0.9'"),
    ((*CLAIM, "needed"), float("inf"), "runs[0].claims[0].needed: expected a number, got inf"),
    ((*CLAIM, "pairs"), 2.5, "runs[0].claims[0].pairs: expected an integer, got 2.5"),
    ((*CLAIM, "failed"), 1, "runs[0].claims[0].failed: expected true or false, got 1"),
    ((*CLAIM, "needed"), 10**400, "runs[0].claims[0].needed: expected a number, got 1000000"),
    ((*CLAIM, "course", "values", 3), "\x1b[31m", r"runs[0].claims[0].course.values[3]: expected a number, got '\x1b"),
]


@pytest.mark.parametrize(("path", "value", "fault"), FAULTS)
def test_the_first_fault_is_named_with_its_place(path, value, fault):
    assert first_fault(changed(path, value)).startswith(fault)


def test_what_an_earlier_version_did_not_write_may_be_missing():
    for key in ("changes", "differences", "unobserved"):
        assert first_fault(changed(("runs", 0, key), None)) == ""
    assert first_fault(changed((*CLAIM, "course"), None)) == ""


@pytest.mark.parametrize("name", [*FORMATS, "asv", "compare", "verdict"])
def test_every_command_refuses_the_same_file_in_the_same_words(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    document = changed((*CLAIM, "claim"), None)
    write_json(document, tmp_path / "r.json")
    command = {
        "compare": ["compare", "r.json", "r.json"],
        "verdict": ["github", "verdict", "r.json"],
        "asv": ["report", "r.json", "--format=asv", "-o", "asv"],
    }.get(name, ["report", "r.json", f"--format={name}"])
    main(command)
    assert capsys.readouterr().err == (
        "loaderperf: r.json: expected a result of --loaderperf-json (loaderperf/1), got one that was changed or is of "
        "another version. runs[0].claims[0].claim: expected a text, got nothing. Measure again with this version.\n"
    )
    with pytest.raises(ResultError):
        read_json(tmp_path / "r.json")
