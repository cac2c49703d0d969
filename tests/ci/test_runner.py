"""Steps run here as GitHub runs them; what our files do not use is refused."""

from __future__ import annotations

import os

import pytest

from suites.actions.expressions import UnknownError, condition, evaluate, interpolate
from suites.actions.runner import Job, Runner

CONTEXTS = {
    "inputs": {"base": "", "path": "tests"},
    "github": {"event": {"pull_request": {"number": 7}}, "repository": "o/p"},
    "steps": {"a": {"outputs": {"x": "1"}}},
}
FUNCTIONS = {"success": lambda: True, "cancelled": lambda: False}


@pytest.mark.parametrize(
    "text, value",
    [
        ("inputs.path", "tests"),
        ("github.event.pull_request.number", 7),
        ("github.event.issue.number", None),
        ("inputs.path != '' && inputs.path", "tests"),
        ("inputs.base || 'it''s'", "it's"),
        ("!cancelled() && steps.a.outputs.x == '1'", True),
        ("!(inputs.path == 'TESTS')", False),
        ("github.event.pull_request.number == '7'", True),
    ],
)
def test_expressions(text, value):
    assert evaluate(text, CONTEXTS, FUNCTIONS) == value


@pytest.mark.parametrize(
    "text, said",
    [
        ("inputs.bsae", "inputs.bsae: there is no bsae here"),
        ("steps.b.outputs.x", "steps.b.outputs.x: there is no b here"),
        ("secrets.TOKEN", "expected one of inputs, github, steps, got secrets.TOKEN"),
        ("hashFiles('x')", "expected ')', got \"'x'\""),
        ("always()", "expected one of success, cancelled, got always()"),
        ("a[0]", "expected an expression that our files use, got '[0]'"),
        ("inputs.path inputs.base", "expected the end of 'inputs.path inputs.base', got 'inputs.base'"),
        ("inputs.path ==", "expected a value, got 'the end'"),
    ],
)
def test_an_expression_that_is_not_known_is_refused(text, said):
    with pytest.raises(UnknownError) as caught:
        evaluate(text, CONTEXTS, FUNCTIONS)
    assert str(caught.value) == said


def test_text_with_expressions():
    assert interpolate("${{ inputs.path }}/x-${{ github.event.issue.number }}", CONTEXTS) == "tests/x-"


@pytest.mark.parametrize("text, runs", [("inputs.path != ''", False), ("${{ !cancelled() }}", True)])
def test_after_a_failure_only_steps_that_ask_for_it_run(text, runs):
    assert condition(text, CONTEXTS, FUNCTIONS | {"success": lambda: False}) is runs


@pytest.fixture
def job(tmp_path):
    (tmp_path / "work").mkdir()
    environment = {"PATH": os.environ["PATH"]}
    runner = Runner(
        tmp_path, {}, environment, {}, {"a/b": lambda job, given: {"x": given["x"]}}, log=lambda _text: None
    )
    return Job(runner, tmp_path / "work", {"event": {}})


def test_steps_hand_on_outputs_variables_and_the_summary(job):
    job.steps(
        [
            {"id": "one", "run": 'echo "x=1" >> "$GITHUB_OUTPUT"; echo "Y=2" >> "$GITHUB_ENV"'},
            {"uses": "a/b@v1", "id": "two", "with": {"x": "${{ steps.one.outputs.x }}"}},
            {"run": 'echo "$X$Y$Z" >> "$GITHUB_STEP_SUMMARY"', "env": {"X": "${{ steps.two.outputs.x }}"}},
            {"run": 'echo "::warning::w"; false; echo not reached'},
            {"run": "echo skipped"},
            {"if": "always()", "run": 'echo "::error::e"'},
        ],
        {},
        {"Z": "3"},
        None,
    )
    assert job.summary == "123\n"
    assert job.annotations == ["::warning::w", "::error::e"]
    assert "reached" not in job.output
    assert "skipped" not in job.output
    assert job.failed


@pytest.mark.parametrize(
    "step, said",
    [
        ({"run": "echo ${{ inputs.path }}"}, "expected inputs to reach the shell as variables, got 'echo"),
        ({"uses": "x/y@v1"}, "expected one of a/b, got x/y"),
        ({"run": "true", "working-directory": "x"}, "a step has keys that are not known here: working-directory"),
        ({"run": 'echo odd >> "$GITHUB_OUTPUT"'}, "output.txt: expected lines with name=value, got 'odd'"),
    ],
)
def test_a_step_that_is_not_known_is_refused(job, step, said):
    with pytest.raises(ValueError, match=r".") as caught:
        job.steps([step], {"path": "x"}, {}, None)
    assert str(caught.value).startswith(said)
