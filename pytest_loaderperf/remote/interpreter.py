"""A loader that another interpreter makes, such as one with another version of a dependency."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_loaderperf.measurement import Reading
from pytest_loaderperf.remote.child import Child, RemoteSide
from pytest_loaderperf.remote.naming import import_name
from pytest_loaderperf.remote.output import shared_outputs

_NEEDED = "pytest_loaderperf.remote.interpreter_child"


class OtherInterpreter:
    """The factory ``module:name`` in another process, run by the interpreter ``python``; measured in turns.

    ``arguments``: keyword arguments of the factory, of types that JSON has; ``reading``: functions that it can import.
    """

    def __init__(
        self,
        spec: str,
        python: str,
        *,
        device: str,
        timeout_s: float,
        arguments: Mapping[str, Any] | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._called, self._python = f"{spec} by {python}", python
        self._timeout_s = timeout_s
        reading = reading or Reading()
        functions = {"count": reading.count, "touch": reading.touch}
        named = [function and import_name(function, f"{name}=") for name, function in functions.items()]
        told = json.dumps(dict(arguments or {}))
        self._told = [spec, told, device, str(self._timeout_s), *(name or "" for name in named)]

    def side(self, name: str) -> RemoteSide:
        """Start the process, and its loader as a side. Raises LoaderPerfError if either fails."""
        command = [self._python, "-c", f"from {_NEEDED} import main; main()"]
        paths = os.pathsep.join(_import_path())
        told = [*self._told, name]
        env = os.environ | {"PYTHONPATH": paths}
        with shared_outputs() as outputs:
            child = _OwnChild(self._called, command, told, self._timeout_s, env=env, outputs=outputs)
        try:
            return _OwnSide(child, name, child.answer())
        except BaseException:
            child.close()
            raise


class _OwnChild(Child):
    def _last_words(self) -> str:
        words = super()._last_words()
        missing = f"No module named '{_NEEDED.partition('.')[0]}" in words
        way_out = "\nInstall it there, too: that interpreter's `python -m pip install pytest-loaderperf`."
        return words + way_out * missing


class _OwnSide(RemoteSide):
    def close(self) -> None:
        """Release the loader and end its process. May be called twice."""
        super().close()
        self._child.close()


def _import_path() -> list[str]:
    """Our import path without the folders of our interpreter; the other one has its own."""
    ours = [Path(entry or os.curdir).resolve() for entry in ["", *sys.path]]
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    outside = [path for path in ours if not any(path.is_relative_to(prefix) for prefix in prefixes)]
    return [str(path) for path in dict.fromkeys(outside) if path.exists()]
