from __future__ import annotations

import gc
import io
import pickle
import threading
import time
import traceback
import weakref
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrays.columns import Columns
from pytest_loaderperf.data.stores import preload
from pytest_loaderperf.errors import DataError, FrozenAugmentationWarning
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.loader.fetch import Fetch
from pytest_loaderperf.loader.gather import Gather

PATIENCE_S = 30  # far beyond what a busy machine needs; only a failure waits so long
CHUNK = preload.CHUNK


class Pair(NamedTuple):
    image: object
    label: object


class Counted:
    """A dataset of ``make(i)`` that counts what was asked for, and notes two threads in it at once."""

    def __init__(self, make, samples=100):
        self.make, self.samples = make, samples
        self.asked, self.inside, self.overlaps = [], 0, 0

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        self.inside += 1
        self.overlaps += self.inside > 1
        self.asked.append(index)
        time.sleep(0)  # another thread's turn, were it allowed in
        sample = self.make(index)
        self.inside -= 1
        return sample


class Gated(Counted):
    """One whose samples from ``shut`` on wait until the gate is opened, if a thread in the background asks."""

    def __init__(self, make, samples=100, shut=CHUNK):
        super().__init__(make, samples)
        self.shut, self.gate, self.reached = shut, threading.Event(), threading.Event()

    def __getitem__(self, index):
        if index >= self.shut and threading.current_thread().name == "loaderperf-preload":
            self.reached.set()
            assert self.gate.wait(PATIENCE_S)
        return super().__getitem__(index)


def row(index):
    return torch.tensor([index, index + 0.5])


WANTED = torch.stack([row(i) for i in range(100)])
KINDS = {
    "int": lambda i: i,
    "float": float,
    "bool": lambda i: i % 3 == 0,
    "NumPy number": np.float32,
    "NumPy array": lambda i: np.full((2, 3), i, np.int16),
    "NumPy array of no dimensions": lambda i: np.array(i, np.uint8),
    "strided array": lambda i: np.arange(i, i + 6.0).reshape(2, 3).T,
    "tensor": row,
    "tensor of no dimensions": torch.tensor,
    "bfloat16": lambda i: torch.full((3,), i, dtype=torch.bfloat16),
    "empty rows": lambda i: torch.zeros(0, 3),
    "tuple": lambda i: (row(i), i),
    "list": lambda i: [row(i), i],
    "dict": lambda i: {"image": row(i), "label": i},
    "namedtuple": lambda i: Pair(row(i), i),
    "nested": lambda i: {"x": (row(i), [i, {"z": float(i)}]), "pair": Pair(np.full(2, i), i)},
}


def same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def make(request):
    return request.param


@pytest.fixture(autouse=True)
def _all_probed(monkeypatch):
    monkeypatch.setattr(preload, "PROBE_S", PATIENCE_S)  # also on a busy machine


def wanted_reads(samples, *, background):
    """Each sample once, and the further reads that tell whether they draw at random."""
    return sorted([*range(samples), *(0 if background else i % samples for i in range(preload.PROBED))])


@pytest.fixture
def filling():
    """``filling(dataset)``: being pre-loaded in the background, as far as its gate; opened and ended after the test."""
    made = []

    def start(dataset, **arguments):
        preloaded = optimize(dataset, background=True, **arguments)
        made.append((dataset, preloaded))
        assert dataset.reached.wait(PATIENCE_S)
        return preloaded

    yield start
    for dataset, preloaded in made:
        dataset.gate.set()
        preloaded.close()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("samples", [1, 2, CHUNK, 2 * CHUNK + 3])
def test_every_sample_is_fetched_once_and_a_few_another_time(samples, background):
    dataset = Counted(row, samples)
    preloaded = optimize(dataset, background=background)
    preloaded.wait()
    for _ in range(2):
        list(ReferenceLoader(preloaded, 3, shuffle=True))
        list(DataLoader(preloaded, 3))
    assert sorted(dataset.asked) == wanted_reads(samples, background=background)


def test_batches_are_those_that_torch_makes_of_the_dataset(make):
    dataset = Counted(make, 10)
    wanted = list(DataLoader(dataset, 4))
    preloaded = optimize(dataset)
    assert len(preloaded) == 10
    for loader in (DataLoader(preloaded, 4), ReferenceLoader(preloaded, 4)):
        assert all(map(same, loader, wanted))
        assert len(loader) == len(wanted)


