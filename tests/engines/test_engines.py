"""A dataset through every engine: what it is given, whether engines agree, and whose turn it is."""

from __future__ import annotations

import importlib.util
import json
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from pytest_loaderperf.cli import main
from pytest_loaderperf.engines import child, comparing
from pytest_loaderperf.engines.loaders import BASELINE, ENGINES, variant
from pytest_loaderperf.engines.record import Row
from pytest_loaderperf.engines.sameness import difference, seen
from pytest_loaderperf.engines.server import Server
from pytest_loaderperf.engines.setting import Setting, dataset_of
from pytest_loaderperf.engines.turns import ChildError
from pytest_loaderperf.engines.variant import Unable, Variant
from pytest_loaderperf.errors import LoaderPerfError
from tests.engines.datasets import SAMPLES, Noisy, Rows, Stream

HERE = "tests.engines.datasets"
INSTALLED = [name for name, engine in ENGINES.items() if not engine.missing]


@pytest.mark.parametrize(
    "name, said",
    [
        ("make_loader", r"expected a dataset, got a DataLoader. To measure a loader: loaderperf bench"),
        ("make_generator", r"with __len__ and __getitem__, or a torch IterableDataset, got generator"),
        ("make_mapping", r"with __len__ and __getitem__, or a torch IterableDataset, got dict"),
        ("make_nothing", r"expected a dataset with samples, got one of length 0"),
        ("make_error", r"make_error raised RuntimeError: no such folder"),
        ("absent", r"has no 'absent'. Give the name of the function that makes the dataset"),
    ],
)
def test_what_is_no_dataset_is_refused(name, said):
    with pytest.raises(LoaderPerfError, match=said):
        dataset_of(f"{HERE}:{name}")


@pytest.mark.parametrize("name", ["make_rows", "Rows", "a_dataset"])
def test_a_factory_a_class_and_a_dataset_are_taken(name):
    assert isinstance(dataset_of(f"{HERE}:{name}"), Rows)


def of_engine(name, dataset, workers=2):
    found = variant(name, Setting(dataset, 8, workers))
    loader = found.in_order()
    try:
        return seen(loader, 8)
    finally:
        if found.close is not None:
            found.close(loader)


@pytest.mark.parametrize("name", [name for name in INSTALLED if "processes" not in name and name != BASELINE])
def test_every_installed_engine_gives_the_baselines_samples(name):
    baseline = of_engine(BASELINE, Rows())
    assert (baseline["counted"], baseline["whole"], baseline["unlike"]) == (SAMPLES, True, "")
    assert baseline["structure"] == "[0]['x'] float32[3], [0]['name'] list of str, [1] int64[]"
    assert difference(of_engine(name, Rows()), baseline, repeats=True) == ""


def test_the_sum_does_not_depend_on_the_order_but_on_the_values():
    rows = TensorDataset(torch.arange(32.0))
    one, other = (seen(DataLoader(rows, 8, shuffle=shuffle), 8) for shuffle in (False, True))
    assert one == other
    changed = seen(DataLoader(TensorDataset(torch.arange(32.0).flip(0) + 1), 8), 8)
    assert difference(changed, one, repeats=True) == "its first samples have other values"
    assert difference(changed, one, repeats=False) == ""


def test_another_structure_or_count_is_a_difference():
    base = seen([torch.zeros(8, 2)] * 4, 8)
    doubled = seen([torch.zeros(8, 2, dtype=torch.float64)] * 4, 8)
    assert difference(doubled, base, repeats=True) == "its batches are float64[2] instead of float32[2]"
    twice = seen([torch.zeros(8, 2)] * 8, 8)
    assert difference(twice, base, repeats=True) == "it gives 64 samples in an epoch instead of 32"


def test_a_stream_of_several_workers_gives_each_sample_several_times():
    found = of_engine("dataloader-workers", Stream())
    assert "200 samples in an epoch instead of 100" in difference(found, of_engine(BASELINE, Stream()), repeats=True)


def test_a_long_epoch_is_not_counted_to_its_end():
    endless = iter(lambda: torch.zeros(8, 2), None)
    assert seen(endless, 8, count_within_s=0)["whole"] is False


@pytest.mark.parametrize("dataset, repeats", [(Rows(), True), (Noisy(), False), (Stream(), True)])
def test_the_baseline_tells_whether_the_dataset_repeats_itself(dataset, repeats):
    setting = Setting(dataset, 8, 1)
    found = child._checked(setting, variant(BASELINE, setting), twice=True)
    assert (found["repeats"], found["samples"]) == (repeats, SAMPLES)


def test_an_epoch_that_is_not_counted_to_its_end_has_as_many_samples_as_the_dataset(monkeypatch):
    monkeypatch.setattr(child, "seen", partial(seen, count_within_s=0))
    setting = Setting(Rows(), 8, 1)
    found = child._checked(setting, variant(BASELINE, setting), twice=False)
    assert (found["whole"], found["counted"], found["samples"]) == (False, 32, SAMPLES)


def test_who_cannot_says_why(monkeypatch):
    with pytest.raises(Unable, match="cannot take this dataset: it is iterable-style, the engine reads by index"):
        variant("reference-threads", Setting(Stream(), 8, 1))
    with pytest.raises(Unable, match="cannot take this dataset: it reads tar files"):
        variant("webdataset", Setting(Rows(), 8, 1))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("pytest_loaderperf.engines.loaders.find_spec", lambda name: None)
    with pytest.raises(Unable, match="not installed: pip install grain"):
        variant("grain", Setting(Rows(), 8, 1))


