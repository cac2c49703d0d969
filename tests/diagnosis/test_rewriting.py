"""Rewritten code does what it did before, and every expression is counted at its line."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from pytest_loaderperf.diagnosis.passes import rewriting
from pytest_loaderperf.diagnosis.passes.recorder import Recorder

SOURCE = """
import contextlib, functools

class Base:
    def __init__(self, start):
        self.start = start
        self.__hidden = [1, 2]
    def total(self, extra):
        return self.start + extra + sum(self.__hidden)

class Derived(Base):
    def total(self, extra, *more, scale=1, **names):
        return super().total(extra) * scale + sum(more) + len(names)

def closure(n):
    step = 2
    def inner(x):
        nonlocal step
        step += 1
        return [x * step for x in range(x) if x % 2], {k: v for k, v in enumerate("ab")}, {y for y in (n, n)}
    return inner

def numbers(n):
    try:
        for i in range(n):
            yield i
    finally:
        log.append("closed")

log = []

def decorated(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return function(*args, **kwargs) + 1
    return wrapped

@decorated
def area(width, height=3):
    return width * height

def names():
    here = 5
    return sorted(locals()), eval("here + 1"), (lambda a, b=2: a + b)(1)

def parts(items):
    a, *rest = items
    copy = {}
    copy["key"] = rest[0:2]
    copy["key"][0] += 10
    return copy, items[-1], items[::2], (value := len(items)), 3 in items, 1 < 2 < 3

def managed():
    with contextlib.suppress(KeyError):
        {}["missing"]
    return "after"

def failing():
    return int("x")

def whole():
    maker = closure(4)
    return (
        Base(1).total(2), Derived(1).total(2, 5, scale=3, a=1), maker(5), maker(5), list(numbers(3)), next(numbers(2)),
        area(2), names(), parts([1, 2, 3, 4]), managed(), list(map(area, [1, 2])),
    )
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The module above, loaded as a user's; nothing else of this process is rewritten."""
    file = tmp_path / "users_code.py"
    file.write_text(SOURCE)
    monkeypatch.setattr(rewriting, "is_users", lambda other: other == str(file))
    spec = importlib.util.spec_from_file_location("users_code", file)
    made = importlib.util.module_from_spec(spec)
    sys.modules["users_code"] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules["users_code"]


def instrumented():
    recorder = Recorder()
    recorder.starting = False
    rewriting.Instrument(recorder.register, recorder)()
    return recorder


def line_of(text):
    return next(n for n, line in enumerate(SOURCE.splitlines(), 1) if text in line)


def test_rewritten_functions_give_what_they_gave(module):
    before = module.whole()
    recorder = instrumented()
    assert module.whole() == before
    assert recorder.sites()


def test_errors_and_their_types_are_unchanged(module):
    instrumented()
    with pytest.raises(ValueError, match="invalid literal"):
        module.failing()


def test_a_generator_is_closed_as_before(module):
    instrumented()
    stream = module.numbers(5)
    assert next(stream) == 0
    stream.close()
    assert module.log[-1] == "closed"


def test_functions_are_rewritten_once(module):
    instrumented()
    code = module.whole.__code__
    instrumented()
    assert module.whole.__code__ is code


def test_calls_are_counted_at_their_line(module):
    recorder = instrumented()
    for _ in range(3):
        module.managed()
        module.area(2)
    counts = {(site["line"], site["callee"]): site["count"] for site in recorder.sites()}
    assert counts[line_of("with contextlib.suppress"), "contextlib.suppress"] == 3
    assert counts[line_of("return function(*args, **kwargs) + 1"), "users_code.area"] == 3


def test_a_function_of_a_library_is_left_alone(module):
    code = pytest.raises.__code__
    instrumented()
    assert pytest.raises.__code__ is code


@pytest.mark.parametrize("file", [pytest.__file__, importlib.util.__file__, rewriting.__file__, "<string>"])
def test_libraries_and_this_package_are_not_the_users(file):
    assert not rewriting.is_users(file)


def test_a_test_is_the_users_code():
    assert rewriting.is_users(__file__)
