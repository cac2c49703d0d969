"""A job of two ranks that torchrun starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.quick_sessions import CHILDREN_TOO

_QUICKLY = "-p no:hypothesispytest -p no:zarr -p no:cacheprovider -o loaderperf_doctor=0"  # without what takes long


class Launched:
    """torchrun in ``folder``, with all its processes and output; ``popen`` starts it, and forks what it starts."""

    def __init__(self, popen, folder, *arguments):
        self.folder = folder
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        env = {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": _QUICKLY, CHILDREN_TOO: "1"}
        self._output = (folder / "output").open("w+")
        self.process = popen(
            [*command, *arguments],
            cwd=folder,
            env=os.environ | env,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ready(self):
        deadline_s = time.monotonic() + 90
        while len(list(self.folder.glob("ready_*"))) < 2:
            assert time.monotonic() < deadline_s, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.1)
        self.processes = psutil.Process(self.process.pid).children(recursive=True)

    @property
    def output(self):
        self._output.seek(0)
        return self._output.read()

    def end(self):
        for process in psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []:
            process.kill()
        self.process.kill()
        self.process.wait()
        self._output.close()
