"""Each test here runs on torch's DataLoader (`make slow`), which proves it right, and on ReferenceLoader, which must do
the same.

What ReferenceLoader decides by itself when it is left open (num_workers) is given where it matters.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest
from torch.utils.data import DataLoader

import pytest_loaderperf
from pytest_loaderperf import ReferenceLoader

PATIENCE_S = 60  # far beyond what a busy machine needs; only a failure waits so long
ROOT = Path(pytest_loaderperf.__file__).parents[1]


@pytest.fixture(
    params=[pytest.param(DataLoader, marks=pytest.mark.slow), ReferenceLoader], ids=lambda loader: loader.__name__
)
def loader_class(request):
    return request.param


@pytest.fixture(autouse=True)
def _forks_are_meant():
    # Python 3.12 and later warn of a fork beside threads, which torch's own are enough for.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


def runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Children:
    """The processes that this one has started since the test began."""

    def __init__(self):
        self.before = set(psutil.Process().children())

    def started(self):
        return set(psutil.Process().children()) - self.before

    def end(self, processes):
        """Whether all of them end."""
        deadline = time.monotonic() + PATIENCE_S
        while any(runs(process) for process in processes) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        return not any(runs(process) for process in processes)


@pytest.fixture
def children():
    return Children()


@pytest.fixture
def raised():
    """The error that a call raises, without its traceback and its causes'.

    torch re-raises a worker's error in a cycle with the iterator, whose collection then takes 5 s for each worker.
    """

    def error_of(call):
        try:
            call()
        except Exception as error:  # noqa: BLE001 the test says which it should be
            link = error
            while link is not None:
                link.with_traceback(None)
                link = link.__cause__ or link.__context__
            return error
        pytest.fail("nothing was raised")

    return error_of


@pytest.fixture
def run_main(loader_class, run_code):
    """Run what defines ``main()``, where ``Loader`` is the class under test, forked where torch is imported already."""
    head = f"from {loader_class.__module__} import {loader_class.__name__} as Loader\n"
    return lambda source: run_code(f"{head}{source}\nmain()\n", 2 * PATIENCE_S)


@pytest.fixture
def run_script(loader_class, tmp_path, quick_start):
    """As ``run_main``, but of a file, as processes that are spawned need it."""

    def run(source):
        path = tmp_path / "script.py"
        head = f"from {loader_class.__module__} import {loader_class.__name__} as Loader\n"
        path.write_text(f'{head}{source}\nif __name__ == "__main__":\n    main()\n', "utf-8")
        return subprocess.run(
            [sys.executable, "-m", path.stem],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )

    return run
