"""How every path through ReferenceLoader begins, ends, fails and goes on."""

from __future__ import annotations

import gc
from itertools import islice
from typing import Any

import numpy as np
import pytest

from pytest_loaderperf.measurement.activity import child_pids
from tests.loader.paths import ENGINES, IN_PROCESS, PATHS, SAMPLES, AtOnce, Rows

over_engines = pytest.mark.parametrize("path", ENGINES.values(), ids=ENGINES)
FAILING = {
    name: path
    for name, path in PATHS.items()
    if name in IN_PROCESS | ENGINES | {"at once, a process": None}
    and isinstance(path.make_dataset, type)
    and issubclass(path.make_dataset, Rows)
    and "on_error" not in path.arguments
}
BAD = 100


def same(came: list[Any], wanted: list[np.ndarray]) -> bool:
    return len(came) == len(wanted) and all(map(np.array_equal, came, wanted))


@over_engines
@pytest.mark.parametrize("taken", [0, 5])
def test_after_an_early_break_the_next_epoch_is_whole(make_loader, path, taken):
    loader = make_loader(shuffle=True)
    for _ in range(2):
        iterator = iter(loader)
        kept = path.features(islice(iterator, taken))
        del iterator
    assert same(path.features(loader), path.expected(2))
    assert same(kept, path.expected(1)[:taken])


@over_engines
def test_an_exhausted_iterator_stays_exhausted(make_loader, path):
    iterator = iter(make_loader())
    assert len(list(iterator)) == len(path.expected())
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)


@over_engines
def test_a_closed_iterator_gives_nothing_more_and_does_not_count_as_an_epoch(make_loader, path):
    loader = make_loader(shuffle=True)
    iterator = iter(loader)
    next(iterator)
    for _ in range(2):
        iterator.close()
        assert list(iterator) == []
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (0, 1)


@over_engines
def test_two_iterations_at_once_do_not_disturb_each_other(make_loader, path):
    loader = make_loader(shuffle=True)
    one, two = iter(loader), iter(loader)
    came_one = path.features(islice(one, 3))
    came_two = path.features(islice(two, 1))
    for batch in two:
        came_two.append(path.features_of(batch))
        came_one += path.features(islice(one, 1))
    assert same(came_one, path.expected(0))
    assert same(came_two, path.expected(1))


@over_engines
def test_a_loader_may_be_closed_twice_also_before_its_first_epoch(make_loader, path):
    before = set(child_pids())
    unused, used = make_loader(), make_loader()
    next(iter(used))
    for loader in (unused, used):
        loader.close()
        loader.close()
    assert set(child_pids()) <= before


@pytest.mark.parametrize("path", FAILING.values(), ids=FAILING)
def test_an_error_of_the_dataset_comes_where_its_batch_was_due_in_each_epoch(make_loader, path):
    loader = make_loader()
    loader.dataset.bad = BAD
    due = next(i for i, batch in enumerate(path.batches(0, shuffle=False, drop_last=False)) if BAD in batch)
    for _ in range(2):
        came = []
        with pytest.raises(ValueError, match=f"sample {BAD} is broken") as caught:
            came.extend(map(path.features_of, loader))
        which = "samples " if issubclass(path.make_dataset, AtOnce) else f"sample {BAD}"
        assert f"raised in stage fetch, for {which}" in "\n".join(
            [str(caught.value), *getattr(caught.value, "__notes__", [])]
        )
        assert same(came, path.expected(shuffle=False)[:due])
        caught.value.with_traceback(None)  # torch's hangs in a cycle with the iterator, which takes seconds to collect
        del caught
        gc.collect()


@pytest.mark.parametrize(
    "path, taken",
    [
        pytest.param(path, taken, id=f"{name}, {taken}")
        for name, path in PATHS.items()
        for taken in ((0, 5, SAMPLES) if name in ENGINES else (5,))
    ],
)
def test_a_restarted_loader_goes_on_where_the_first_one_stood(make_loader, path, taken):
    first, second = make_loader(shuffle=True), make_loader(shuffle=True)
    wanted = path.expected(1)
    for _batch in first:
        pass
    iterator = iter(first)
    came = path.features(islice(iterator, min(taken, len(wanted))))  # the end of the epoch is still to be found
    second.load_state_dict(first.state_dict())
    del iterator
    rest = path.features(second) if taken < len(wanted) else []  # else nothing is left, and the next epoch begins
    assert same(came + rest, wanted)
    assert same(path.features(second), path.expected(2))


@over_engines
def test_a_state_taken_after_an_epoch_begins_the_next_one(make_loader, path):
    first, second = make_loader(shuffle=True), make_loader(shuffle=True)
    for _batch in first:
        pass
    second.load_state_dict(first.state_dict())
    assert same(path.features(second), path.expected(1))


@over_engines
def test_a_loader_may_be_restarted_twice_in_an_epoch(make_loader, path):
    state = make_loader(shuffle=True).state_dict()
    came = []
    for _ in range(3):
        loader = make_loader(shuffle=True)
        loader.load_state_dict(state)
        iterator = iter(loader)
        came += path.features(islice(iterator, 2))
        state = loader.state_dict()
        loader.close()
    assert same(came, path.expected()[:6])
