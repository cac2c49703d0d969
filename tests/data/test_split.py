from __future__ import annotations

import logging
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data import split
from pytest_loaderperf.errors import DataError

RATIOS = st.sampled_from(
    [(0.8, 0.1, 0.1), (0.7, 0.3), (1.0,), (0.5, 0.0, 0.5), (1 / 3, 1 / 3, 1 / 3), (0.6, 0.25, 0.15)]
)
SEEDS = st.integers(0, 5)
TENTH = (0.8, 0.1, 0.1)
PLAIN = [[0, 2, 4, 5, 7, 9], [1, 3, 6, 8, 10, 11]]
STRATIFIED = [[0, 2, 4, 5, 7, 9], [1, 3, 6, 8, 10, 11]]
GROUPED = [[1, 2, 5, 6, 9, 10], [0, 3, 4, 7, 8, 11]]


def lists(parts):
    return [part.tolist() for part in parts]


def assert_partition(parts, samples):
    assert all(part.dtype == np.int64 for part in parts)
    assert all(np.all(np.diff(part) > 0) for part in parts)
    assert sorted(i for part in lists(parts) for i in part) == list(range(samples))


def within_one(counts, total, ratios):
    return all(
        abs(count - Fraction(r).limit_denominator(100) * total) < 1 for count, r in zip(counts, ratios, strict=True)
    )


@given(st.integers(0, 300), RATIOS, SEEDS)
@settings(deadline=None)
def test_every_sample_lies_in_one_part_and_sizes_are_within_one_of_the_ratios(samples, ratios, seed):
    parts = split(samples, ratios, seed=seed)
    assert_partition(parts, samples)
    assert within_one(map(len, parts), samples, ratios)


@given(st.lists(st.integers(0, 4), max_size=120), RATIOS, SEEDS)
@settings(deadline=None)
def test_every_class_keeps_its_share_within_one_where_all_have_enough_samples(labels, ratios, seed):
    counts = np.bincount(labels) if labels else np.array([], int)
    assume(all(count >= len(ratios) for count in counts[counts > 0]))
    parts = split(labels, ratios, seed=seed)
    assert_partition(parts, len(labels))
    assert within_one(map(len, parts), len(labels), ratios)
    for label in set(labels):
        assert within_one([sum(labels[i] == label for i in part) for part in parts], counts[label], ratios)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=60), RATIOS, SEEDS, st.booleans())
@settings(deadline=None)
def test_a_group_is_never_torn_apart(pairs, ratios, seed, with_labels):
    groups, labels = [group for group, _ in pairs], [label for _, label in pairs]
    parts = split(len(pairs), ratios, seed=seed, groups=groups, labels=labels if with_labels else None)
    assert_partition(parts, len(pairs))
    homes = [{groups[i] for i in part} for part in parts]
    assert sum(map(len, homes)) == len(set(groups))
    assert all(len(part) == 0 for part, ratio in zip(parts, ratios, strict=True) if ratio == 0)


@pytest.mark.parametrize("samples", range(4))
@pytest.mark.parametrize("labels", [False, True])
def test_small_data_never_fail(samples, labels):
    parts = split(samples, labels=list(range(samples)) if labels else None)
    assert_partition(parts, samples)
    assert [len(part) for part in parts] == [samples, 0, 0]


def test_the_same_arguments_give_these_parts_on_every_machine():
    labels = ["a", "b"] * 6
    assert lists(split(12, (0.5, 0.5), seed=1)) == PLAIN
    assert lists(split(labels, (0.5, 0.5), seed=1)) == STRATIFIED
    assert lists(split(12, (0.5, 0.5), seed=1, labels=labels, groups=[0, 1, 2, 3] * 3)) == GROUPED


def test_another_seed_gives_other_parts():
    assert lists(split(100)) == lists(split(100))
    assert lists(split(100)) != lists(split(100, seed=1))


def test_samples_are_drawn_from_everywhere():
    _, validation, test = split(1000)
    assert 300 < validation.mean() < 700
    assert 300 < test.mean() < 700


def test_groups_of_equal_size_fill_the_parts_by_the_ratios():
    assert [len(part) for part in split(100, groups=np.repeat(np.arange(10), 10))] == [80, 10, 10]


def test_groups_are_spread_by_their_labels():
    """Twenty groups of five, half of them of the one class, half of the other."""
    labels = np.repeat([0, 1], 50)
    parts = split(100, (0.8, 0.2), labels=labels, groups=np.repeat(np.arange(20), 5))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[40, 40], [10, 10]]


def test_a_class_too_small_for_the_parts_makes_the_split_plain_and_the_log_says_why(caplog):
    labels = ["common"] * 18 + ["rare"] * 2
    with caplog.at_level(logging.INFO, "pytest_loaderperf"):
        parts = split(labels)
    assert caplog.messages == ["the split is not stratified: class rare has 2 samples, fewer than the 3 parts"]
    assert lists(parts) == lists(split(20))


def test_labels_that_are_tensors_or_arrays_count_as_labels():
    torch = pytest.importorskip("torch")
    labels = np.arange(30) % 3
    expected = lists(split(30, labels=labels))
    assert expected == lists(split(labels)) == lists(split(torch.from_numpy(labels))) == lists(split(labels.tolist()))


@pytest.mark.parametrize(
    "ratios",
    [(0.8, 0.1), (0.8, 0.3, -0.1), (0.5, float("nan")), (), (1.0 + 1e-8,), ("a",), (float("inf"),)],
)
def test_ratios_that_cannot_be_are_refused(ratios):
    with pytest.raises(DataError) as caught:
        split(10, ratios)
    assert str(caught.value) == (
        f"ratios: expected numbers of at least 0 with the sum 1, such as (0.8, 0.1, 0.1), got {ratios!r}."
    )


def test_ratios_may_be_off_by_what_adding_floats_costs():
    assert [len(part) for part in split(10, (0.1,) * 10)] == [1] * 10


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"samples": -1}, "samples: expected an integer of at least 0, or their labels, got -1."),
        ({"samples": True}, "samples: expected an integer of at least 0, or their labels, got True."),
        ({"samples": 4, "seed": -1}, "seed: expected an integer of at least 0, got -1."),
        ({"samples": 4, "labels": [1, 2]}, "labels: expected one value a sample, shape (4,), got shape (2,)."),
        ({"samples": 2, "groups": [[1], [2]]}, "groups: expected one value a sample, shape (2,), got shape (2, 1)."),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(arguments, text):
    with pytest.raises(DataError) as caught:
        split(**arguments)
    assert str(caught.value) == text


def test_labels_that_come_twice_are_refused():
    with pytest.raises(DataError) as caught:
        split([1], labels=[1])
    assert str(caught.value) == (
        "expected labels once, got them as samples and as labels=. "
        "Give the number of samples and labels=, or only the labels."
    )


def test_labels_that_cannot_be_sorted_are_refused():
    with pytest.raises(
        DataError, match=r"labels: expected values of one kind that can be sorted, but .* Make them strings."
    ):
        split([1, None, "a"])
