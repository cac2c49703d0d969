"""Loaders observed in child processes: what is found, what is counted, and what cannot be."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.diagnosis import Diagnosis, Ledger, diagnose
from pytest_loaderperf.diagnosis.ledger import EpochSeen, Stages
from pytest_loaderperf.diagnosis.passes import running
from pytest_loaderperf.diagnosis.passes.changes import Change
from pytest_loaderperf.diagnosis.passes.facts import loader_facts
from pytest_loaderperf.diagnosis.passes.objects import objects_held
from pytest_loaderperf.diagnosis.passes.running import gain_in_pairs, gain_of_change, observe
from pytest_loaderperf.diagnosis.timeline import QueueSeen
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.report.trace import trace_events
from tests.report.test_trace import problems

pytestmark = pytest.mark.usefixtures("few_lines")
SAMPLES, BATCH = 64, 8
SHARED = Path("/dev/shm")  # noqa: S108 nothing is written there


def found(make_loader, **how):
    """Rule and offset of the line from this file's marks, for each finding."""
    return [(finding.rule, finding.line) for finding in diagnose(make_loader, **{"seconds": 5.0, **how}).findings]


def line_of(mark):
    lines = Path(__file__).read_text("utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


class Rows(Dataset):
    def __init__(self):
        self.rows = np.random.default_rng(0).random((SAMPLES, 4096), dtype=np.float32)
        self.names = [f"row {n}" for n in range(SAMPLES)]  # its objects

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index] * 2)


class Pools(Rows):
    def __getitem__(self, index):
        with ThreadPoolExecutor(2) as pool:  # a pool
            parts = list(pool.map(np.sort, np.split(self.rows[index], 2)))
        return torch.from_numpy(np.concatenate(parts))


class Drawn(Rows):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(1)  # a generator

    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index]) + self.rng.random()


class Stream(IterableDataset):
    def __iter__(self):
        for n in range(SAMPLES):  # all of it
            yield torch.full((4096,), float(n))


class Holds(Rows):
    def __init__(self):
        super().__init__()
        self.file = Path(__file__).open()  # noqa: SIM115 a dataset that keeps its file


class Opened(Rows):
    def __init__(self, path):
        super().__init__()
        self.path = path
        np.save(path, self.rows)

    def __getitem__(self, index):
        return torch.from_numpy(np.load(self.path)[index])  # a file


def test_an_executor_for_each_sample_is_named_with_its_line():
    diagnosis = diagnose(lambda: DataLoader(Pools(), batch_size=BATCH), seconds=5.0)
    (finding,) = diagnosis.findings
    assert (finding.rule, finding.line, finding.file) == ("executor-per-item", line_of("a pool"), __file__)
    assert (finding.count, finding.unit) == (1.0, "ThreadPoolExecutors a sample")
    assert diagnosis.executors_made == SAMPLES


def test_workers_are_seen_from_inside():
    make_loader = lambda: DataLoader(Pools(), batch_size=BATCH, num_workers=2, persistent_workers=True)  # noqa: E731
    diagnosis = diagnose(make_loader, seconds=5.0)
    found = [(one.rule, one.line) for one in diagnosis.findings if one.rule != "shallow-prefetch"]  # on a busy machine
    assert found == [("executor-per-item", line_of("a pool"))]
    assert diagnosis.executors_made == SAMPLES
    assert sum(diagnosis.stages.values()) == pytest.approx(1)
    assert diagnosis.stages["fetch"] > diagnosis.stages["collate"]


def test_files_opened_are_counted_and_named(tmp_path):
    diagnosis = diagnose(lambda: DataLoader(Opened(tmp_path / "rows.npy"), batch_size=BATCH), seconds=5.0)
    assert [(one.rule, one.line) for one in diagnosis.findings] == [("file-reopened", line_of("a file"))]
    assert diagnosis.files_opened == SAMPLES


def test_workers_that_draw_the_same_numbers_are_named_where_the_generator_is_made():
    make_loader = lambda: DataLoader(Drawn(), batch_size=BATCH, num_workers=2, persistent_workers=True)  # noqa: E731
    assert found(make_loader) == [("same-random-numbers", line_of("a generator"))]


def test_a_stream_that_every_worker_reads_is_named():
    make_loader = lambda: DataLoader(Stream(), batch_size=BATCH, num_workers=2, persistent_workers=True)  # noqa: E731
    assert found(make_loader) == [("duplicated-data", line_of("all of it"))]


