"""``loaderperf doctor``."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from pytest_loaderperf import diagnosis
from pytest_loaderperf.cli import main
from pytest_loaderperf.diagnosis import diagnose

pytestmark = pytest.mark.usefixtures("few_lines")
CODE = """
import zlib
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

class Frames(Dataset):
    def __init__(self):
        self.table = zlib.compress(np.random.default_rng(0).bytes(200_000))
        self.rows = np.random.default_rng(1).random((64, 64), dtype=np.float32)
    def __len__(self):
        return 64
    def __getitem__(self, index):
        table = np.frombuffer(zlib.decompress(self.table), np.uint8)  # here
        return torch.from_numpy(self.rows[index] + table[index])

class Good(Frames):
    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index] * 2)

def make_slow():
    print("this is the user's own output")
    return DataLoader(Frames(), batch_size=8)

def make_good():
    return DataLoader(Good(), batch_size=8)

def broken():
    raise RuntimeError("no data")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the module above; findings name its lines."""
    (tmp_path / "doctor_frames.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_mistake_is_named_and_written(project, capsys):
    status = main(["doctor", "doctor_frames:make_slow", "--budget", "4", "--json", "found.json"])
    shown = capsys.readouterr().out
    line = next(n for n, text in enumerate(CODE.splitlines(), 1) if text.endswith("# here"))
    assert status == 1
    assert f"repeated-work   doctor_frames.py:{line}" in shown
    assert "user's own output" not in shown
    (finding,) = json.loads((project / "found.json").read_text())["findings"]
    assert (finding["rule"], finding["line"], finding["count"], finding["unit"]) == (
        "repeated-work",
        line,
        1.0,
        "times a sample",
    )
    assert finding["gain"]["how"] in ("measured", "predicted")  # the latter if an epoch takes too long


def test_a_good_loader_gives_status_0(project, capsys):
    assert main(["doctor", "doctor_frames:make_good", "--budget", "2"]) == 0
    assert "no mistakes found" in capsys.readouterr().out


def test_a_step_and_a_trace(project, capsys, monkeypatch):
    without = {"tries": False, "advises": False}  # they take time, and are tested elsewhere
    monkeypatch.setattr(diagnosis, "diagnose", lambda *args, **how: diagnose(*args, **{**how, **without}))
    arguments = ["--budget", "5", "--step", "2ms", "--rules", "slow-exit", "--trace", "trace.json", "--json", "d.json"]
    assert main(["doctor", "doctor_frames:make_good", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "\n  step         2 ms for each batch: it would wait for data " in shown
    assert "trace written to trace.json: open it in ui.perfetto.dev" in shown
    step = json.loads((project / "d.json").read_text())["step"]
    assert step["seconds"] == 0.002
    assert step["data_wait"] + step["accelerator_utilisation"] == 1
    trace = json.loads((project / "trace.json").read_text())
    assert trace["otherData"]["loader"] == "doctor_frames:make_good"
    steps = [event["dur"] for event in trace["traceEvents"] if event["name"] == "consumer"]
    assert steps
    assert min(steps) >= 2000


def test_a_trace_replaces_a_trace_and_nothing_else(project, capsys):
    doctor = ["doctor", "doctor_frames:broken", "--trace"]
    (project / "trace.json").write_text('{"schema": "loaderperf-trace/1", "traceEvents": []}')
    main([*doctor, "trace.json"])
    assert "no data" in capsys.readouterr().err  # it went on, to the factory
    main([*doctor, "doctor_frames.py"])
    assert "--trace: doctor_frames.py was not written by loaderperf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "fast"], "expected a time such as 10ms, 0.5s or 0.5 (seconds), got 'fast'"),
        (["--step", "0ms"], "expected a time such as 10ms, 0.5s or 0.5 (seconds), got '0ms'"),
        (["--step", "1s", "--budget", "5"], "--step: expected at most 0.333 s, got 1 s. Give a shorter step, or more"),
        (["--trace", "a.json", "--json", "a.json"], "--trace: expected another file than that of --json, got the same"),
        (["--trace", "."], "--trace: cannot write ."),
    ],
)
def test_a_step_or_a_trace_that_cannot_be_is_a_usage_error(project, capsys, arguments, words):
    try:
        status = main(["doctor", "doctor_frames:make_good", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert words in capsys.readouterr().err


def test_a_module_that_used_torchs_threads_does_not_hang(project, quick_start):
    (project / "doctor_threads.py").write_text(
        "import torch\n"
        "ROWS = torch.rand(4_000_000).exp().sort().values\n"
        "class Rows(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n        return 32\n"
        "    def __getitem__(self, index):\n        return (ROWS[:1_000_000] * index).exp().sum()\n"
        "def make_loader():\n    return torch.utils.data.DataLoader(Rows(), batch_size=8)\n"
    )
    command = "import sys; from pytest_loaderperf.cli import main; sys.exit(main(sys.argv[1:]))"
    doctor = ["doctor", "doctor_threads:make_loader", "--budget", "2"]
    # In an interpreter of its own: this one may have used torch's threads before.
    ended = subprocess.run([sys.executable, "-c", command, *doctor], check=False, capture_output=True, timeout=100)
    assert ended.returncode in (0, 1), ended.stderr


def test_only_chosen_rules_fire(project, capsys):
    assert main(["doctor", "doctor_frames:make_slow", "--budget", "2", "--rules", "slow-exit"]) == 0


def test_an_unknown_rule_is_a_usage_error(project, capsys):
    assert main(["doctor", "doctor_frames:make_slow", "--rules", "slow"]) == 2
    assert "expected rules among executor-per-item" in capsys.readouterr().err


def test_a_factory_that_raises_gives_status_2_and_its_error(project, capsys):
    assert main(["doctor", "doctor_frames:broken"]) == 2
    assert "no data" in capsys.readouterr().err
