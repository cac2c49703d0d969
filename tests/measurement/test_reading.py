"""How a user says that batches are counted and read."""

from __future__ import annotations

import re

import pytest

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import Reading


def test_a_batch_is_delivered_and_then_read():
    done = []

    def deliver(batch):
        done.append(("deliver", batch))
        return batch + 1

    def touch(batch):
        done.append(("touch", batch))
        return "is not the batch"

    assert Reading(touch=touch).after(deliver)(1) == 2
    assert Reading(touch=touch).after(None)(5) == 5
    assert done == [("deliver", 1), ("touch", 2), ("touch", 5)]


def test_without_a_touch_nothing_is_added():
    assert Reading().after(None) is None
    assert Reading().after(len) is len


@pytest.mark.parametrize(
    "error, said", [(ValueError("no X here."), "ValueError: no X here"), (StopIteration(), "Stop")]
)
def test_what_a_touch_raises_names_it(error, said):
    def read_x(batch):
        raise error

    with pytest.raises(LoaderError) as caught:
        Reading(touch=read_x).after(None)([1])
    assert str(caught.value).startswith(f"touch=read_x raised {said}")
    assert str(caught.value).endswith(
        ", for a batch of type list. Expected a function that reads a batch, such as lambda batch: batch.X."
    )
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "given, words",
    [
        ({"count": 3}, "count= expected a function that takes a batch and returns its number of samples, got int."),
        ({"touch": "X"}, "touch= expected a function that takes a batch and reads it, got str."),
    ],
)
def test_what_is_no_function_is_refused(given, words):
    with pytest.raises(LoaderError, match=re.escape(words)):
        Reading(**given)