@pytest.mark.parametrize(
    "make_loader",
    [
        lambda: DataLoader(Rows(), batch_size=BATCH, shuffle=True),
        lambda: DataLoader(Rows(), batch_size=BATCH, num_workers=2, persistent_workers=True),
        lambda: ReferenceLoader((torch.rand(512, 8), torch.arange(512)), batch_size=32, shuffle=True),
        lambda: [torch.rand(4, 4) for _ in range(8)],
    ],
    ids=["inline", "workers", "reference loader", "list"],
)
def test_good_loaders_have_no_findings(make_loader):
    assert found(make_loader) == []


def test_a_silent_rule_does_not_fire():
    assert found(lambda: DataLoader(Pools(), batch_size=BATCH), silent=["executor-per-item"]) == []


@pytest.fixture(scope="module")
def repeats():
    """The same loader, observed twice."""
    return [observe(lambda: DataLoader(Pools(), batch_size=BATCH), 3.0, epochs=1, traced=True) for _ in range(2)]


def test_counts_are_equal_in_repeats(repeats):
    counts = [{(site.line, site.callee): site.count for site in ledger.sites} for ledger in repeats]
    assert counts[0] == counts[1] != {}


def test_a_loader_object_is_observed_as_well():
    assert found(DataLoader(Pools(), batch_size=BATCH)) == [("executor-per-item", line_of("a pool"))]


def test_nothing_of_a_pass_stays_in_this_process():
    def here():
        return Rows.__getitem__.__code__, threading.Thread.start, threading.active_count(), psutil.Process().children()

    before = here()
    diagnose(lambda: DataLoader(Rows(), batch_size=BATCH), seconds=1.0)
    assert here() == before


def test_an_epoch_that_takes_longer_than_the_time_says_so():
    def endless():
        while True:
            yield torch.rand(4)

    class Endless:
        def __iter__(self):
            return endless()

    diagnosis = diagnose(Endless, seconds=0.3)
    assert diagnosis.ledger.unseen[0].startswith("the end of an epoch")
    assert diagnosis.samples_per_second > 0


class Dies(Rows):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


class Raises(Rows):
    def __getitem__(self, index):
        raise ValueError("no such row")


def test_a_worker_that_dies_is_an_error_with_its_signal():
    with pytest.raises(LoaderError, match="worker 0 ended with signal SIGKILL"):
        diagnose(lambda: DataLoader(Dies(), num_workers=1), seconds=1.0)


def test_a_process_that_dies_is_an_error_with_its_signal():
    with pytest.raises(LoaderError, match="ended with signal SIGKILL"):
        diagnose(lambda: DataLoader(Dies()), seconds=1.0)


def test_an_error_of_the_loader_is_shown():
    with pytest.raises(LoaderError, match="ValueError: no such row"):
        diagnose(lambda: DataLoader(Raises()), seconds=1.0)


def test_a_loader_without_batches_is_an_error():
    with pytest.raises(LoaderError, match="expected at least one batch to observe, got an empty epoch"):
        diagnose(list, seconds=1.0)


def test_a_loader_that_never_gives_a_batch_is_ended():
    class Stuck:
        def __iter__(self):
            time.sleep(60)
            yield None

    before = psutil.Process().children()
    with pytest.raises(LoaderError, match="gave no batch, or did not end, within 1 s"):
        observe(Stuck, 0.5, patience_seconds=0.5)
    assert psutil.Process().children() == before


def test_a_ledger_is_read_as_it_was_written(repeats):
    ledger = repeats[0]
    read = Ledger.from_json(json.loads(json.dumps(ledger.to_json())))
    assert read == ledger
    assert read.timeline.tracks[0].spans[0].stage == "epoch"


@pytest.fixture(scope="module")
def stepped():
    """A loader with workers that persist, traced beside a consumer that takes a step for each batch."""
    make_loader = lambda: DataLoader(Pools(), batch_size=BATCH, num_workers=2, persistent_workers=True)  # noqa: E731
    return observe(make_loader, 15.0, epochs=2, step_seconds=0.002, traced=True)


def test_a_trace_shows_each_batch_where_it_was_worked_on(stepped):
    events = trace_events(stepped.timeline)
    assert list(problems(events)) == []
    batches = SAMPLES // BATCH * len(stepped.stepped)
    named = Counter(event["name"] for event in events if event["ph"] == "X")
    for stage in ("next()", "consumer", "fetch", "collate", "send", "receive"):
        assert named[stage] == batches, stage
    assert sum(event["ph"] == "f" for event in events) == batches
    workers = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert workers == {"main process", "worker 0", "worker 1"}
    assert any(name.startswith("numpy.") and "sort" in name for name in named)  # what its executors do


