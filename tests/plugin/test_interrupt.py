"""Ctrl-C in the middle of a measurement: nothing is left behind but the results so far."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from pytest_loaderperf import measure
from pytest_loaderperf.history import Store

MEASURING = """
    import pathlib
    import threading
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    DATA = TensorDataset(torch.zeros(400, 8))
    started = []

    class Tells(DataLoader):
        def __iter__(self):
            for i, batch in enumerate(super().__iter__()):
                started.append(i)
                if len(started) == 300:
                    pathlib.Path("measuring").touch()
                yield batch

    def test_first(loaderperf):
        assert loaderperf(lambda: DataLoader(DATA, 4)).throughput >= 1

    def test_endless(loaderperf):
        run = loaderperf(lambda: Tells(DATA, 4, num_workers=2), against=lambda: Tells(DATA, 4, num_workers=2))
        while True:
            assert run.throughput <= 1000 * run.against.throughput
            run.look_until(1e9, most=1)
"""


@pytest.mark.parametrize("whole_group", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["process", "group"])
def test_ctrl_c_keeps_the_results_so_far_and_leaves_no_process(pytester, quick_start, whole_group):
    pytester.makepyfile(test_it=MEASURING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--loaderperf",
        "--loaderperf-json=result.json",
        "-p",
        "no:cacheprovider",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            deadline_s = time.monotonic() + 30
            while not (pytester.path / "measuring").exists():
                assert time.monotonic() < deadline_s
                assert process.poll() is None
                time.sleep(0.02)
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
            shown, _ = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, shown
    assert "KeyboardInterrupt" in shown
    with Store(pytester.path / ".loaderperf" / "history.sqlite3") as store:
        assert "test_it.py::test_first" in {metric.test for metric in store.table().values}
    left = [p for p in psutil.process_iter() if p.status() != psutil.STATUS_ZOMBIE and os.getsid(p.pid) == process.pid]
    assert left == []
    result = json.loads((pytester.path / "result.json").read_text())
    assert result["partial"] is True
    assert result["runs"][0]["nodeid"] == "test_it.py::test_first"
    assert result["runs"][0]["claims"][0]["verdict"] == "PASS"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_while_an_iterator_is_being_released_is_not_lost():
    """Python drops what is raised in ``__del__``, where torch's DataLoader waits for its workers to end."""
    sent = []

    class Epoch:
        def __init__(self):
            self.left = iter([torch.zeros(4, 8)] * 40)

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.left)

        def __del__(self):
            if not sent:
                sent.append(True)
                signal.raise_signal(signal.SIGINT)

    class Loader:
        def __len__(self):
            return 40

        def __iter__(self):
            return Epoch()

    with pytest.raises(KeyboardInterrupt), measure(Loader, budget=0.3):
        pass
    assert sent
