"""In GitHub Actions, a run that measures writes the step's summary and annotations, unasked."""

from __future__ import annotations

import json

from pytest_loaderperf.plugin.outputs import write_outputs
from pytest_loaderperf.plugin.settings import Settings
from pytest_loaderperf.report.markdown import SUMMARY_BYTES
from tests.report.by_hand import failed, result, run

# No other output is asked for.
QUIET = Settings(
    measuring=True,
    budget_seconds=1.0,
    alpha=0.001,
    device="cpu",
    timeout_seconds=60.0,
    base=None,
    json_path=None,
    keep=0,
)

TESTS = """
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    def make_loader():
        return DataLoader(TensorDataset(torch.zeros(48, 8)), batch_size=4)

    def test_fails(loaderperf):
        assert loaderperf(make_loader).throughput >= 1e15
"""


def test_the_summary_and_annotations_of_a_failed_claim(pytester, monkeypatch):
    pytester.makepyfile(test_it=TESTS)
    for name, value in (("ACTIONS", "true"), ("WORKSPACE", pytester.path), ("STEP_SUMMARY", pytester.path / "s.md")):
        monkeypatch.setenv(f"GITHUB_{name}", str(value))
    ended = pytester.runpytest_subprocess("--loaderperf", "--loaderperf-budget=1", "--loaderperf-json=r.json")
    ended.stdout.fnmatch_lines(
        ["summary written for this step (GITHUB_STEP_SUMMARY)", "::error file=test_it.py,line=7,title=loaderperf%3A *"]
    )
    assert (pytester.path / "s.md").read_text().startswith("### ❌ loaderperf: 1 of 1 claim failed\n")
    document = json.loads((pytester.path / "r.json").read_text())
    assert (document["runs"][0]["file"], document["runs"][0]["line"]) == (str(pytester.path / "test_it.py"), 7)
    assert document["root"] is None  # a temporary folder is in no repository


def test_a_summary_that_cannot_be_written_is_said_and_annotations_are_not_lost(monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/no/such/folder/s.md")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", "/repo")
    written = write_outputs(result(run(failed())), QUIET)
    assert written.problems == []  # which would change the exit status
    assert written.notes == [
        "no summary for this step (GITHUB_STEP_SUMMARY): [Errno 2] No such file or directory: '/no/such/folder/s.md'",
    ]
    assert written.lines[0].startswith("::error file=tests/test_a.py,line=5,")


def test_a_summary_that_others_have_filled_is_a_note(monkeypatch, tmp_path):
    file = tmp_path / "s.md"
    file.write_bytes(b"x" * SUMMARY_BYTES)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    written = write_outputs(result(run(failed())), QUIET)
    assert (written.lines, written.problems) == ([], [])
    assert written.notes[0].startswith("no summary for this step (GITHUB_STEP_SUMMARY): expected room for at least ")
    assert file.stat().st_size == SUMMARY_BYTES


def test_an_empty_workspace_is_the_current_folder(monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", "")
    monkeypatch.chdir("/")
    assert write_outputs(result(run(failed())), QUIET).lines[0].startswith("::error file=repo/tests/test_a.py,line=5,")


def test_elsewhere_nothing_is_written(monkeypatch):
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    assert write_outputs(result(run(failed())), QUIET) == ([], [], [])
