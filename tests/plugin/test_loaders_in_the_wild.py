"""Loaders of every shape that people write are measured, and left as they were."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import signal
import threading
import time
from collections import OrderedDict, namedtuple
from types import MappingProxyType

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pytest_loaderperf import Collate, ReferenceLoader, measure
from pytest_loaderperf.errors import LoaderError

X, Y = torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64)
Pair = namedtuple("Pair", "x y")  # noqa: PYI024 as users write it


@dataclasses.dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    names: list[str]


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(48, 8))


def endless():
    while True:
        yield X


def one_epoch_of_thirty():
    yield from [X] * 30


class OneEpochOnly:
    """Gives one epoch in its life and then nothing, without an error."""

    def __init__(self):
        self.left = iter([X] * 30)

    def __iter__(self):
        return self.left


class NoLength:
    def __iter__(self):
        return iter([X] * 30)


class WrongLength(NoLength):
    def __len__(self):
        return 5


class LengthRaises(NoLength):
    def __len__(self):
        raise NotImplementedError("who knows")


BATCHES = {
    "tensor": X,
    "array": X.numpy(),
    "big-endian array": X.numpy().astype(">f4"),
    "bfloat16": X.bfloat16(),
    "tuple": (X, Y),
    "list": [X, Y],
    "dict": {"x": X, "y": Y},
    "ordered dict": OrderedDict(x=X),
    "mapping": MappingProxyType({"x": X}),
    "nested": {"image": {"left": X, "right": (X, [Y])}, "label": Y},
    "namedtuple": Pair(X, Y),
    "dataclass": Batch(X, Y, ["a", "b", "c", "d"]),
    "strings": ["a", "b", "c", "d"],
    "strings beside a tensor": (X, ["a", "b", "c", "d"]),
    "None inside": (X, None),
    "metadata inside": {"x": X, "epoch": 3, "name": "train"},
    "scalar tensor inside": (X, torch.tensor(3.0)),
    "objects": [object(), object(), object(), object()],
    "string array": np.array(["a", "b", "c", "d"]),
    "sparse": X.to_sparse(),
    "needs grad": X.clone().requires_grad_(),
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_batches_of_every_structure_are_counted_and_measured(batch):
    with measure(lambda: [batch] * 12, budget=0.3) as run:
        assert run.rounds.sides["loader"].batch_samples == 4
        assert run.throughput >= 1e-6


LOADERS = {
    "endless generator": endless,
    "one-shot generator per call": one_epoch_of_thirty,
    "one epoch in its life": OneEpochOnly,
    "no len": NoLength,
    "wrong len": WrongLength,
    "len raises": LengthRaises,
    "shorter last batch": lambda: [X] * 11 + [X[:1]],
    "batches of varying length": lambda: [X, X[:1], X[:3]] * 8,
    "iterable dataset": lambda: DataLoader(Numbers(), 4),
    "iterable dataset, a worker": lambda: DataLoader(Numbers(), 4, num_workers=1),
    "map": lambda: map(torch.clone, [X] * 30),
    "islice of an endless one": lambda: itertools.islice(endless(), 30),
    "reference loader": lambda: ReferenceLoader({"x": torch.zeros(96, 8)}, batch_size=4, shuffle=True),
    "a list itself": [X] * 12,
}


@pytest.mark.parametrize("source", LOADERS.values(), ids=LOADERS)
def test_loaders_of_every_kind_are_measured_beside_each_other(source):
    with measure(source, against=source, budget=0.5) as run:
        assert run.throughput >= 1e-9 * run.against.throughput
        assert run.first_batch.value > 0
        assert run.verdicts[0].ruling.n >= 1


@pytest.mark.parametrize("source", [one_epoch_of_thirty, OneEpochOnly, NoLength])
def test_the_end_of_an_epoch_is_measured_where_there_is_one(source):
    with measure(source, budget=0.3) as run:
        assert run.epoch_exit.value > 0
        assert run.rounds.sides["loader"].epoch_batches == 30


@pytest.mark.parametrize("collate", [list, lambda samples: samples, Collate(ragged="list")])
def test_a_list_of_images_is_as_many_samples_and_its_channels_are_none(collate):
    images = torch.zeros(96, 3, 8, 8)
    with measure(lambda: DataLoader(images, 8, collate_fn=collate), budget=0.3) as run:
        assert run.rounds.sides["loader"].batch_samples == 8
        assert run.epoch_throughput.value == pytest.approx(96 / run.epoch.value)


def test_samples_are_counted_batch_by_batch_where_they_vary():
    with measure(lambda: [X, X[:2]] * 6, budget=0.3) as run:
        run.rounds.sides["loader"].start()
        assert run.rounds.sides["loader"].take(11).samples == 2 + 5 * 6


def test_an_epoch_starts_one_iterator_of_the_loader():
    started = []

    class Counts(NoLength):
        def __iter__(self):
            started.append(1)
            return super().__iter__()

    with measure(Counts, budget=0.3) as run:
        side = run.rounds.sides["loader"]
        started.clear()
        side.start()
        assert len(started) == 1


@pytest.mark.parametrize(
    "epoch_batches, wrap",
    [(12, lambda loader: loader), (400, lambda loader: lambda: loader)],
    ids=["object", "factory, long epoch"],
)
def test_two_sides_that_share_one_iterator_are_refused(epoch_batches, wrap):
    loader = DataLoader(TensorDataset(torch.zeros(4 * epoch_batches, 8)), 4, num_workers=1, persistent_workers=True)
    words = (
        "two sides share one iterator: they are the same loader object, which allows only one epoch at a time. "
        "Give factories, so that each side has a loader of its own."
    )
    with pytest.raises(LoaderError, match=words), measure(wrap(loader), against=wrap(loader), budget=0.5):
        pass


def test_what_a_loader_changes_while_it_is_built_is_put_back():
    before = torch.get_num_threads()

    def changes_threads():
        torch.set_num_threads(before + 3)
        return [X] * 12

    with measure(changes_threads, budget=0.3):
        assert torch.get_num_threads() == before


def test_what_a_loader_changes_while_it_runs_is_put_back():
    before = torch.get_num_threads()

    class ChangesThreads(NoLength):
        def __iter__(self):
            torch.set_num_threads(before + 3)
            return super().__iter__()

    try:
        with measure(ChangesThreads, budget=0.3):
            pass
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_signal_handlers_that_a_loader_sets_are_put_back_at_the_end():
    before = signal.getsignal(signal.SIGINT)

    class Deaf(NoLength):
        def __iter__(self):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return super().__iter__()

    class Fails(Deaf):
        def __iter__(self):
            super().__iter__()
            raise OSError("disk gone")

    try:
        with measure(Deaf, budget=0.3):
            pass
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(OSError, match="disk gone"):
            measure(Fails, budget=0.3)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was_whatever_a_loader_does_to_it(collects):
    class Toggles(NoLength):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                (gc.enable if number % 2 else gc.disable)()
                yield batch

    (gc.enable if collects else gc.disable)()
    try:
        with measure(Toggles, budget=0.3):
            assert gc.isenabled() is collects
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def test_throughput_counts_samples_and_not_batches():
    with measure(lambda: Sleeping(X), against=lambda: Sleeping(X[:1]), budget=5) as run:
        assert run.throughput >= 2 * run.against.throughput


class Sleeping:
    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        for _ in range(1000):
            time.sleep(0.001)
            yield self.batch


def test_a_loader_that_writes_each_batch_into_one_buffer_is_measured():
    class OneBuffer(NoLength):
        def __iter__(self):
            buffer = X.clone()
            for number in range(30):
                yield buffer.fill_(number)

    with measure(OneBuffer, against=OneBuffer, budget=0.5) as run:
        assert run.throughput >= 1e-9 * run.against.throughput


def test_one_loader_object_with_an_iterator_an_epoch_is_its_own_equal():
    loader = NoLength()
    with measure(loader, against=loader, budget=0.5) as run:
        assert run.throughput >= 1e-9 * run.against.throughput
    with measure(lambda: loader, against=lambda: loader, budget=0.5) as run:
        assert run.throughput >= 1e-9 * run.against.throughput


def test_two_factories_that_hand_out_one_generator_are_refused():
    shared = endless()
    with pytest.raises(LoaderError, match="two sides share one iterator"):
        measure(lambda: shared, against=lambda: shared, budget=0.5)


def test_closing_a_run_ends_its_threads_and_workers_and_restores_the_collector():
    threads, processes = set(threading.enumerate()), {child.pid for child in psutil.Process().children()}
    with measure(lambda: DataLoader(TensorDataset(torch.zeros(80, 8)), 4, num_workers=1), budget=0.3) as run:
        workers = [pid for pid in run.rounds.sides["loader"].children if pid not in processes]
        assert len(workers) == 1
    assert gc.isenabled()
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), thread.name
    assert not psutil.pid_exists(workers[0])


def test_several_named_sides_are_compared_by_name():
    with measure(NoLength, against={"plain": NoLength, "wrong": WrongLength}, budget=0.5) as run:
        assert set(run.against) == {"plain", "wrong"}
        assert run.throughput >= 1e-9 * run.against["plain"].throughput
        assert run.verdicts[0].claim == "throughput >= 1e-09 * against['plain'].throughput"


def test_memory_is_measured_from_before_the_factory_is_called():
    nbytes = 64 << 20

    def holds_memory():
        kept = np.ones(nbytes, np.uint8)
        loader = NoLength()
        loader.kept = kept
        return loader

    with measure(holds_memory, budget=0.3) as run:
        assert run.peak_memory.value == pytest.approx(nbytes, rel=0.2)
