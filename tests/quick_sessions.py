"""Processes of this interpreter that are forked from one which has imported torch: quicker by two seconds.

Each ends as an interpreter does, and is a child of the process that started it.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from tests.huge_pages import use_huge_pages

_ROOT = Path(__file__).parents[1]
_MOST_BYTES = 1 << 20  # of a request: its environment
_MOST_FILES = 16
_OPTIONS = {"-P", "-u"}  # of an interpreter, that a fork can do; -u is for output that it does not write itself
_ASKS = threading.Lock()  # held by the thread that asks for a process
_SUBREAPER = 36  # prctl: a process whose parent has ended becomes our child
# So many seconds DataLoader waits, instead of 5, for a worker that does not hear that it shall end, one in thirty.
TORCH_WAITS_S = 0.5
# What a session that measures imports of the package.
_PACKAGE = [
    f"pytest_loaderperf.{name}"
    for name in ("plugin.hooks", "plugin.base_child", "runs.run", "runs.results", "report.document", "history")
]
# In the environment of a session: what it starts is forked, too.
CHILDREN_TOO = "LOADERPERF_TESTS_FORK_CHILDREN"


def _adopt(number: int) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, number, 0, 0, 0)


class QuickPopen(subprocess.Popen):
    """A ``Popen`` that has ``channel`` fork what would be ``python -c CODE`` or ``python -m MODULE``.

    All others start anew, and elsewhere than on Linux these, too.
    """

    channel: ClassVar[socket.socket]

    def _execute_child(self, args, *rest):
        command = [] if isinstance(args, (str, bytes)) else [os.fspath(argument) for argument in args]
        kind = command[1 + _kind_at(command[1:]) :][:1]
        if sys.platform != "linux" or command[:1] != [sys.executable] or kind not in (["-c"], ["-m"]):
            super()._execute_child(args, *rest)
            return
        # As CPython calls it; the ends of three pipes.
        _, _, _, pass_fds, cwd, env, _, _, _, *ends, _, _, _, _, _, own_session, _ = rest
        files = [place if end == -1 else end for place, end in enumerate((ends[0], ends[3], ends[5]))]
        places = [0, 1, 2, *pass_fds]
        env = dict(os.environ if env is None else env)
        request = command[1:], os.fspath(cwd or Path.cwd()), env, places, own_session
        with _ASKS:
            _adopt(1)
            try:
                socket.send_fds(self.channel, [pickle.dumps(request)], [*files, *pass_fds])
                self.pid = pickle.loads(self.channel.recv(_MOST_BYTES))  # noqa: S301 our own process
            finally:
                _adopt(0)
        self._child_created = True
        self._close_pipe_fds(*ends)


def _kind_at(arguments: list[str]) -> int:
    return next((place for place, one in enumerate(arguments) if one not in _OPTIONS), len(arguments))


class Source:
    """The process that others are forked from, by ``popen``; it ends with this one."""

    def __init__(self) -> None:
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            code = f"from tests import quick_sessions; quick_sessions.serve({theirs.fileno()})"
            # A fork ends the threads of OpenBLAS, which begin anew in mid-test: as if a loader had begun them.
            env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-pno:hypothesispytest -pno:zarr"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
                env=env,
            )
        self.popen = type("Popen", (QuickPopen,), {"channel": channel})

    def close(self) -> None:
        self.popen.channel.close()
        self._process.terminate()
        self._process.wait()


def serve(channel: int) -> None:
    """Fork a child for each request and tell its process id; returns in the child, once it has run, and at the end."""
    import numpy.random  # noqa: F401 each worker of a DataLoader would
    import pytest
    import scipy.special  # noqa: F401
    import torch.utils.data

    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = TORCH_WAITS_S
    with TemporaryDirectory() as folder:
        file = Path(folder, "test_imports.py")
        file.write_text(f"def test_it():\n    import {', '.join(_PACKAGE)}\n")
        # In a test, so that pytest has rewritten the package's assertions as in any session.
        assert pytest.main([str(file), "-pno:terminal", "-pno:cacheprovider", f"--rootdir={folder}"]) == 0
    gc.freeze()
    use_huge_pages()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the tests, and the sub-session that runs
    ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [folder for folder in sys.path[1:] if folder not in ours]
    with socket.socket(fileno=channel) as asked:
        _fork_and_run(asked, path)


def _fork_and_run(asked: socket.socket, path: list[str]) -> None:
    while True:
        request, files, _, _ = socket.recv_fds(asked, _MOST_BYTES, _MOST_FILES)
        if not request:
            return
        between = os.fork()
        if between == 0:
            break
        for file in files:
            os.close(file)
        os.waitpid(between, 0)
    between = os.getpid()
    if os.fork():
        os._exit(0)  # so that its child becomes one of the process that asked
    while os.getppid() == between:
        os.sched_yield()
    command, *how, own_session = pickle.loads(request)  # noqa: S301 our own process
    if own_session:
        os.setsid()
    asked.send(pickle.dumps(os.getpid()))
    asked.close()
    _run(command, how, files, path)


def _run(command: list[str], how: Any, files: list[int], path: list[str]) -> None:
    folder, env, places = how
    _place(dict(zip(places, files, strict=True)))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    if os.environ.pop(CHILDREN_TOO, None):
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            channel.close()
            nothing = os.open(os.devnull, os.O_RDWR)
            for place in places:
                os.dup2(nothing, place)
            _fork_and_run(theirs, path)
            return
        theirs.close()
        subprocess.Popen = type("Popen", (QuickPopen,), {"channel": channel})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    named = [str(Path(folder).absolute()) for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
    (*options, kind, name), arguments = command[: _kind_at(command) + 2], command[_kind_at(command) + 2 :]
    sys.path[:] = [*[folder] * ("-P" not in options), *named, *path]
    sys.argv, sys.orig_argv = [kind, *arguments], [sys.executable, *command]
    if kind == "-c":
        exec(name, sys.modules["__main__"].__dict__)  # noqa: S102 a test's script
    else:
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def _place(files: dict[int, int]) -> None:
    """Have each file at its place, where another may be now; Python's own of input and output begin anew."""
    free = max([*files, *files.values()]) + 1
    apart = {place: fcntl.fcntl(file, fcntl.F_DUPFD, free) for place, file in files.items()}
    for file in files.values():
        os.close(file)
    for place, file in apart.items():
        os.dup2(file, place)
        os.close(file)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 open to the end
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115 likewise
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115 likewise
