"""The same test at another commit: its loader runs in a child process and is measured in turns with this one's."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_loaderperf.remote import Child, RemoteSide
from pytest_loaderperf.worktree import BaseError, Worktree, installed


class NoBaseError(BaseError):
    """The commit has no such test, so there is nothing to compare with, and nothing has failed."""


class _BaseChild(Child):
    error = BaseError


class Base:
    """The tests of ``files`` as commit ``ref`` has them, collected in a child process that serves one loader at a time.

    ``root`` is pytest's rootdir, ``arguments`` what else the child's pytest is told. The child is started when it is
    needed, and again where a test ended it, with the worktree's modules first on its path. ``close`` ends it and
    removes the worktree.

    Raises BaseError where the commit cannot be checked out.
    """

    def __init__(
        self, ref: str, root: Path, files: Sequence[Path], arguments: Sequence[str], timeout_seconds: float
    ) -> None:
        self.worktree = Worktree(ref, root)
        self.called = f"{self.worktree.ref} ({self.worktree.commit[:10]})"
        self._root = self._there(root) or self.worktree.path
        self._arguments, self._timeout_seconds = arguments, timeout_seconds
        self._files = [path for path in map(self._there, files) if path is not None and path.exists()]
        self._together = True
        self._collected: list[Path] = []
        self._side: RemoteSide | None = None
        self._child: Child | None = None
        self._tests: set[str] = set()
        self._problems: dict[str, str] = {}
        self._deadly: dict[Path, str] = {}

    def _there(self, path: Path) -> Path | None:
        """The place in the worktree of a path in the checkout."""
        top, path = self.worktree.top, path.resolve()
        return self.worktree.path / path.relative_to(top) if path.is_relative_to(top) else None

    def _collect(self, file: Path) -> None:
        """Have a child that has collected ``file``: with all others, or by itself once they ended a child together."""
        if file in self._deadly:
            raise BaseError(self._deadly[file])  # once is enough: it may have taken minutes
        wanted = self._files if self._together else [file]
        if self._child is not None and self._child.alive and self._collected == wanted:
            return
        self._leave()
        try:
            self._start(wanted)
        except BaseError as error:
            if wanted == [file]:
                self._deadly[file] = str(error)
                raise
            self._together = False
        if not self._together and wanted != [file]:
            self._collect(file)

    def _start(self, files: list[Path]) -> None:
        there, root, folder = self.worktree.path, self._root, self._there(Path.cwd())
        # -P: the folder it starts in is on its path where it is on ours, and there alone.
        command = [sys.executable, "-P", "-m", "pytest", "-p", "pytest_loaderperf.base_child", "--loaderperf"]
        command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", "--maxfail=0", f"--rootdir={root}"]
        self._child = _BaseChild(
            self.called,
            [*command, *self._arguments, *map(str, files)],
            [str(self.worktree.top), str(there)],
            self._timeout_seconds,
            cwd=folder if folder is not None and folder.is_dir() else root,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(self._import_path(root))},
        )
        self._collected = files
        self._tests, self._problems = self._child.answer()

    def _import_path(self, root: Path) -> list[str]:
        """The import path that finds the worktree's modules first: each folder of the checkout on ours, as it is there.

        Also those where the hook of an editable install finds packages, and those a plain install may be made from.
        """
        folders = [Path(entry or os.curdir).resolve() for entry in [*sys.path, *_hooked_folders()]]
        ours = filter(None, (self._there(folder) for folder in folders if not installed(folder)))
        inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        guessed = [folder / name for folder in (root, self.worktree.path) for name in ("", "src")]
        return [str(path) for path in dict.fromkeys([*ours, *guessed]) if path.is_dir()] + inherited

    def side(self, nodeid: str, call: int, name: str) -> RemoteSide:
        """The loader that test ``nodeid`` gives to its ``call``-th ``loaderperf(...)``, counted from 0.

        Raises NoBaseError where the commit has no such test, BaseError where it fails there before that.
        """
        file = nodeid.partition("::")[0]
        if self._root / file in self._files:
            self._collect(self._root / file)
        for problem, text in self._problems.items():
            if _holds(problem, nodeid):
                raise BaseError(f"{self.called}: {file} cannot be collected there.\n{text}")
        if self._child is None or nodeid not in self._tests:
            raise NoBaseError(f"new: no base: {self.called} has no test {nodeid}")
        if self._side is not None:
            self._side.close()  # the child runs one test at a time, up to one of its calls
        self._side = RemoteSide(self._child, name, self._child.ask("serve", nodeid, call))
        return self._side

    def close(self) -> None:
        """End the child and remove the worktree. May be called twice."""
        try:
            self._leave()
        finally:
            self.worktree.close()

    def _leave(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child, self._tests, self._problems = None, set(), {}


def _holds(collector: str, nodeid: str) -> bool:
    """Whether the test is one of that collector's, which pytest names by a prefix: a folder, file, class or nothing."""
    collector = collector.removesuffix("/__init__.py")
    return collector in ("", ".") or nodeid.startswith((f"{collector}/", f"{collector}::"))


def _hooked_folders() -> list[str]:
    """Where the modules lie that are imported here and that the hook of an editable install finds."""
    hooks = [hook for hook in sys.meta_path if "editable" in f"{hook!r} {type(hook)!r}".lower()]
    specs = [hook.find_spec(name, None) for hook in hooks for name in list(sys.modules) if "." not in name]
    found = [(spec.origin, spec.submodule_search_locations) for spec in specs if spec is not None]
    return [str(Path(file).parents[folders is not None]) for file, folders in found if file is not None]
