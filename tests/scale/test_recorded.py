"""Which loader's latencies are taken from a result, and results that have none."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.scale import recorded_in

LATENCIES_S = (np.arange(1, 31) / 1000).tolist()


def side(name="loader", latencies=LATENCIES_S, **changes):
    batches = {"count": 30, "latencies": latencies}
    return {"name": name, "kind": "DataLoader", "workers": 2, "prefetch": 4, "batches": batches} | changes


def document(*runs):
    return {"runs": [{"nodeid": nodeid, "sides": sides, "seconds": 6.0} for nodeid, *sides in runs]}


def refused(*runs, **chosen):
    with pytest.raises(ResultError) as raised:
        recorded_in(document(*runs), **chosen)
    return str(raised.value)


def test_the_only_test_and_the_loader_it_is_about_are_taken():
    roofline = side("roofline", batches=None)
    found = recorded_in(document(("t.py::test_a", side("against"), side(), roofline)))
    assert (found.test, found.loader, found.kind) == ("t.py::test_a", "loader", "DataLoader")
    assert (found.prefetch, found.workers) == (4, 2)
    assert found.batch_s == pytest.approx(0.2)
    assert found.latencies_s.tolist() == LATENCIES_S


def test_one_of_several_is_chosen_by_name_and_an_equal_name_comes_before_a_part():
    runs = ("t.py::test_a", side(workers=1)), ("t.py::test_ab", side("x"), side("y", workers=3))
    assert recorded_in(document(*runs), test="test_ab").loader == "x"
    assert recorded_in(document(*runs), test="t.py::test_a").workers == 1
    assert recorded_in(document(*runs), test="ab", loader="y").workers == 3
    assert (
        refused(*runs)
        == "expected --test with a part of one test's name, got none. Tests:\nt.py::test_a\nt.py::test_ab"
    )
    assert refused(*runs, test="test_a").startswith(
        "expected --test with a part of one test's name, got --test test_a."
    )
    assert refused(*runs, test="zzz").endswith("Tests:\nt.py::test_a\nt.py::test_ab")
    assert (
        refused(*runs, test="ab", loader="z") == "expected one of this test's loaders, got --loader z. Loaders:\nx\ny"
    )


def test_a_result_without_latencies_is_refused():
    old = side(batches={"count": 30})
    assert "expected a loader with batches, got a result without any" in refused(("t", side(batches=None)))
    assert "expected a loader with batches" in refused()
    assert refused(("t", old)).startswith("loader of t: expected the latency of each batch, got a result of an earlier")
    assert "expected at least 20 batches, got 19. Measure longer" in refused(("t", side(latencies=[0.1] * 19)))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"latencies": [0.1] * 30 + [float("nan")]}, "expected latencies in seconds"),
        ({"latencies": [0.1] * 30 + [-1.0]}, "expected latencies in seconds"),
        ({"latencies": [[0.1] * 30]}, "expected latencies in seconds"),
        ({"latencies": ["a"] * 30}, "expected latencies in seconds"),
        ({"latencies": [0.0] * 30}, "got only zeros"),
        ({"prefetch": -1}, "expected a whole number of workers and of batches ahead, got 2 and -1"),
        ({"prefetch": True}, "got 2 and True"),
        ({"workers": 9}, "got 9 and 4"),
        ({"workers": "2"}, "got 2 and 4"),
    ],
)
def test_a_damaged_loader_is_refused(changes, words):
    assert words in refused(("t", side(**changes)))