def test_the_queue_never_holds_more_than_workers_may_fetch_ahead(stepped):
    assert stepped.queue.capacity == 4
    assert stepped.queue.asks == (SAMPLES // BATCH - 1) * len(stepped.stepped)
    ready = [event["args"]["ready"] for event in trace_events(stepped.timeline) if event["ph"] == "C"]
    assert ready[-1] == 0
    assert 0 <= min(ready) <= max(ready) <= stepped.queue.capacity


def test_the_lines_of_a_stage_are_seen_in_its_own_thread(stepped):
    diagnosis = Diagnosis("", stepped, [])
    lines = diagnosis.lines_of("fetch")
    assert 0 < sum(line.share for line in lines) <= diagnosis.stages["fetch"] * (1 + 1e-9)
    helpers = [site for site in stepped.sites if site.callee == "numpy.sort"]
    assert not any(site.fetch_ns for site in helpers)


def test_what_the_consumer_takes_is_in_no_time_of_the_loader(monkeypatch):
    seen = []

    def forked(*_args, **how):
        seen.append(how)
        epoch = EpochSeen(2, 2, 1, len(seen), 1, whole=True)
        queue = QueueSeen(asks=len(seen))
        return Ledger(timed=(epoch,), queue=queue, stages=Stages({"fetch": len(seen)}), copy_ns=len(seen))

    monkeypatch.setattr("pytest_loaderperf.diagnosis.passes.running._forked", forked)
    ledger = observe(None, 1.0, step_seconds=0.5, traced=True)
    assert [(how.get("step_seconds", 0), how.get("traced", False)) for how in seen] == [
        (0, False),
        (0.5, True),
        (0, False),
    ]
    assert (ledger.timed[0].waits_ns, ledger.stages.ns["fetch"], ledger.copy_ns) == (1, 1, 1)
    assert (ledger.stepped[0].waits_ns, ledger.queue.asks, ledger.step_ns) == (2, 2, 500_000_000)
    assert ledger.counted[0].waits_ns == 3


def test_without_a_step_the_timing_pass_is_the_one_that_is_traced(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pytest_loaderperf.diagnosis.passes.running._forked", lambda *_args, **how: (seen.append(how), Ledger())[1]
    )
    ledger = observe(None, 1.0, traced=True)
    assert [(how["counts"], how.get("traced", False)) for how in seen] == [(False, True), (True, False)]
    assert ledger.stepped == ()


def test_settings_are_tried_and_a_gain_is_measured():
    with Path(__file__).open():  # of this process, not of the dataset
        diagnosis = diagnose(lambda: DataLoader(Pools(), batch_size=BATCH), seconds=1.0, tries=True, advises=True)
    (finding,) = diagnosis.findings
    assert finding.gain.how == "measured"
    said = [*(one.text for one in diagnosis.advice), *diagnosis.untried]
    assert any(f"ReferenceLoader(dataset, batch_size={BATCH}, ...)" in text for text in said)
    assert all(one.gain.low <= one.gain.value <= one.gain.high for one in diagnosis.advice)
    assert "pin_memory: no CUDA device here" in diagnosis.untried or torch.cuda.is_available()


class Counted(Rows):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def count(self, row):
        self.calls.value += 1
        return row

    def __getitem__(self, index):
        row = self.count(self.rows[index])  # counted
        return torch.from_numpy(row.copy())


@pytest.mark.parametrize(("enough_seconds", "epochs"), [(0.0, 4), (60.0, 64)], ids=["long epochs", "short epochs"])
def test_lines_are_replayed_in_all_epochs_but_the_first(monkeypatch, enough_seconds, epochs):
    monkeypatch.setattr("pytest_loaderperf.diagnosis.passes.observe._ENOUGH_SECONDS", enough_seconds)
    calls = multiprocessing.Value("i", 0, lock=False)
    change = Change("scan-per-item", __file__, line_of("counted"), "")
    gain_in_pairs(lambda: DataLoader(Counted(calls), batch_size=BATCH), change, 60.0, threads=1)
    read = calls.value // SAMPLES  # a few samples are read to see what they are
    assert read == 9 * (epochs + 1)


@pytest.mark.parametrize(("seconds", "whole", "passes"), [(60.0, True, 18), (0.0, True, 6), (60.0, False, 2)])
def test_as_many_pairs_as_there_is_time_for(monkeypatch, seconds, whole, passes):
    made = []

    def observed(*_args, **how):
        made.append(how["change"])
        epoch = EpochSeen(8, 32, 10, 70, 0, whole)
        return Ledger(timed=(epoch, epoch))

    monkeypatch.setattr(running, "_forked", observed)
    assert gain_in_pairs(None, Change("repeated-work", "data.py", 7, "json.loads"), seconds)[1] == 1
    assert len(made) == passes
    assert made.count(None) == passes // 2


def test_a_line_that_is_not_reached_measures_nothing():
    change = Change("repeated-work", __file__, line_of("a pool"), "json.loads")
    with pytest.raises(LoaderError, match=r"expected line \d+ to be reached, got no call of it to change."):
        gain_in_pairs(lambda: DataLoader(Pools(), batch_size=BATCH), change, 0.3, threads=1)


def test_a_setting_that_cannot_be_applied_measures_nothing():
    change = Change("workers-restarted", "", 0, "")
    assert gain_of_change(DataLoader(Rows(), batch_size=BATCH), change, 0.5, threads=1) is None


@pytest.mark.parametrize(
    ("make_loader", "reason"),
    [
        (lambda: DataLoader(Stream(), batch_size=BATCH), "what a stream gives depends on its workers"),
        (lambda: DataLoader(Drawn(), batch_size=BATCH), "the dataset draws from a generator of its own"),
        (lambda: DataLoader(Holds(), batch_size=BATCH), "the dataset keeps 1 file open"),
        (lambda: [torch.rand(4)], "the loader is not a DataLoader of torch"),
        (DataLoader(Rows(), batch_size=BATCH), "the loader was given as an object"),
    ],
    ids=["stream", "generator", "open file", "list", "object"],
)
def test_settings_that_may_not_be_safe_are_not_tried(make_loader, reason):
    diagnosis = diagnose(make_loader, seconds=0.5, advises=True)
    assert diagnosis.advice == ()
    (said,) = diagnosis.untried
    assert reason in said


def test_functions_that_are_frozen_are_found(run_code):
    code = """
import gc
from tests.diagnosis.test_diagnose import Pools, found, line_of
from torch.utils.data import DataLoader
gc.freeze()
assert found(lambda: DataLoader(Pools(), batch_size=8)) == [("executor-per-item", line_of("a pool"))]
"""
    done = run_code(code)
    assert done.returncode == 0, done.stderr


class Areas(Rows):
    def __getitem__(self, index):
        SharedMemory(create=True, size=4096).close()  # an area
        return super().__getitem__(index)


def test_shared_memory_that_is_left_is_named_and_nothing_of_it_stays():
    SharedMemory(create=True, size=1).unlink()  # this process has a tracker, which lives on
    before = set(SHARED.glob("psm_*"))
    assert found(lambda: DataLoader(Areas(), batch_size=BATCH)) == [("shared-memory-leak", line_of("an area"))]
    assert set(SHARED.glob("psm_*")) <= before


@pytest.mark.parametrize(
    ("attributes", "objects", "name"),
    [
        ({"files": ["a"] * 9}, 9, "files"),
        ({"files": ["a"] * 9, "pairs": [("a", 1)] * 5}, 15, "pairs"),
        ({"labels": {"a": 1, "b": 2}}, 4, "labels"),
        ({"rows": np.zeros(99), "text": "a" * 99}, 0, None),
    ],
)
def test_the_python_objects_of_a_dataset_are_counted(attributes, objects, name):
    held = objects_held([SimpleNamespace(), SimpleNamespace(**attributes)])
    assert (held["objects"], held.get("objects_name")) == (objects, name)


def test_where_a_dataset_takes_its_objects_is_known():
    held = objects_held([Rows()])
    assert (held["objects_file"], held["objects_line"]) == (__file__, line_of("its objects"))


@pytest.mark.parametrize(
    "make_loader, shuffles",
    [
        (lambda: DataLoader(range(8), 4), False),
        (lambda: DataLoader(range(8), 4, shuffle=True), True),
        (lambda: DataLoader(range(8), 4, sampler=[3, 1]), None),
        (lambda: DataLoader(range(8), 4, sampler=DistributedSampler(range(8), 2, 0)), True),
        (lambda: ReferenceLoader(range(8), 4, shuffle=True), True),
        (lambda: ReferenceLoader(range(8), 4), False),
        (lambda: [1, 2], None),
    ],
)
def test_whether_the_order_is_drawn(make_loader, shuffles):
    unseen = SimpleNamespace(loaders=[], made_at={}, start_methods={})
    assert loader_facts(make_loader(), unseen, None).shuffle is shuffles