def test_samples_collate_to_the_batch_that_the_datasets_own_do(make):
    dataset = Counted(make, 3)
    preloaded = optimize(dataset)
    assert same(default_collate([preloaded[i] for i in range(3)]), default_collate([dataset[i] for i in range(3)]))


def test_dataclasses_come_as_such():
    @dataclass
    class Sample:
        image: torch.Tensor
        label: int

    preloaded = optimize(Counted(lambda i: Sample(row(i), i), 5))
    assert preloaded[3].label.item() == 3
    batches = list(ReferenceLoader(preloaded, 5))
    assert type(batches[0]) is Sample
    assert batches[0].label.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(batches[0].image, torch.stack([row(i) for i in range(5)]))


def test_reference_loader_gathers_from_it():
    loader = ReferenceLoader(optimize(Counted(row)), 8)
    assert type(loader._engine) is Gather


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("loader_class", [DataLoader, ReferenceLoader])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_torchs_workers_serve_it_even_while_it_is_filled(filling, loader_class, num_workers):
    dataset = Gated(row)
    preloaded = filling(dataset)  # whose thread now holds the lock, which the workers are forked with
    if num_workers == 0:
        dataset.gate.set()
    arguments = {"worker_kind": "processes"} if loader_class is ReferenceLoader else {}
    loader = loader_class(preloaded, 10, num_workers=num_workers, timeout=PATIENCE_S * bool(num_workers), **arguments)
    batches = list(loader)
    assert torch.equal(torch.cat(batches), WANTED)
    if loader_class is ReferenceLoader:
        loader.close()


@pytest.mark.parametrize("index", [0, 99, -1, -100, np.int64(7), torch.tensor(7)], ids=repr)
def test_an_index_counts_from_the_end_where_it_is_negative(index):
    dataset = Gated(row)
    dataset.gate.set()
    for preloaded in (optimize(dataset), optimize(dataset, background=True)):
        assert torch.equal(preloaded[index], row(int(index) % 100))
        preloaded.close()


@pytest.mark.parametrize("index", [100, -101, [3, 100]], ids=repr)
def test_an_index_out_of_range_is_refused_before_the_dataset_sees_it(filling, index):
    dataset = Gated(row)
    for preloaded in (optimize(Counted(row)), filling(dataset)):
        wrong = 100 if index != -101 else -101
        with pytest.raises(IndexError) as caught:
            preloaded[index]
        assert str(caught.value) == f"index {wrong} is out of range for a dataset of 100 samples."
    assert max(dataset.asked) < 100


def test_a_list_of_indices_gives_a_batch():
    assert torch.equal(optimize(Counted(row))[[5, 2, 5]], torch.stack([row(5), row(2), row(5)]))


def test_it_ends_where_it_is_iterated_by_index():
    assert [int(sample) for sample in optimize(Counted(KINDS["int"], 5))] == [0, 1, 2, 3, 4]


def test_writing_into_a_sample_does_not_change_the_next():
    preloaded = optimize(Counted(row))
    preloaded[3].zero_()
    assert torch.equal(preloaded[3], row(3))


def test_what_the_dataset_draws_is_drawn_once_for_all():
    draw = np.random.default_rng(0)
    with pytest.warns(FrozenAugmentationWarning):
        preloaded = optimize(Counted(lambda i: draw.random(), 5))
    epochs = [torch.cat(list(ReferenceLoader(preloaded, 2))) for _ in range(2)]
    assert torch.equal(*epochs)
    assert len(set(epochs[0].tolist())) == 5


