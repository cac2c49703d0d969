"""Sub-sessions of pytest, and scripts, that are forked from a process which has imported torch: quicker by two seconds.

Each ends as an interpreter does.
"""

from __future__ import annotations

import gc
import os
import pickle
import runpy
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).parents[1]
_MOST_BYTES = 1 << 20  # of a request: its environment
# So many seconds DataLoader waits, instead of 5, for a worker that does not hear that it shall end, one in thirty.
TORCH_WAITS_S = 0.5


class Forked:
    """A process, as far as ``pytester.run`` needs of a ``subprocess.Popen``."""

    stdin = None

    def __init__(self, channel: socket.socket, command: tuple[str, ...], env: dict[str, str], files: list[int]) -> None:
        self._channel = channel
        socket.send_fds(channel, [pickle.dumps((command, str(Path.cwd()), env))], files)
        self.pid: int = pickle.loads(channel.recv(_MOST_BYTES))  # noqa: S301 our own process
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("python", timeout or 0)
            self.returncode = pickle.loads(self._channel.recv(_MOST_BYTES))  # noqa: S301 our own process
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Source:
    """The process that others are forked from; it ends with this one."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            code = f"from tests import quick_sessions; quick_sessions.serve({theirs.fileno()})"
            # A fork ends the threads of OpenBLAS, which begin anew in mid-test: as if a loader had begun them.
            env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
                env=env,
            )

    def start(self, command: tuple[str, ...], stdout: IO[str], stderr: IO[str]) -> Forked:
        """Start what would be ``python *command``, here and with this environment: -c CODE, or -mMODULE ARGUMENTS."""
        paths = filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])  # as pytester.popen
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with Path(os.devnull).open("rb") as nothing:
            return Forked(self._channel, command, env, [nothing.fileno(), stdout.fileno(), stderr.fileno()])

    def close(self) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait()


def serve(channel: int) -> None:
    """Fork a child for each request and tell its status; returns in the child, once it has run, and at the end."""
    import pytest  # noqa: F401 what a sub-session need not import any more
    import scipy.special  # noqa: F401
    import torch.utils.data

    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = TORCH_WAITS_S

    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the tests, and the sub-session that runs
    path = sys.path[1:]
    with socket.socket(fileno=channel) as asked:
        while True:
            request, files, _, _ = socket.recv_fds(asked, _MOST_BYTES, 3)
            if not request:
                return
            child = os.fork()
            if child == 0:
                break
            for file in files:
                os.close(file)
            asked.send(pickle.dumps(child))
            asked.send(pickle.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    command, folder, env = pickle.loads(request)  # noqa: S301 our own process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = [folder, folder, *path]
    what, *arguments = command
    sys.argv, sys.orig_argv = [what, *arguments], [sys.executable, *command]
    if what == "-c":
        exec(arguments[0], sys.modules["__main__"].__dict__)  # noqa: S102 a test's script
    else:
        runpy.run_module(what.removeprefix("-m"), run_name="__main__", alter_sys=True)
