"""What the table says beside its figures."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pytest_loaderperf import ReferenceLoader, measure
from pytest_loaderperf.errors import ClaimError, LoaderError
from pytest_loaderperf.measurement.record import EpochRecord
from pytest_loaderperf.runs import notes
from pytest_loaderperf.runs import run as run_module
from pytest_loaderperf.runs.notes import epoch_story, notes_of

X = torch.zeros(4, 8)
MS = 1_000_000
PACE_NS = 0.1 * MS  # a sample


def an_epoch(first_ms=1, waits_ms=99, longest_ms=1, exit_ms=0, *, whole=True):
    """100 batches of 10 samples, which take 1 ms each at the tests' pace."""
    return EpochRecord(first_ms * MS, waits_ms * MS, longest_ms * MS, exit_ms * MS, 100, 1000, whole)


EVENLY = "batches do not take equally long"


@pytest.mark.parametrize(
    "epoch, takes, causes, rate",
    [
        (an_epoch(first_ms=401), "500 ms", "the first batch takes 400 ms", "2,000"),
        (an_epoch(exit_ms=3000), "3.10 s", "leaving it takes 3.00 s", "323"),
        (an_epoch(waits_ms=5098, longest_ms=5001), "5.10 s", "one wait for a batch takes 5.00 s", "196"),
        (an_epoch(waits_ms=299, longest_ms=3), "300 ms", EVENLY, "3,333"),
        (
            an_epoch(first_ms=201, waits_ms=299, longest_ms=121),
            "500 ms",
            "the first batch takes 200 ms, one wait for a batch takes 120 ms",
            "2,000",
        ),
        (an_epoch(first_ms=501, waits_ms=499), "1.00 s", f"the first batch takes 500 ms, {EVENLY}", "1,000"),
    ],
)
def test_an_epoch_that_batches_do_not_explain_says_where_its_time_goes(epoch, takes, causes, rate):
    told = f"an epoch takes {takes}, of which batches explain 100 ms: {causes} ({rate} samples/s over epochs)"
    assert epoch_story([epoch], PACE_NS, starts_workers=False) == told


def test_workers_that_start_anew_are_named_where_the_start_or_the_exit_is_slow():
    told = "workers restart in each epoch, the first batch takes 400 ms"
    assert told in epoch_story([an_epoch(first_ms=401)], PACE_NS, starts_workers=True)
    assert "workers restart" in epoch_story([an_epoch(exit_ms=300)], PACE_NS, starts_workers=True)
    assert "workers" not in epoch_story([an_epoch(waits_ms=299)], PACE_NS, starts_workers=True)


def test_an_epoch_faster_than_its_trials_says_so_if_it_ran_in_one_go():
    told = (
        "an epoch takes 50.0 ms, where batches at the speed of the trials take 100 ms: "
        "batches do not take equally long (20,000 samples/s over epochs)"
    )
    assert epoch_story([an_epoch(waits_ms=49)], PACE_NS, starts_workers=False) == told
    assert epoch_story([an_epoch(waits_ms=49, whole=False)], PACE_NS, starts_workers=False) == ""


@pytest.mark.parametrize("epoch", [an_epoch(), an_epoch(waits_ms=108), an_epoch(waits_ms=91)])
def test_an_epoch_that_batches_explain_is_no_story(epoch):
    assert epoch_story([epoch], PACE_NS, starts_workers=True) == ""


def test_one_epoch_out_of_several_is_no_story():
    ordinary = [an_epoch()] * 2
    assert epoch_story([an_epoch(waits_ms=500), *ordinary], PACE_NS, starts_workers=False) == ""


@pytest.mark.parametrize("first_ms, exit_ms, told", [(10, 0, False), (5, 5, False), (10, 1, True), (11, 0, True)])
def test_what_takes_less_than_a_training_step_is_no_story(first_ms, exit_ms, told):
    """10 batches of 0.1 ms, of which the first and the exit take longer."""
    short = EpochRecord(round(first_ms * MS), round(0.9 * MS), 100_000, exit_ms * MS, 10, 40, whole=True)
    assert bool(epoch_story([short], MS / 40, starts_workers=False)) is told


