"""Another loader in an interpreter of its own."""

from __future__ import annotations

import os
import sys

import pytest

from pytest_loaderperf import cli, measure, s
from pytest_loaderperf.errors import LoaderError, LoaderPerfError, ShortEpochError
from pytest_loaderperf.measurement import Steady
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.remote.interpreter import OtherInterpreter
from pytest_loaderperf.remote.naming import import_name, resolve
from pytest_loaderperf.runs.options import Options

MODULE = """
import os, time
import torch

class Loader:
    def __init__(self, pause_s):
        self.pause_s, self.pid = pause_s, os.getpid()
    def __repr__(self):
        return f"Loader in {self.pid}"
    def __iter__(self):
        for _ in range(40):
            time.sleep(self.pause_s)
            yield torch.zeros(4, 8)

class Lazy:
    @property
    def rows(self):
        time.sleep(0.005)
        READ_IN.append(os.getpid())
READ_IN = []
def make_lazy():
    return [Lazy() for _ in range(40)]
def two(batch):
    return 2
def read(batch):
    batch.rows
def make_loader():
    return Loader(0.001)
def make_slow():
    return Loader(0.004)
class Told(Loader):
    def __init__(self, pause_s, name):
        self.pause_s, self.name = pause_s, name
    def __repr__(self):
        return f"Told {self.name} {self.pause_s}"
LOADER = make_loader()
def broken():
    raise OSError("disk gone")
def dies():
    print("words before the end", flush=True)
    os._exit(3)
"""


def read_nothing(batch):
    raise KeyError("nothing")


pytestmark = pytest.mark.usefixtures("quick_start")  # but the two of ``run`` are whole interpreters


@pytest.fixture(scope="module")
def loaders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    (folder / "head_loaders.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.syspath_prepend(str(folder))
        yield resolve("head_loaders:make_loader").__globals__
        sys.modules.pop("head_loaders", None)


@pytest.fixture(scope="module")
def run(loaders):
    against = {"slow": "head_loaders:make_slow", "an object": "head_loaders:LOADER"}
    with measure(loaders["make_loader"], against, python=sys.executable, budget=30) as run:
        yield run


def test_the_other_head_has_a_process_of_its_own_and_is_measured_in_turns(run):
    other, slow = run.rounds.sides["slow"], run.against["slow"]
    assert repr(other.loader) == f"Loader in {other._child.pid}" != f"Loader in {os.getpid()}"
    assert run.rounds.sliced(["loader", "slow"])
    assert run.throughput >= 1.5 * slow.throughput
    assert not slow.throughput >= 1.5 * run.throughput
    assert slow.first_batch <= 60 * s


def test_names_of_several_loaders_do_as_well(run):
    assert len({run.rounds.sides[name]._child.pid for name in run.against}) == 2


def test_whole_epochs_are_measured_there_as_here(run):
    slow = run.against["slow"]
    assert slow.epoch.value >= 40 * 0.004
    assert slow.epoch_throughput.value <= 160 / (40 * 0.004)
    assert not slow.epoch_throughput >= 0.9 * run.epoch_throughput
    epochs = run.rounds.sides["slow"].epochs
    assert {(epoch.batches, epoch.samples) for epoch in epochs} == {(40, 160)}


def test_batches_are_counted_and_read_there_as_here(loaders):
    count, read = loaders["two"], loaders["read"]
    with measure(loaders["make_lazy"], "head_loaders:make_lazy", python=sys.executable, count=count, touch=read) as run:
        assert run.rounds.sides["against"].batch_samples == 2
        assert run.against.batch_latency.p50.value >= 0.005
        assert set(loaders["READ_IN"]) == {os.getpid()}
        child = run.rounds.sides["against"]._child._process
    assert child.returncode == 0


@pytest.mark.parametrize(
    "functions, words",
    [
        ({"count": lambda batch: 4}, "another process imports count= by name, which .*<lambda>"),
        ({"touch": lambda batch: None}, "another process imports touch= by name, which .*<lambda>"),
        ({"touch": read_nothing}, r"touch=read_nothing raised KeyError: 'nothing', for a batch of type Tensor"),
    ],
)
def test_a_function_of_batches_that_does_not_work_there_is_named(loaders, functions, words):
    with pytest.raises((LoaderPerfError, LoaderError), match=words):
        measure(loaders["make_loader"], loaders["make_slow"], python=sys.executable, **functions)


@pytest.mark.parametrize(
    "against, words",
    [
        ("head_loaders:broken", "factory head_loaders:broken.. raised OSError: disk gone"),
        ("head_loaders:missing", "'head_loaders' has no 'missing'"),
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("head_loaders:dies", "ended .status 3. before it answered.*\n?.*words before the end"),
        (lambda: [0], "imports its loader's factory by name, which .*<lambda>"),
    ],
)
def test_a_loader_that_cannot_be_had_there_is_an_error_that_says_why(loaders, against, words):
    with pytest.raises((LoaderPerfError, LoaderError), match=f"(?s){words}"):
        measure(loaders["make_loader"], against, python=sys.executable)


def test_arguments_reach_the_factory_there(loaders):
    arguments = {"pause_s": 0.0015, "name": "a 'name'"}
    side = OtherInterpreter("head_loaders:Told", sys.executable, arguments=arguments, **Options().there).side("against")
    try:
        assert repr(side.loader) == "Told a 'name' 0.0015"
    finally:
        side.close()


def test_after_a_trial_that_was_longer_than_its_epochs_the_side_knows_their_length(loaders):
    side = OtherInterpreter("head_loaders:make_loader", sys.executable, **Options().there).side("against")
    try:
        assert side.epoch_batches is None
        with pytest.raises(ShortEpochError, match="gives 40 batches an epoch"):
            side.observe(Steady(), 1000, Conditions.now())
        assert side.epoch_batches == 40
        assert len(side.observe(Steady(), 20, Conditions.now()).latencies_ns) == 20
    finally:
        side.close()


def test_an_interpreter_that_is_none_is_named(loaders):
    with pytest.raises(LoaderPerfError, match=r"cannot start /no/python: .* Expected a Python interpreter"):
        measure(loaders["make_loader"], loaders["make_slow"], python="/no/python")


def test_an_interpreter_without_the_package_says_how_to_get_it(loaders, tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nPYTHONPATH= exec "{sys.executable}" -S -E "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(LoaderPerfError, match="-m pip install pytest-loaderperf"):
        measure(loaders["make_loader"], loaders["make_slow"], python=str(bare))


def test_bench_runs_the_other_loader_by_another_interpreter(loaders, capsys):
    arguments = ["head_loaders:make_loader", "--against", "head_loaders:make_slow", "--budget", "0.3"]
    assert cli.main(["bench", *arguments, "--python", sys.executable]) == 0
    assert "against: Loader" in capsys.readouterr().out
    assert cli.main(["bench", arguments[0], "--python", sys.executable]) == 1
    assert "--python runs the loader of --against" in capsys.readouterr().err


def test_a_function_is_named_as_another_process_can_import_it():
    assert import_name(resolve) == "pytest_loaderperf.remote.naming:resolve"
    assert import_name("a:b") == "a:b"
