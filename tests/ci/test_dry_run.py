"""A user's pull requests, by the page's workflows: the slow one fails and is commented on, the equal one passes."""

from __future__ import annotations

import json

import pytest

from suites.actions.api import GitHub, served
from suites.actions.repository import EQUAL, FORK, SLOW, make_user_repository
from suites.actions.run import Place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with served(GitHub()) as github:
        place = Place.make(tmp_path_factory.mktemp("actions"), github)
        # Plugins that take seconds to load, and that no user needs here.
        place.environment["PYTEST_ADDOPTS"] = "-p no:hypothesispytest -p no:zarr -p no:codspeed -p no:benchmark"
        yield place


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return make_user_repository(tmp_path_factory.mktemp("user"))


def test_a_slow_pull_request_fails_and_is_commented_on(place, repository):
    gate = place.gate(repository, SLOW)
    assert gate.failed, gate.output
    assert gate.summary.startswith("### ❌ loaderperf: 1 of 1 claim failed"), gate.output
    at = [line.partition(",")[0] for line in gate.annotations]
    assert at == ["::error file=tests/test_data.py", "::warning file=mypkg/datasets.py"]  # the claim, and what changed
    assert "title=loaderperf%3A not at the base::" in gate.annotations[1]
    kept = place.folder / "artifacts" / str(SLOW) / "loaderperf"
    assert {file.name for file in kept.iterdir()} == {"pull-request.txt", "report.html", "result.json"}
    assert (kept / "pull-request.txt").read_text() == f"{SLOW}\n"
    assert json.loads((kept / "result.json").read_text())["base_commit"]
    place.github.open_pull(SLOW, repository.heads[SLOW], FORK)
    comment = place.comment(repository, SLOW, "failure", "comment")
    assert not comment.failed, comment.output
    assert [(one["number"], one["body"].splitlines()[0]) for one in place.github.comments] == [
        (SLOW, "<!-- loaderperf: loaderperf -->")
    ]
    assert "### ❌ loaderperf: 1 of 1 claim failed" in place.github.comments[0]["body"]


def test_an_equal_pull_request_passes(place, repository):
    gate = place.gate(repository, EQUAL)
    assert not gate.failed, gate.output
    assert "| `tests/test_data.py::test_no_regression` |" in gate.summary  # on a busy machine it may be undecided
    assert gate.annotations == []
