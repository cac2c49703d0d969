"""The fault suite: its cases, and how an answer is judged."""

from __future__ import annotations

import ast

import pytest

from pytest_loaderperf.diagnosis import RULES
from suites.faults.__main__ import CASES
from suites.faults.corpus import Case, cases_in, judged
from suites.faults.report import summary, table

CASE = Case("pool", CASES, "executor-per-item", 30)


def finding(rule="executor-per-item", line=30, count=1.0, gain=2.0):
    return {"rule": rule, "line": line, "count": count, "gain": {"value": gain, "low": gain, "high": gain}}


def answers(slow=None, fixed=(), gain=2.1):
    slow = [finding()] if slow is None else slow

    def run(_case, what):
        if what == "times":
            return {"gain": gain}
        return {"findings": list(slow if what == "slow" else fixed), "seconds": 3.0}

    return run


def test_every_rule_has_a_fault():
    gpu_only = {"sync-per-batch", "pageable-copy"}
    assert {case.rule for case in cases_in(CASES)} == {rule.id for rule in RULES} - gpu_only


@pytest.mark.parametrize("case", cases_in(CASES), ids=lambda case: case.name)
def test_a_case_is_two_programs_with_a_source(case):
    for name in ("slow.py", "fixed.py"):
        tree = ast.parse((case.folder / name).read_text("utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == "make_loader" for node in tree.body)
        assert ast.get_docstring(tree)
    assert "Source: " in (case.folder / "slow.py").read_text("utf-8")


def test_the_right_answer():
    outcome = judged(CASE, answers(), 2)
    assert (outcome.named, outcome.silent, outcome.same_counts, outcome.near) == (True, True, True, True)


@pytest.mark.parametrize("slow", [(), (finding(line=31),), (finding(rule="sleeping"),), (finding(), finding(line=9))])
def test_nothing_another_line_another_rule_or_more_is_not_named(slow):
    assert not judged(CASE, answers(slow=slow), 1).named


def test_a_finding_on_the_twin_is_not_silent():
    outcome = judged(CASE, answers(fixed=[finding()]), 1)
    assert not outcome.silent
    assert "    on the fixed twin: executor-per-item:30" in table([outcome], heading=False)


def test_counts_that_differ_between_repeats_are_seen():
    counts = iter([1.0, 2.0])

    def run(case, what):
        return answers(slow=[finding(count=next(counts))])(case, what) if what == "slow" else answers()(case, what)

    assert not judged(CASE, run, 2).same_counts


@pytest.mark.parametrize(
    ("predicted", "true", "near"),
    [(2.0, 2.4, True), (2.0, 3.0, False), (2.0, 1.05, None), (600.0, 90.0, True), (600.0, 30.0, False)],
)
def test_a_gain_is_right_within_a_fifth(predicted, true, near):
    assert judged(CASE, answers(slow=[finding(gain=predicted)], gain=true), 1).near is near


@pytest.mark.parametrize(("true", "inside"), [(1.9, True), (2.6, False), (1.05, None)])
def test_the_true_gain_may_lie_in_the_interval(true, inside):
    slow = [finding() | {"gain": {"value": 2.1, "low": 1.8, "high": 2.4}}]
    outcome = judged(CASE, answers(slow=slow, gain=true), 1)
    assert outcome.inside is inside
    assert f"{int(inside is True)} of {int(inside is not None)} true gains inside the predicted interval" in summary(
        [outcome]
    )


def test_the_summary_counts_what_is_right():
    outcomes = [judged(CASE, answers(), 1), judged(CASE, answers(slow=(), fixed=[finding()]), 1)]
    assert summary(outcomes)[:2] == [
        "1 of 2 faults named with the right rule and line, and nothing else",
        "1 of 2 fixed twins without a finding",
    ]


def test_a_case_without_a_mark_is_refused(tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "slow.py").write_text("def make_loader():\n    return []\n")
    with pytest.raises(SystemExit, match="expected one line with '# fault: RULE', got 0"):
        cases_in(tmp_path)
