"""Shared by all tests. No test asserts real speed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from tests.huge_pages import use_huge_pages
from tests.quick_sessions import CHILDREN_TOO, TORCH_WAITS_S, Source

pytest_plugins = ["pytester"]


def pytest_configure():
    """Keep sub-sessions from writing to the step of GitHub Actions that we may run in.

    And let Ctrl-C reach the tests about it, also where a shell started them in the background, deaf to it."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave the half a million objects of all modules and tests out of every later collection: each took 0.4 s."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        use_huge_pages()


@pytest.fixture(scope="session", autouse=True)
def _torch_waits_half_a_second():
    if utils := sys.modules.get("torch.utils.data._utils"):
        utils.MP_STATUS_CHECK_INTERVAL = TORCH_WAITS_S


@pytest.fixture(scope="module")
def kept():
    """What a session gave that several tests of a module read: the first of them runs it."""
    return {}


@pytest.fixture(scope="module")
def few_lines(request):
    """The doctor rewrites this module, and what is no test: not all 50,000 lines that are imported.

    It finds this module's functions without walking through all objects of all modules, which its child would copy."""
    from pytest_loaderperf.diagnosis.passes import observe, rewriting

    is_users, own, tests = rewriting.is_users, str(request.path), str(Path(__file__).parent)

    def is_of_this_test(file):
        return is_users(file) and (file == own or not file.startswith(tests))

    gc.unfreeze()
    functions = [one for one in gc.get_objects() if type(one) is FunctionType and one.__code__.co_filename == own]
    gc.freeze()

    class Young:
        """The garbage collector of the child, in which what is frozen stays so."""

        freeze, collect = gc.freeze, gc.collect

        @staticmethod
        def unfreeze():
            pass

        @staticmethod
        def get_objects():
            return [*functions, *gc.get_objects()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewriting, "is_users", is_of_this_test)
        patch.setattr(rewriting, "gc", Young)
        patch.setattr(observe, "gc", Young)
        yield


@pytest.fixture(scope="session")
def _source():
    source = Source()
    yield source
    source.close()


@pytest.fixture
def pytester(pytester, request, monkeypatch, _source):
    """pytest's own; its sub-sessions find torch imported, but for tests marked ``own_interpreter``."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:zarr -o loaderperf_doctor=0")  # heavy, or long
    start = pytester.popen

    def popen(command, **how):
        if command[:2] == (sys.executable, "-mpytest"):
            command = [sys.executable, "-m", "pytest", *command[2:]]
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(subprocess, "Popen", _source.popen)
                return start(command, **how)
        return start(command, **how)

    if request.node.get_closest_marker("own_interpreter") is None:
        pytester.popen = popen
    return pytester


@pytest.fixture
def quick_start(monkeypatch, _source):
    """Interpreters that the test starts are forked where torch is imported already."""
    monkeypatch.setattr(subprocess, "Popen", _source.popen)


@pytest.fixture
def quick_children(monkeypatch, quick_start):
    """As ``quick_start``, and also those that its sub-sessions start."""
    monkeypatch.setenv(CHILDREN_TOO, "1")


@pytest.fixture
def run_code(tmp_path, _source):
    """Run a script in a process of its own, where torch is imported already."""

    def run(code, timeout_s=60):
        with (tmp_path / "stdout").open("w+") as out, (tmp_path / "stderr").open("w+") as err:
            process = _source.popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            shown = [file.seek(0) or file.read() for file in (out, err)]
        return subprocess.CompletedProcess("-c", process.returncode, *shown)

    return run