class SlowExit:
    def __iter__(self):
        try:
            for _ in range(12):
                time.sleep(0.001)
                yield X
        finally:
            time.sleep(0.1)


def test_a_run_that_measured_an_epoch_says_what_it_takes():
    with measure(SlowExit, against=SlowExit, budget=0.3) as run:
        assert run.epoch.value >= 0.112
        assert run.epoch_throughput.value <= 48 / 0.112
        told = [note for note in notes_of(run) if note.startswith("loader: an epoch takes ")]
    assert len(told) == 1
    assert "leaving it takes 1" in told[0]


def test_a_whole_epoch_is_compared_pair_by_pair():
    class Ends(SlowExit):
        def __iter__(self):
            for _ in range(12):
                time.sleep(0.001)
                yield X

    with measure(SlowExit, against=Ends, budget=30) as run:
        assert not run.epoch_throughput >= 0.9 * run.against.epoch_throughput
        assert run.verdicts[0].counted == "pairs"
        assert run.verdicts[0].claim == "epoch_throughput >= 0.9 * against.epoch_throughput"
        assert run.verdicts[0].ruling.estimate < 0.5


class Threaded:
    def __init__(self, **attributes):
        self.stop = threading.Event()
        self.__dict__.update(attributes)

    def __iter__(self):
        threading.Thread(target=self.stop.wait, args=(30,), daemon=True).start()
        yield from [X] * 48
        self.stop.set()


class Hides(Dataset):
    """Has an inner loader with workers, as torchio.Queue does."""

    def __init__(self):
        self.inner = DataLoader(TensorDataset(torch.zeros(4000, 8)), 4, num_workers=2)
        self.rows = None

    def __len__(self):
        return 4000

    def __getitem__(self, index):
        if self.rows is None:
            self.rows = iter(self.inner)
        return next(self.rows)[0][0]


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: DataLoader(Hides(), 4), "loader: 2 processes and 2 threads of its own, though it says num_workers=0"),
        (lambda: Threaded(num_workers=0), "loader: 1 thread of its own, though it says num_workers=0"),
        (Threaded, "loader: 1 thread of its own"),
        (lambda: Threaded(num_workers=2), None),
        (lambda: DataLoader(TensorDataset(torch.zeros(400, 8)), 4, num_workers=2), None),
        (lambda: [X] * 12, None),
    ],
    ids=["hidden workers", "hidden thread", "undeclared thread", "declared", "workers", "none"],
)
def test_helpers_that_a_loader_does_not_speak_of_are_told(make, told):
    with measure(make, budget=0.2) as run:
        notes = [note for note in notes_of(run) if "of its own" in note]
    assert notes == ([told] if told else [])


class Lazy:
    shape = (4, 8)

    def __init__(self):
        self.read = 0

    @property
    def rows(self):
        self.read += 1
        time.sleep(0.001)
        return X


def lazily():
    return [Lazy() for _ in range(12)]


LAZY = (
    "loader: batches of type Lazy hold no arrays: if they are lazy, what reading them costs is not measured; "
    "give touch=, a function that reads a batch"
)


def test_batches_that_may_be_lazy_are_told():
    with measure(lazily, budget=0.2) as run:
        assert LAZY in notes_of(run)


def test_a_verdict_on_batches_that_may_be_lazy_says_so_of_each_side():
    with measure(lazily, against=lazily, budget=0.2, max_budget=0.2) as run:
        words = str(run.throughput >= 0.5 * run.against.throughput).splitlines()
    assert words[-2:] == [f"  note      {LAZY}", f"  note      against: {LAZY.partition(': ')[2]}"]


def test_a_verdict_on_batches_that_are_read_says_nothing_of_that():
    with measure(lazily, budget=0.2, max_budget=0.2, touch=read) as run:
        assert "note " not in str(run.throughput >= 1)