def test_a_server_times_its_loader_over_epochs():
    closed = []
    server = Server(Variant("list", lambda: [1, 2, 3], close=closed.append), lambda found: {"how": found.how})
    answer = server.trial(warm=2, batches=5)
    assert answer["taken"] == 7
    assert answer["ns"] > 0
    assert next(server._batches) == 2, "the eighth of 1, 2, 3, 1, 2, 3, 1, 2"
    assert server.first()["ns"] > 0
    assert closed == [[1, 2, 3]]
    assert server.check() == {"how": "list"}


def test_a_loader_without_batches_is_an_error_and_no_endless_wait():
    with pytest.raises(ValueError, match="the loader gave no batch in an epoch"):
        Server(Variant("nothing", list), lambda found: {}).trial(warm=0, batches=1)


class FakeChild:
    """A child whose trials take ``seconds`` each, by a clock that ``clock`` holds."""

    def __init__(self, name, seconds, clock, problem_at=None):
        self.row, self.seconds, self.clock, self.problem_at = Row(name), seconds, clock, problem_at

    def turn(self, number, *, times_first):
        if self.problem_at == len(self.row.trials):
            self.row.problem = "died: Killed"
            return
        self.clock[0] += self.seconds
        self.row.spent_s += self.seconds
        self.row.trials.append(number)


def measured(monkeypatch, budget_s, **seconds):
    clock = [0.0]
    monkeypatch.setattr(comparing.time, "monotonic", lambda: clock[0])
    children = {name: FakeChild(name, took_s, clock) for name, took_s in ({BASELINE: 1.0} | seconds).items()}
    turns, spent_s = comparing._measure(children, budget_s, lambda text: None)
    return {name: len(made.row.trials) for name, made in children.items()}, turns, spent_s


def test_a_slow_engine_does_not_use_up_the_time_of_the_others(monkeypatch):
    trials, turns, _ = measured(monkeypatch, 60.0, fast=1.0, slow=20.0)
    assert trials["slow"] == comparing.LEAST_TURNS
    assert trials["fast"] >= 9
    assert trials[BASELINE] == turns == max(trials.values())


def test_every_engine_gets_a_few_turns_however_small_the_budget(monkeypatch):
    trials, _, _ = measured(monkeypatch, 0.1, a=5.0, b=1.0)
    assert trials == {BASELINE: 2, "a": 2, "b": 2}


def test_the_baseline_alone_is_measured_until_the_budget_is_spent(monkeypatch):
    trials, _, spent_s = measured(monkeypatch, 10.0)
    assert trials == {BASELINE: 10}
    assert spent_s == 10.0


def test_a_failing_engine_leaves_the_others_measured_and_a_failing_baseline_is_an_error():
    def children(**problem_at):
        names = (BASELINE, "other")
        return {name: FakeChild(name, 0.0, [0.0], problem_at.get(name)) for name in names}

    failing = children(other=1)
    comparing._measure(failing, 0.0, lambda text: None)
    assert failing["other"].row.problem == "died: Killed"
    assert len(failing[BASELINE].row.trials) == comparing.LEAST_TURNS
    with pytest.raises(LoaderPerfError, match="torch DataLoader, to which the others are compared, failed: died"):
        comparing._measure(children(**{BASELINE: 1}), 0.0, lambda text: None)


def test_the_command_measures_a_dataset(tmp_path, capsys, monkeypatch, quick_start):
    monkeypatch.setenv("COLUMNS", "120")
    file = tmp_path / "engines.json"
    arguments = ["--engines=reference", "--budget=0.1", "--workers=1", "--batch-size=10", f"--json={file}"]
    assert main(["compare", f"{HERE}:make_rows", *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"{HERE}:make_rows: Rows, 100 samples, batch 10, shuffled" in printed
    document = json.loads(file.read_text())
    assert document["schema"] == comparing.ENGINES_SCHEMA
    base, reference = document["engines"]
    assert (base["engine"], base["ratio"]) == (BASELINE, None)
    assert reference["samples_per_second"]["value"] > 0
    assert reference["ratio"]["n"] >= comparing.LEAST_TURNS
    assert (base["differs"], reference["differs"]) == ("", "")


def test_a_problem_of_the_dataset_is_said_once_and_whole():
    class Failing(FakeChild):
        def started(self):
            raise ChildError("mypkg:make raised " + "x" * 300)

    with pytest.raises(LoaderPerfError, match=r"^mypkg:make raised x{300}$"):
        comparing._prepare_baseline(Failing(BASELINE, 0.0, [0.0]))


def test_a_collate_function_is_used_by_all():
    setting = Setting(Rows(), 10, 1, collate=lambda samples: default_collate([index for _, index in samples]))
    loaded = [[b.tolist() for b in variant(name, setting).in_order()] for name in (BASELINE, "reference")]
    assert loaded[0] == loaded[1] == [list(range(start, start + 10)) for start in range(0, SAMPLES, 10)]


@pytest.mark.parametrize(
    "workers, threads, processes", [(1, "1 thread", "1 process"), (11, "11 threads", "11 processes")]
)
def test_how_many_workers_an_engine_has_is_said_in_words(workers, threads, processes):
    setting = Setting(Rows(), 8, workers)
    assert (setting.threads, setting.processes) == (threads, processes)
