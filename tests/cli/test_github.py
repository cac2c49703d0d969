"""``loaderperf github``: the base of an event, the verdict of results, the comment on the right pull request."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pytest_loaderperf.cli import main
from suites.actions.api import READ, WRITE, GitHub, served
from suites.actions.repository import ROOT
from suites.calibration.repository import git
from tests.report.by_hand import claim, failed, result, run

HEAD = "d" * 40
PULL_EVENT = {"pull_request": {"number": 7, "head": {"sha": HEAD, "repo": {"full_name": "stranger/p"}}}}
RUN = {
    "head_sha": HEAD,
    "head_repository": {"full_name": "stranger/p"},
    "html_url": "https://github.com/o/p/actions/runs/1",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a result and without what GitHub Actions sets."""
    for name in ("TOKEN", "REPOSITORY", "API_URL", "EVENT_PATH", "BASE_REF", "SERVER_URL", "RUN_ID"):
        monkeypatch.delenv(f"GITHUB_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(result(run(failed()))))
    return tmp_path


@pytest.fixture
def github(folder, monkeypatch):
    with served(GitHub()) as server:
        server.open_pull(7, HEAD, "stranger/p")
        for name, value in (("TOKEN", WRITE), ("REPOSITORY", "o/p"), ("API_URL", server.url)):
            monkeypatch.setenv(f"GITHUB_{name}", value)
        yield server


@pytest.fixture
def happens(folder, monkeypatch):
    def happens(event):
        (folder / "event.json").write_text(json.dumps(event))
        monkeypatch.setenv("GITHUB_EVENT_PATH", str(folder / "event.json"))

    return happens


def test_comments_and_bases_need_nothing_that_is_heavy():
    """The comment's job installs neither torch nor numpy; in an interpreter of its own: this one has them all."""
    modules = "cli, report.document, report.github, report.pull_request, remote.merge_base".split(", ")
    code = f"import sys, {', '.join(f'pytest_loaderperf.{name}' for name in modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"torch", "numpy", "scipy", "psutil", "pytest"} & set(loaded.split()) == set()


def test_a_run_for_a_pull_request_comments_on_it(folder, github, happens, capsys):
    happens(PULL_EVENT)
    assert main(["github", "comment", "result.json"]) == 0
    assert [comment["number"] for comment in github.comments] == [7]
    assert github.comments[0]["body"].startswith(
        "<!-- loaderperf: loaderperf -->\n### ❌ loaderperf: 1 of 1 claim failed"
    )
    assert capsys.readouterr().out == f"comment written: {github.url}/comments/1\n"


def test_a_workflow_run_comments_on_the_pull_request_that_its_artifact_names(folder, github, happens):
    happens({"workflow_run": RUN})
    (folder / "number").write_text("7\n")
    assert main(["github", "comment", "result.json", "--pull-request-file", "number"]) == 0
    assert github.comments[0]["number"] == 7
    assert "https://github.com/o/p/actions/runs/1#artifacts" in github.comments[0]["body"]


def test_an_artifact_cannot_direct_the_comment_to_another_pull_request(folder, github, happens, capsys):
    github.open_pull(8, HEAD, "victim/p")
    happens({"workflow_run": RUN})
    (folder / "number").write_text("8")
    assert main(["github", "comment", "result.json", "--pull-request-file", "number"]) == 1
    assert github.comments == []
    assert capsys.readouterr().err == (
        "loaderperf: pull request 8 comes from 'victim/p', but the result from 'stranger/p'. "
        "Expected the result of its own run: nothing is written.\n"
    )


def test_a_result_of_an_older_commit_is_not_written(folder, github, happens, capsys):
    github.open_pull(7, "e" * 40, "stranger/p")
    happens(PULL_EVENT)
    assert main(["github", "comment", "result.json"]) == 0
    assert github.comments == []
    assert capsys.readouterr().out == (
        "no comment: the result is for dddddddddddd, the pull request is at eeeeeeeeeeee now\n"
    )


@pytest.mark.parametrize("text", ["", "0", "7; rm -rf", "-7", "7" * 11, "\u0667", "../8", "7\n8"])
def test_the_number_of_a_pull_request_is_digits(folder, github, happens, capsys, text):
    happens({"workflow_run": RUN})
    (folder / "number").write_text(text)
    assert main(["github", "comment", "result.json", "--pull-request-file", "number"]) == 1
    size = len(text.encode())
    expected = f"loaderperf: number: expected the number of a pull request, got {size} other bytes.\n"
    assert capsys.readouterr().err == expected
    assert github.requests == []


@pytest.mark.parametrize(
    "event, text",
    [
        ({"workflow_run": RUN}, "in a workflow_run job, name the file with the number: --pull-request-file FILE"),
        (
            {"pull_request": []},
            "GITHUB_EVENT_PATH: expected the event of a pull_request or workflow_run, got one with other content",
        ),
        (
            {"pull_request": {"number": 7, "head": {"sha": "a" * 40, "repo": None}}},
            "pull request 7: expected the repository that it comes from, got none: that fork was deleted. Nothing is",
        ),
        ({"push": {}}, "GITHUB_EVENT_PATH: expected the event of a pull_request or workflow_run, got one without "),
    ],
)
def test_another_event_is_refused(github, happens, capsys, event, text):
    happens(event)
    assert main(["github", "comment", "result.json"]) == 1
    assert capsys.readouterr().err.startswith(f"loaderperf: {text}")


def test_without_a_token_an_error_says_where_it_comes_from(folder, happens, capsys):
    happens(PULL_EVENT)
    assert main(["github", "comment", "result.json"]) == 1
    assert capsys.readouterr().err == (
        "loaderperf: GITHUB_TOKEN is not set. Expected a token that may comment: give the step "
        "`env: GITHUB_TOKEN: ${{ github.token }}` and the job `permissions: pull-requests: write`.\n"
    )


def test_without_a_token_the_comment_can_be_printed(folder, happens, capsys):
    happens(PULL_EVENT)
    assert main(["github", "comment", "result.json", "--print"]) == 0
    assert capsys.readouterr().out.startswith("<!-- loaderperf: loaderperf -->\n### ❌ ")


def test_a_token_is_never_printed(folder, github, happens, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_TOKEN", READ)
    happens(PULL_EVENT)
    assert main(["github", "comment", "result.json"]) == 1
    assert READ not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "runs, verdict",
    [([run(failed())], "fail"), ([run(claim())], "pass"), ([run(claim("INCONCLUSIVE"))], "inconclusive")],
)
def test_the_verdict_is_one_word(folder, capsys, runs, verdict):
    (folder / "result.json").write_text(json.dumps(result(*runs)))
    assert main(["github", "verdict", "result.json"]) == 0
    assert capsys.readouterr().out == f"{verdict}\n"


def test_a_missing_result_is_the_verdict_error(folder, capsys):
    assert main(["github", "verdict", "none.json"]) == 0
    out, err = capsys.readouterr()
    assert out == "error\n"
    assert err == "loaderperf: cannot read none.json: No such file or directory\n"


@pytest.fixture
def commits(folder):
    """Two commits, and a branch of origin's at the first."""
    git(folder, "init", "--quiet")
    for name in ("one", "two"):
        git(folder, "commit", "--allow-empty", "-m", name)
    first, second = git(folder, "rev-list", "--reverse", "HEAD").split()
    git(folder, "update-ref", "refs/remotes/origin/main", first)
    return first, second


def test_the_base_of_a_pull_request_is_where_it_left_its_branch(commits, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    assert main(["github", "base"]) == 0
    assert capsys.readouterr().out == f"{commits[0]}\n"


def test_the_base_of_a_push_is_what_was_there_before(commits, happens, capsys):
    happens({"before": commits[0]})
    assert main(["github", "base"]) == 0
    happens({"merge_group": {"base_sha": commits[0]}})
    assert main(["github", "base"]) == 0
    assert capsys.readouterr().out == f"{commits[0]}\n" * 2


@pytest.mark.parametrize(
    "arguments, event",
    [([], {"before": "0" * 40}), ([], {"action": "x"}), (["none"], {}), ([], {"merge_group": None}), ([], [])],
)
def test_without_a_base_nothing_is_printed(folder, happens, capsys, arguments, event):
    happens(event)
    assert main(["github", "base", *arguments]) == 0
    assert capsys.readouterr() == ("", "no base: claims about run.base are skipped\n")