def test_a_touch_reads_each_batch_within_its_time_on_every_side_but_the_roofline():
    with measure(lambda: [(X, Lazy())] * 12, against=lazily, count=lambda batch: 4, touch=read, budget=0.3) as run:
        assert not [note for note in notes_of(run) if "lazy" in note]
        assert min(run.batch_latency.p50.value, run.against.batch_latency.p50.value) >= 0.001
        assert run.first_batch.value >= 0.001
        assert run.roofline.batch_latency.p50.value > 0


def read(batch):
    return (batch if isinstance(batch, Lazy) else batch[1]).rows


@pytest.mark.parametrize(
    "batch",
    [["a", "b"], [1, 2.5], {"x": X, "lazy": Lazy()}, (None, "name", ["a"])],
    ids=["text", "numbers", "arrays", ""],
)
def test_what_is_there_already_is_not_called_lazy(batch):
    with measure(lambda: [batch] * 12, count=lambda batch: 2, budget=0.2) as run:
        assert not [note for note in notes_of(run) if "lazy" in note]


def endless():
    return itertools.repeat(X)


@pytest.mark.parametrize("name", ["epoch", "epoch_throughput", "epoch_exit"])
def test_an_endless_loader_has_no_whole_epoch_and_goes_on(name):
    with measure(endless, budget=0.2, timeout=0.3) as run:
        with pytest.raises(LoaderError, match="the loader: expected an epoch that ends, got "):
            _ = run.metric(name).value
        assert run.throughput >= 1
        with pytest.raises(LoaderError, match="the roofline loader: expected an epoch that ends, got a Roofline"):
            _ = run.roofline.metric(name).value


class Long:
    """50,000 batches that take 1 ms each."""

    def __len__(self):
        return 50_000

    def __iter__(self):
        for _ in range(50_000):
            time.sleep(0.001)
            yield X


def test_epochs_that_the_budget_cannot_pay_for_are_refused_with_what_a_round_costs():
    words = (
        r"^epoch <= against\.epoch needs whole epochs, a round of which takes about [\d,.]+ s \(50,000 batches of "
        r"[\d.]+ ms of loader, 50,000 batches of [\d.]+ ms of against\)\. Expected at most 300 ms, the time to measure "
        r"in; a verdict needs many rounds\. Give a part of the dataset, such as torch\.utils\.data\.Subset, or a "
        r"larger budget \(loaderperf_budget\), or compare throughput and first_batch\.$"
    )
    with measure(Long, against=Long, budget=0.3, max_budget=0.3, timeout=5) as run:
        with pytest.raises(ClaimError, match=words):
            _ = run.epoch <= run.against.epoch
        with pytest.raises(ClaimError, match=r"^loader: epoch_exit needs whole epochs, .* Expected at most 5\.00 s"):
            _ = run.epoch_exit.value
        assert run.verdicts == []


@pytest.mark.parametrize("kind, named", [("processes", True), ("threads", False)])
def test_threads_that_are_kept_are_not_said_to_start_anew(kind, named, monkeypatch):
    """Whether there is something to tell depends on how fast the machine is; that it may be told does not."""
    asked = []
    monkeypatch.setattr(notes, "epoch_story", lambda *_, starts_workers: asked.append(starts_workers) or "")

    def make():
        dataset = [torch.zeros(8)] * 80
        return ReferenceLoader(dataset, 8, num_workers=2, worker_kind=kind, persistent_workers=False)

    with measure(make, budget=0.3) as run:
        assert run.epoch.value > 0
        notes_of(run)
        assert asked == [named]


@pytest.mark.parametrize("workers, rounds", [(0, 5), (1, 2)])
def test_the_copy_limit_waits_for_workers_to_rest_in_few_rounds(monkeypatch, workers, rounds):
    monkeypatch.setattr(run_module, "_FIRST_SECONDS", 600.0)
    monkeypatch.setattr(run_module, "_FIRST_SHARE", 600.0)
    dataset = TensorDataset(torch.zeros(4000, 4))
    with measure(lambda: DataLoader(dataset, batch_size=4, num_workers=workers), budget=1) as run:
        looks = [[key.side for key in seen.records] for seen in run.rounds.done]
    assert [len(sides) for sides in looks] == [2] * rounds + [1] * (5 - rounds)