class TestInTheBackground:
    def test_optimize_returns_at_once_and_the_rest_can_be_waited_for(self, filling):
        dataset = Gated(row)
        preloaded = filling(dataset)
        assert preloaded.columns is None
        dataset.gate.set()
        preloaded.wait()
        assert preloaded.columns is not None
        assert sorted(dataset.asked) == wanted_reads(100, background=True)

    def test_what_is_asked_for_early_is_fetched_then_and_only_once(self):
        dataset = Counted(lambda i: (time.sleep(0.0005), row(i))[1], 40 * CHUNK)
        preloaded = optimize(dataset, background=True)
        meanwhile = []
        for late in range(len(dataset) - 1, len(dataset) - 10, -1):
            before = len(dataset.asked)
            assert torch.equal(preloaded[[late, late]], torch.stack([row(late)] * 2))
            meanwhile.append(len(dataset.asked) - before)
        assert sorted(meanwhile)[4] < 1.5 * CHUNK  # its turn comes after the chunk at hand
        preloaded.wait()
        assert sorted(dataset.asked) == wanted_reads(len(dataset), background=True)

    def test_nothing_of_it_is_left_once_it_is_filled_and_dropped(self):
        preloaded = optimize(Counted(row), background=True)
        preloaded.wait()
        gone = weakref.ref(preloaded)
        del preloaded
        gc.collect()
        assert gone() is None

    def test_never_are_two_threads_in_the_dataset_at_once(self):
        dataset = Counted(row, 50 * CHUNK)
        preloaded = optimize(dataset, background=True)
        wanted = torch.stack([row(i) for i in range(len(dataset))])
        consumers = [ReferenceLoader(preloaded, 50, num_workers=2, worker_kind="threads") for _ in range(2)]
        came = [None, None]

        def consume(which):
            came[which] = torch.cat(list(consumers[which]))

        threads = [threading.Thread(target=consume, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        preloaded.wait()
        for loader in consumers:
            loader.close()
        assert torch.equal(came[0], wanted)
        assert torch.equal(came[1], wanted)
        assert dataset.overlaps == 0
        assert sorted(dataset.asked) == wanted_reads(len(dataset), background=True)

    def test_the_loader_gathers_from_the_first_epoch_on_that_finds_it_filled(self, filling):
        dataset = Gated(row)
        preloaded = filling(dataset)
        with ReferenceLoader(preloaded, 8) as loader:
            assert type(loader._engine) is Fetch
            batches = iter(loader)
            first = list(islice(batches, CHUNK // 8))
            dataset.gate.set()
            preloaded.wait()
            assert torch.equal(torch.cat([*first, *batches]), WANTED)
            assert type(loader._engine) is Fetch
            assert torch.equal(torch.cat(list(loader)), WANTED)
            assert type(loader._engine) is Gather

    @pytest.mark.parametrize(
        "arguments", [{"collate_fn": default_collate}, {"batch_size": None}], ids=["collate", "single"]
    )
    def test_the_loader_begins_anew_only_where_it_gathers_then(self, arguments):
        loader = ReferenceLoader(optimize(Counted(row)), **arguments)
        engine = loader._engine
        for _ in range(2):
            list(loader)
            assert loader._engine is engine

    def test_close_stops_it_and_the_rest_is_fetched_when_it_is_asked_for(self, filling):
        dataset = Gated(row)
        preloaded = filling(dataset)
        closer = threading.Thread(target=preloaded.close)
        closer.start()
        while not preloaded._closed:
            time.sleep(0.001)
        dataset.gate.set()
        closer.join(PATIENCE_S)
        preloaded.close()
        assert sorted(dataset.asked) == wanted_reads(
            2 * CHUNK, background=True
        )  # the chunk at hand was fetched to its end
        assert torch.equal(preloaded[99], row(99))
        assert sorted(dataset.asked) == sorted([*wanted_reads(2 * CHUNK, background=True), 99])
        preloaded.wait()
        assert sorted(dataset.asked) == wanted_reads(100, background=True)

    def test_an_error_is_raised_by_wait_and_to_who_asks_for_that_sample(self, caplog):
        def make(index):
            if index == CHUNK + 5:
                raise ValueError("broken")
            return row(index)

        preloaded = optimize(Counted(make), background=True)
        for attempt in range(2):
            with pytest.raises(ValueError) as caught:
                preloaded.wait() if attempt == 0 else preloaded[CHUNK + 5]
            assert caught.value.args == ("broken",)
            assert caught.value.__notes__ == [f"raised in stage pre-load, for sample {CHUNK + 5}"]
        assert caplog.messages == ["pre-load stopped: ValueError: broken"]
        others = [i for i in range(100) if i != CHUNK + 5]
        assert torch.equal(torch.stack([preloaded[i] for i in others]), torch.stack(list(map(row, others))))
        loader = ReferenceLoader(preloaded, 11, on_error="skip")
        assert torch.equal(torch.cat(list(loader)), torch.stack(list(map(row, others))))
        assert [skipped.index for skipped in loader.skipped] == [CHUNK + 5]

    @pytest.mark.parametrize(
        "fetch", ["torch.tensor([index])", "time.sleep(0.001) or index", "index and threading.Event().wait()"]
    )
    def test_the_interpreter_exits_while_it_fills(self, run_code, fetch):
        script = f"""
import faulthandler, threading, time, torch
from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.stores import preload
preload.EXIT_S = 0.5
faulthandler.dump_traceback_later(30, exit=True)
class Endless:
    def __len__(self):
        return 100_000_000
    def __getitem__(self, index):
        return {fetch}
preloaded = optimize(Endless(), background=True)
time.sleep(0.1)
"""
        done = run_code(script)
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_is_logged(self, caplog):
        caplog.set_level("INFO", "pytest_loaderperf")
        optimize(Counted(row, 10))
        optimize(Counted(row, 10), background=True).wait()
        assert caplog.messages == [
            "pre-load: 10 samples, 80 bytes",
            "pre-load: 10 samples, 80 bytes, in the background",
        ]


class Rows:
    """Rows by their index, in a class that can be pickled."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return row(index)


class TestPickled:
    def test_it_comes_back_with_what_is_there(self):
        copy = pickle.loads(pickle.dumps(optimize(Rows())))  # noqa: S301 made here
        copy._dataset = None  # nothing is fetched any more
        assert torch.equal(torch.cat(list(ReferenceLoader(copy, 3))), WANTED)

    def test_while_it_is_filled_the_copy_has_all_that_it_claims_and_fetches_the_rest(self, monkeypatch):
        monkeypatch.setattr(preload, "_fill_in", lambda own: own()._fill(range(50)))
        preloaded = optimize(Rows(), background=True)
        preloaded._thread.join()

        class Meanwhile(pickle.Pickler):
            def persistent_id(self, obj):
                if isinstance(obj, Columns):  # which comes after the arrays
                    preloaded.wait()

        file = io.BytesIO()
        Meanwhile(file).dump(preloaded)
        assert preloaded.columns is not None
        copy = pickle.loads(file.getvalue())  # noqa: S301 made here
        assert copy.columns is None
        assert torch.equal(torch.stack([copy[i] for i in range(100)]), WANTED)
        assert copy.columns is not None

    def test_an_error_of_the_background_stays_behind(self):
        class UnpicklableError(ValueError):
            pass

        preloaded = optimize(Rows(), background=True)
        preloaded._error = UnpicklableError()
        copy = pickle.loads(pickle.dumps(preloaded))  # noqa: S301 made here
        copy.wait()
        assert copy.columns is not None


def refusal(dataset, kind=DataError, **arguments):
    with pytest.raises(kind) as caught:
        optimize(dataset, **arguments)
    return "".join(traceback.format_exception_only(caught.value)).split(": ", 1)[1].rstrip()


def test_a_dataset_without_samples_is_refused():
    assert refusal(Counted(row, 0)) == (
        "the dataset is empty, so the structure of its samples is unknown. Expected at least one."
    )


def test_a_dataset_that_exceeds_the_budget_is_refused_after_its_first_sample():
    dataset = Counted(row, 1000)
    assert refusal(dataset, memory_budget=7999) == (
        "1,000 samples of 8 bytes take 8,000 bytes, more than the budget of 7,999. "
        "Give a larger memory_budget, or load from the dataset itself."
    )
    assert dataset.asked == [0]
    assert len(optimize(dataset, memory_budget=8000)) == 1000


def test_by_default_half_of_the_available_memory_may_be_taken(monkeypatch):
    class Memory:
        available = 16_000

    monkeypatch.setattr(preload.psutil, "virtual_memory", Memory)
    optimize(Counted(row, 1000))
    assert refusal(Counted(row, 1001)) == (
        "1,001 samples of 8 bytes take 8,008 bytes, more than the budget of 8,000. "
        "Give a larger memory_budget, or load from the dataset itself."
    )


@pytest.mark.parametrize(
    "make", [str, lambda i: (row(i), "x"), lambda i: {"x": None}, lambda i: object(), lambda i: {}]
)
def test_what_no_array_holds_is_refused(make):
    assert refusal(Counted(make)) == (
        "the samples have parts that the rows of an array cannot hold, such as strings, tensors that require "
        "gradients, or no values at all. Make them numbers, or load from the dataset itself."
    )


UNLIKE = {
    "shape": (lambda bad: torch.zeros(3 if bad else 2), "", "float32 of shape (2,)", "float32 of shape (3,)"),
    "dtype": (
        lambda bad: {"x": 0.5 if bad else 1},
        " in field \"['x']\"",
        "int64 of shape ()",
        "float64 of shape ()",
    ),
    "a dtype that NumPy lacks": (
        lambda bad: torch.zeros(2, dtype=torch.uint16 if bad else torch.bfloat16),
        "",
        "torch.bfloat16 of shape (2,)",
        "uint16 of shape (2,)",
    ),
    "a part more": (
        lambda bad: (1, 2) if bad else (1,),
        " in field '[1]'",
        "no numbers",
        "int64 of shape ()",
    ),
    "a part less": (
        lambda bad: {"x": 1} if bad else {"x": 1, "y": 2},
        " in field \"['y']\"",
        "int64 of shape ()",
        "no numbers",
    ),
    "a string": (lambda bad: "one" if bad else 1, "", "int64 of shape ()", "no numbers"),
}


@pytest.mark.parametrize("make, where, expected, came", UNLIKE.values(), ids=UNLIKE)
@pytest.mark.parametrize("bad", [1, CHUNK, 70])
def test_a_sample_unlike_the_first_is_refused_with_its_index(make, where, expected, came, bad):
    preloaded = optimize(Counted(lambda i: make(i == bad)), background=True)
    with pytest.raises(DataError) as caught:
        preloaded.wait()
    assert str(caught.value) == (
        f"sample {bad} differs from sample 0{where}: expected {expected}, got {came}. "
        "Make all samples alike, so that one array holds each field, or load from the dataset itself."
    )
    assert refusal(Counted(lambda i: make(i == bad))) == str(caught.value)


def test_the_keys_of_a_dict_may_come_in_another_order():
    preloaded = optimize(Counted(lambda i: {"x": i, "y": 0.5} if i else {"y": 0.5, "x": i}, 3))
    assert preloaded[[0, 1, 2]]["x"].tolist() == [0, 1, 2]


def test_an_error_of_the_dataset_comes_out_with_its_sample():
    def make(index):
        return 1 // (7 - index)

    assert refusal(Counted(make), ZeroDivisionError) == (
        "integer division or modulo by zero\nraised in stage pre-load, for sample 7"
    )


@pytest.mark.parametrize("bad", [0, 2])
@pytest.mark.parametrize("number", [1 << 63, 1 << 70, -(1 << 63) - 1])
def test_a_number_that_no_tensor_holds_is_refused(bad, number):
    assert refusal(Counted(lambda i: number if i == bad else i, 5)) == (
        f"sample {bad} differs from sample 0: expected int64, got {number}. "
        "Make all samples alike, so that one array holds each field, or load from the dataset itself."
    )


@pytest.mark.parametrize(
    "dataset", [{"x": np.zeros(3)}, (np.zeros(3),), iter([]), 5], ids=lambda made: type(made).__name__
)
def test_what_is_no_map_style_dataset_is_refused(dataset):
    assert refusal(dataset).startswith(
        f"what is pre-loaded: expected a map-style dataset with __len__ and __getitem__, got {type(dataset).__name__}."
    )


@pytest.mark.parametrize("budget", [0, -1, 1.5, "1G", True])
def test_a_budget_that_is_no_number_of_bytes_is_refused(budget):
    assert refusal(Counted(row), memory_budget=budget) == (
        f"memory_budget: expected an integer of at least 1 (bytes), got {budget!r}."
    )


def test_one_that_is_dropped_while_it_is_filled_stops(filling):
    dataset = Gated(row)
    preloaded = optimize(dataset, background=True)
    assert dataset.reached.wait(PATIENCE_S)
    gone, thread = weakref.ref(preloaded), preloaded._thread
    del preloaded
    dataset.gate.set()
    thread.join(PATIENCE_S)
    assert gone() is None
    assert max(dataset.asked) < 2 * CHUNK
