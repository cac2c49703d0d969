"""Expressions that need not be evaluated each time."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch

from pytest_loaderperf.diagnosis.passes import changes
from pytest_loaderperf.diagnosis.passes.changes import Change, Changed
from pytest_loaderperf.diagnosis.passes.fixes import passed_over
from pytest_loaderperf.diagnosis.passes.replaying import CallRewriter, LineRewriter
from pytest_loaderperf.diagnosis.passes.rewriting import PROBE

FILE = "data.py"


def compiled(code, change, rewriter):
    """The function ``f`` of ``code`` with the change, and its probe."""
    probe = Changed(change)
    tree = ast.fix_missing_locations(rewriter(FILE, change.register).visit(ast.parse(code)))
    names = {PROBE: probe}
    exec(compile(tree, FILE, "exec"), names)  # noqa: S102 the code of a test
    return names["f"], probe


def replayed(code, line, rule="list-to-array"):
    return compiled(code, Change(rule, FILE, line, ""), LineRewriter)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def f(calls):\n    made = calls.pop()\n    return made", 2),
        ("def f(calls):\n    return (\n        calls.pop()\n    )", 3),
        ("def f(calls):\n    with open('/dev/null'):\n        made: int = calls.pop()\n    return made", 3),
    ],
)
def test_an_expression_is_evaluated_a_few_times(code, line):
    function, probe = replayed(code, line)
    probe.epoch_ended()
    calls = list(range(20))
    found = {function(calls) for _ in range(20)}
    assert (len(found), len(calls)) == (8, 12)
    assert probe.used


LOOP = "    total = 0\n    for _ in range(1):\n        total += calls.pop()\n    n = total\n    return n * k"


@pytest.mark.parametrize(
    ("line", "row", "made"),
    [(3, np.ones(4), 8), (4, torch.ones(4), 8), (2, np.ones(4), 40), (3, [1.0], 40)],
    ids=["the loop", "inside", "beside", "not of an array"],
)
def test_calls_of_a_function_with_a_loop_are_left_out(line, row, made):
    change = Change("element-by-element", FILE, line, "", calls=True)
    function, probe = compiled(f"def f(row, calls, n=3, *, k=2):\n{LOOP}", change, LineRewriter)
    probe.epoch_ended()
    calls = list(range(40))
    found = [function(row, calls, k=3) for _ in range(40)]
    assert found[:8] == [3 * (39 - number) for number in range(8)]
    assert len(calls) == 40 - made
    assert probe.used is not isinstance(row, list)  # what is not replayed is not measured


@pytest.mark.parametrize(
    "head",
    ["def f(row, *every, k=2):\n    calls = every[0]", "def f(row, calls, k=2):\n    locals()"],
    ids=["*", "locals"],
)
def test_calls_of_a_function_that_means_something_else_inside_another_are_made(head):
    function, _ = compiled(f"{head}\n{LOOP}", Change("element-by-element", FILE, 5, "", calls=True), LineRewriter)
    calls = [1] * 40
    assert {function(np.ones(4), calls) for _ in range(40)} == {2}
    assert calls == []


def test_one_operation_stands_for_the_calls_that_are_left_out(monkeypatch):
    given = []
    monkeypatch.setattr(changes, "passed_over", lambda args: given.append(args) or True)
    code = "def f(row, n):\n    total = n\n    for x in row:\n        total += x\n    return total"
    function, _ = compiled(code, Change("element-by-element", FILE, 3, "", calls=True), LineRewriter)
    row = np.ones(4)
    assert [function(row, 0) for _ in range(20)] == [4] * 20
    assert len(given) == 20
    assert given[-1][0] is row


@pytest.mark.parametrize(
    "array", [torch.ones(3), np.ones((3, 2)), np.zeros(2, "i4,f8"), np.array(["a", "b"]), np.ones(0), 3, None]
)
def test_arrays_of_any_type_are_passed_over(array):
    assert passed_over((1, array)) is hasattr(array, "ndim")


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def f(calls):\n    for _ in range(1):\n        made = calls.pop()\n    return made", 3),
        ("def f(calls):\n    if calls.pop():\n        return 1", 2),
        ("def f(calls):\n    made = (one := calls.pop())\n    return one", 2),
        ("def f(calls):\n    made = calls.pop()\n    return made", 3),
    ],
    ids=["in a loop", "a condition", "an assignment inside", "another line"],
)
def test_what_cannot_be_left_out_is_evaluated_each_time(code, line):
    function, _ = replayed(code, line)
    calls = list(range(1, 21))
    for _ in range(20):
        function(calls)
    assert calls == []


def test_a_generator_stays_one():
    function, _ = replayed("def f(calls):\n    got = yield calls.pop()", 2)
    assert next(function([7])) == 7


def test_a_comprehension_that_gives_the_same_is_made_again():
    code = "def f(calls):\n    return [calls.pop() for _ in range(2)]"
    change = Change("repeated-work", FILE, 2, "comprehension")
    assert (change.replays, change.exact) == (True, True)
    function, _ = compiled(code, change, LineRewriter)
    calls = list(range(40))
    for _ in range(20):
        function(calls)
    assert len(calls) == 40 - 2 * 8


def test_arguments_of_a_call_with_one_result_are_not_evaluated():
    code = "def f(calls):\n    return str(calls.pop(), 'utf-8').upper()"
    function, probe = compiled(code, Change("repeated-work", FILE, 2, "str"), CallRewriter)
    calls = [b"text"] * 20
    assert {function(calls) for _ in range(20)} == {"TEXT"}
    assert len(calls) == 12
    assert probe.used


def test_results_by_argument_need_it():
    code = "def f(calls):\n    return str(calls.pop())"
    function, _ = compiled(code, Change("repeated-work", FILE, 2, "str"), CallRewriter)
    assert [function([n % 3]) for n in range(20)] == [str(n % 3) for n in range(20)]
