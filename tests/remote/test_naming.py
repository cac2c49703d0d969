"""How the calls of one test are told apart in two processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pytest_loaderperf.remote.naming import Call, call_name


def make(size=4):
    return [size]


class Maker:
    def make(self):
        return []

    def __call__(self):
        return []


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)


def closed_over(*values):
    first, *others = values
    return lambda: (first, others)


def recursive():
    def itself():
        return itself

    return itself


def never_bound():
    if []:
        later = 1

    def uses():
        return later

    return uses


LAMBDA = "closed_over.<locals>.<lambda>"


@pytest.mark.parametrize(
    "source, name",
    [
        (make, "make(4)"),
        (partial(make, size=8), "partial(make(4), 'size', 8)"),
        (Maker, "Maker"),
        (Maker(), "Maker"),
        (Maker().make, "Maker.make(Maker)"),
        (closed_over("small"), f"{LAMBDA}('small', list)"),
        (closed_over(make, Path("a/b"), {"n": (1, 2.5)}), f"{LAMBDA}(make(4), list('a/b', dict('n', tuple(1, 2.5))))"),
        (closed_over(object()), f"{LAMBDA}(object, list)"),
        (never_bound(), "never_bound.<locals>.uses"),
        ([1, 2], "list(1, 2)"),
    ],
)
def test_a_call_is_named_by_functions_types_and_plain_values(source, name):
    assert call_name(source) == name


def test_an_object_that_raises_has_the_name_of_its_type():
    assert call_name(Hostile()) == "Hostile"


def test_a_name_is_short_whatever_it_is_given():
    assert len(call_name(closed_over("x" * 10_000, *range(1000)))) < 1_000
    assert len(call_name(recursive())) < 1_000


def test_calls_of_one_name_are_counted():
    assert Call.last(["a", "b", "a"]) == Call(number=2, name="a", nth=1, others=("a", "b"))
