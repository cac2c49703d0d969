"""The same test at another commit: its loader runs in a child process and is measured in turns with this one's."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from pytest_loaderperf.errors import refusal
from pytest_loaderperf.remote.child import Child, RemoteSide
from pytest_loaderperf.remote.invocation import Invocation, Places, environment, neutral
from pytest_loaderperf.remote.naming import Call
from pytest_loaderperf.remote.output import shared_outputs
from pytest_loaderperf.remote.worktree import BaseError, Worktree, installed


class NoBaseError(BaseError):
    """The commit has no such test, so there is nothing to compare with. This is not a failure."""


class _BaseChild(Child):
    error = BaseError
    error_types: ClassVar = {**Child.error_types, "new": NoBaseError}


class Base:
    """The tests of ``files`` at commit ``ref``, collected in a child process that serves one loader at a time.

    ``invocation`` is how pytest was called here; ``others`` are files of tests that may or may not measure. The child
    is started when it is needed, and again if a test ended it, with the worktree's modules first on its path, and with
    its own temporary files and cache. ``close`` ends it and removes the worktree and these files.

    Raises BaseError if the commit cannot be checked out.
    """

    def __init__(
        self, ref: str, invocation: Invocation, files: Sequence[Path], others: Sequence[Path], timeout_seconds: float
    ) -> None:
        self.worktree = Worktree(ref, invocation.root)
        self.called = f"{self.worktree.ref} ({self.worktree.commit[:10]})"
        self._places = Places(self.worktree.top, self.worktree.path, [invocation.root, invocation.folder])
        self._invocation, self._timeout_seconds = invocation, timeout_seconds
        self._files, self._others = self._there(files), self._there(others)
        self._together = True
        self._collected: list[Path] = []
        self._side: RemoteSide | None = None
        self._child: Child | None = None
        try:
            self._own_folder = TemporaryDirectory(prefix="loaderperf-base-", ignore_cleanup_errors=True)
        except OSError as error:
            self.worktree.close()
            raise BaseError(f"comparing with {ref!r} needs a temporary folder: {refusal(error)}") from None
        self._deadly: dict[Path, str] = {}

    def _there(self, paths: Sequence[Path]) -> list[Path]:
        places = [self._places.path(path) for path in paths]
        return [place for place in places if place is not None and place.exists()]

    def _collect(self, file: Path) -> Child:
        """A child that has collected ``file``: with all others, or alone after they ended a child together."""
        if file in self._deadly:
            raise BaseError(self._deadly[file])  # not again: it may have taken minutes
        if file not in self._files:
            self._files = list(dict.fromkeys([*self._files, *self._others, file]))
        wanted = self._files if self._together else [file]
        if self._child is not None and self._child.alive and self._collected == wanted:
            return self._child
        self._leave()
        try:
            return self._start(wanted)
        except BaseError as error:
            if wanted == [file]:
                self._deadly[file] = str(error)
                raise
            self._together = False
        return self._collect(file)

    def _start(self, files: list[Path]) -> Child:
        places, folder = self._places, Path(self._own_folder.name)
        with shared_outputs(shown=self._invocation.shown) as outputs:
            child = self._child = _BaseChild(
                self.called,
                self._invocation.command(places, folder),
                [str(places.top), str(places.there), str(folder)],
                self._timeout_seconds,
                cwd=self._invocation.folder_there(places),
                outputs=outputs,
                env=environment(
                    self._invocation.environment, places, self._import_path(self._invocation.root_there(places))
                ),
            )
        self._collected = []
        child.ask("collect", list(map(str, files)), places.spelled)
        self._collected = files
        return child

    def _import_path(self, root: Path) -> list[str]:
        """The import path that finds the worktree's modules first: our path's folders of the checkout, in the worktree.

        It includes folders where the hook of an editable install finds packages, and sources of plain installs.
        """
        folders = [Path(entry or os.curdir).resolve() for entry in [*sys.path, *_hooked_folders()]]
        ours = filter(None, (self._places.path(folder) for folder in folders if not installed(folder)))
        inherited = [entry for entry in self._invocation.environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
        guessed = [folder / name for folder in (root, self.worktree.path) for name in ("", "src")]
        return [str(path) for path in dict.fromkeys([*ours, *guessed]) if path.is_dir()] + inherited

    def side(self, nodeid: str, path: Path, call: Call, name: str) -> RemoteSide:
        """The loader that test ``nodeid`` of the file ``path`` passes to ``loaderperf(...)`` in that ``call`` of it.

        Raises NoBaseError if the commit has no such test, BaseError if the commit has it but it was not collected
        there, or fails there before that call.
        """
        file, new = self._places.path(path), f"new: no base: {self.called} has no test {nodeid}"
        if file is None:
            raise BaseError(
                f"{self.called}: {nodeid} is in {path}, outside of the checkout {self._places.top}, so no commit has "
                "it. Expected a test of the checkout: call pytest with the paths inside it."
            )
        if not file.exists():
            raise NoBaseError(new)
        child = self._collect(file)
        if self._side is not None:
            self._side.close()  # the child runs one test at a time, up to one of its calls
        inside, *names = (
            neutral(text, self._places.spelled) for text in (nodeid.partition("::")[2], *call.others, call.name)
        )
        try:
            self._side = RemoteSide(child, name, child.ask("serve", str(file), inside, Call.last(names)))
        except NoBaseError:
            raise NoBaseError(new) from None
        return self._side

    def close(self) -> None:
        """End the child and remove the worktree and the child's own files. May be called twice."""
        try:
            self._leave()
        finally:
            self.worktree.close()
            self._own_folder.cleanup()

    def _leave(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None


def _hooked_folders() -> list[str]:
    """The folders of imported modules that the hook of an editable install finds."""
    hooks = [hook for hook in sys.meta_path if "editable" in f"{hook!r} {type(hook)!r}".lower()]
    specs = [hook.find_spec(name, None) for hook in hooks for name in list(sys.modules) if "." not in name]
    found = [(spec.origin, spec.submodule_search_locations) for spec in specs if spec is not None]
    return [str(Path(file).parents[folders is not None]) for file, folders in found if file is not None]
