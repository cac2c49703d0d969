"""Metrics as rows of asv: names, parameters and statistics."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.history.asv_rows import (
    COLUMNS,
    FIGURES,
    MOST_CELLS,
    axes_of,
    combination,
    figures_of,
    joined,
    parse,
    parts_of,
    row_of,
    table_of,
)
from pytest_loaderperf.runs.metric import DEFINITIONS
from tests.history.asv_results import entry


@pytest.mark.parametrize(
    "nodeid, function, identity",
    [
        ("test_data.py::test_it", "test_data.test_it", None),
        ("a/b/test_data.py::TestIt::test_it[x-1] #2", "a.b.test_data.TestIt.test_it.run2", "x-1"),
        ("test_plain.py", "test_plain", None),
        ("my tests (1)/test_ä.py::test_it[a/b::c[0]]", "my_20tests_20_281_29.test_ä.test_it", "a/b::c[0]"),
        ("t.py::test_it[\U0001f600 #3]", "t.test_it", "\U0001f600 #3"),
        ("t.py::test_it[]", "t.test_it", ""),
        ("my_package.data:make_loader", "my_package.data.make_loader", None),
        ("t.py::test_it[x] (rerun 2)", "t.test_it", "x"),
        ("t.py::test_it (rerun 1) #2", "t.test_it.run2", None),
    ],
)
def test_a_node_id_is_taken_apart(nodeid, function, identity):
    assert parse(nodeid) == (function, identity)


@pytest.mark.parametrize(
    "ids, parts",
    [
        (["a-32", "b-64"], 2),
        (["a", "b-c"], 1),
        (["a--1"], 1),
        ([""], 1),
        ([f"{n}-{n}" for n in range(16)], 2),
        ([f"{n}-{n}" for n in range(17)], 1),  # 289 combinations, of which 17 exist
    ],
)
def test_ids_are_split_where_all_have_as_many_parts(ids, parts):
    assert MOST_CELLS == 256
    assert parts_of(ids) == parts


def test_numbers_are_bare_so_that_a_graph_can_have_them_as_axis():
    assert combination("32-a'b-1.5-1e3", 4) == ("32", '"a\'b"', "1.5", "'1e3'")
    assert joined(("32", '"a\'b"', "1.5", "'1e3'")) == repr("32-a'b-1.5-1e3")
    assert combination("a-32", 1) == ("'a-32'",)


def test_every_metric_of_a_result_has_its_place_in_asv():
    assert set(DEFINITIONS) <= set(FIGURES)
    assert len({figure.name for figure in FIGURES.values()}) == len(FIGURES)


def test_lower_is_better_with_the_interval_and_quartiles_turned_round():
    figures = figures_of({"throughput": entry(100.0, wide=0.2)})["seconds_per_sample"]
    assert figures["result"] == pytest.approx(0.01)
    assert 0 < figures["stats_ci_99_a"] < 1 / 120 < figures["stats_q_25"] < 0.01
    assert 0.01 < figures["stats_q_75"] < 1 / 80 < figures["stats_ci_99_b"]
    assert figures["samples"][0] == pytest.approx(1 / 80, rel=1e-5)


def test_without_samples_the_quartiles_are_those_of_the_estimate():
    figures = figures_of({"batch_latency_p99": {"value": 2.0, "low": 1.0, "high": 4.0, "n": 9}})["batch_latency_p99"]
    assert figures["stats_q_25"] == pytest.approx(2 * 0.5 ** (0.6745 / 1.96), rel=1e-4)
    assert figures["stats_ci_99_b"] == pytest.approx(2 * 2 ** (2.5758 / 1.96), rel=1e-4)
    assert figures["samples"] is None


def test_an_interval_without_ends_is_infinite_and_what_has_no_statistics_has_none():
    unbounded = {"value": 2.0, "low": 1.0, "high": None, "n": 9}
    assert figures_of({"epoch": unbounded}) == {"epoch": {"result": 2.0}}
    figures = figures_of({"epoch": unbounded | {"samples": [1.0, 2.0, 3.0, None]}})["epoch"]
    assert (figures["stats_ci_99_a"], figures["stats_ci_99_b"]) == (-math.inf, math.inf)
    assert figures["samples"] == [1.0, 2.0, 3.0]


def test_an_interval_beyond_all_numbers_is_infinite():
    figures = figures_of({"epoch": {"value": 1.0, "low": 1e-300, "high": 1e300, "n": 9}})["epoch"]
    assert (figures["stats_ci_99_a"], figures["stats_ci_99_b"]) == (0.0, math.inf)


@pytest.mark.parametrize("value, n", [(None, 3), (0.0, 3), (1.0, 0)])  # unknown, infinite time, 1 by definition
def test_what_is_no_measured_time_is_left_out(value, n):
    assert figures_of({"dataloader_ratio": {"value": value, "low": None, "high": None, "n": n}}) == {}


words = st.text("a1.'\"\\ä\U0001f600", min_size=1, max_size=3)


@settings(max_examples=50)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6), st.data())
def test_a_row_gives_back_what_it_was_made_of(pairs, data):
    width = data.draw(st.sampled_from([1, 2]))
    table = {combination(f"{a}-{b}", width): {"result": float(n)} for n, (a, b) in enumerate(pairs)}
    row = row_of(table, 5)
    assert table_of(row) == table
    assert len(dict(zip(COLUMNS, row, strict=False))["result"]) == math.prod(map(len, axes_of(table)))
    assert {joined(key) for key in table} == {joined(combination(f"{a}-{b}", 1)) for a, b in pairs}
