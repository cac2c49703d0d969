"""A git worktree of the commit to compare with, under ``.loaderperf/`` and removed after use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import psutil

from pytest_loaderperf.remote import RemoteError

FOLDER = ".loaderperf"
_TIMEOUT_S = 300.0  # for a checkout from a slow disk
_ANYWAY = ("--force", "--force")  # the second is for one whose making was cut short: git keeps that locked
_SUBMODULE = "160000"  # mode of a tree's entry
_CODE = {".py", ".pyc", ".so", ".pyd", ".egg-info", ".dist-info"}


class BaseError(RemoteError):
    """The commit to compare with cannot be had, or what it holds cannot be measured."""


class Worktree:
    """The files of commit ``ref`` of the repository around ``start``: at ``path``, until ``close``.

    ``top`` is the checkout's own folder, ``commit`` the full hash. What killed processes left behind is removed first.

    Raises BaseError, saying what to do, where there is no git, repository or such commit, or nothing can be written.
    """

    def __init__(self, ref: str, start: Path) -> None:
        if shutil.which("git") is None:
            raise BaseError(f"comparing with {ref!r} needs git, but there is none on the PATH. Install git.")
        try:
            self.top = Path(_git(start, "rev-parse", "--show-toplevel"))
        except BaseError as error:
            raise BaseError(
                f"comparing with {ref!r} needs the checkout of a git repository, but git finds none around {start} "
                f"({error}). Run in a checkout, with pytest's rootdir inside it."
            ) from None
        self.ref, self.commit = ref, self._commit(ref)
        folder = self.top / FOLDER
        self.path = folder / f"base-{self.commit[:12]}-{token_hex(3)}-{os.getpid()}"
        try:
            folder.mkdir(exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
        except OSError as error:
            raise BaseError(
                f"comparing with {ref!r} puts a worktree under {folder}, which cannot be written ({error}). "
                "Run in a checkout that you may write to."
            ) from None
        self._submodules = [name for _, name in _submodules(self.top) if (self.top / name / ".git").exists()]
        self._remove_leftovers(folder)
        try:
            self._check_out()
            self._link_data()
        except BaseException:
            self.close()
            raise

    def _check_out(self) -> None:
        try:
            _git(self.top, "worktree", "add", "--quiet", "--detach", "--force", str(self.path), self.commit)
        except BaseError as error:
            raise BaseError(
                f"git cannot check out {self.ref!r} beside this checkout: {error}. "
                "If another git process holds a lock, let it end; if none runs, remove the lock file that git names."
            ) from None
        for commit, name in _submodules(self.path):
            if name in self._submodules:
                self._check_out_submodule(commit, name)

    def _check_out_submodule(self, commit: str, name: str) -> None:
        try:
            _git(self.top / name, "worktree", "add", "--quiet", "--detach", "--force", str(self.path / name), commit)
        except BaseError as error:
            raise BaseError(
                f"{self.ref!r} has the submodule {name} at {commit}, which git cannot check out: {error}. "
                f"Fetch it: `git -C {name} fetch origin {commit}`."
            ) from None

    def _link_data(self) -> None:
        """Let what git does not track be found at its place: data, but no code, which must be that of the commit."""
        for name in _git(self.top, "ls-files", "--others", "--directory", "--no-empty-directory", "-z").split("\0"):
            source, link = self.top / name, self.path / name.rstrip("/")
            hidden = any(part.startswith((".", "__")) for part in Path(name).parts)
            if name and not hidden and not _is_code(source) and not link.exists() and link.parent.is_dir():
                link.symlink_to(source, source.is_dir())

    def _commit(self, ref: str) -> str:
        try:
            return _git(self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except BaseError:
            pass
        way_out = "See `git branch --all` and `git tag` for what there is."
        if not ref.strip():
            way_out = "Is a variable empty that should name it?"
        elif not _git(self.top, "rev-list", "--all", "--max-count=1"):
            way_out = "This repository has no commits yet."
        elif _git(self.top, "rev-parse", "--is-shallow-repository") == "true":
            way_out = (
                "This clone is shallow: fetch more of the history, `git fetch --unshallow`, or that commit alone, "
                "`git fetch --depth=1 origin COMMIT`; in GitHub Actions give actions/checkout `fetch-depth: 0`."
            )
        elif ref.startswith("origin/"):
            way_out = f"Fetch it first: `git fetch origin {ref.removeprefix('origin/')}`."
        raise BaseError(f"--loaderperf-base expects a commit, branch or tag, but {ref!r} is none here. {way_out}")

    def _remove_leftovers(self, folder: Path) -> None:
        for left in folder.glob("base-*-*"):
            if not _in_use(left):
                self._remove(left)

    def _remove(self, path: Path) -> None:
        # Not `git worktree prune`: it forgets all that cannot be seen from here, such as those outside this container.
        shutil.rmtree(path, ignore_errors=True)
        for name in ["", *self._submodules]:
            with suppress(BaseError):
                _git(self.top / name, "worktree", "remove", *_ANYWAY, str(path / name))

    def close(self) -> None:
        """Remove it. May be called twice."""
        self._remove(self.path)


def installed(path: Path) -> bool:
    """Whether a path is an environment's, which may lie inside the checkout, and not the checkout's own."""
    return path.is_relative_to(Path(sys.prefix).resolve()) or "site-packages" in path.parts


def _in_use(left: Path) -> bool:
    """Whether the process that made worktree ``left`` still runs: one of its number that began before it was made."""
    pid = left.name.rpartition("-")[2]
    try:
        return psutil.Process(int(pid)).create_time() <= left.stat().st_mtime
    except (psutil.Error, OSError, ValueError, OverflowError):
        return False


def _submodules(folder: Path) -> list[tuple[str, str]]:
    """Commit and path of each submodule that the index of ``folder`` has."""
    entries = _git(folder, "ls-files", "--stage", "-z").split("\0")
    return [(entry.split()[1], entry.partition("\t")[2]) for entry in entries if entry.startswith(_SUBMODULE)]


def _is_code(source: Path) -> bool:
    try:
        return source.suffix in _CODE or (source.is_dir() and any(path.suffix in _CODE for path in source.iterdir()))
    except OSError:
        return True  # not ours to read, so no data for us


def _git(folder: Path, *arguments: str) -> str:
    # A hook's variables would send git to another index or work tree; GIT_CONFIG_… hold what the user set.
    kept = (name for name in os.environ if not name.startswith("GIT_") or name.startswith("GIT_CONFIG"))
    inherited = {name: os.environ[name] for name in kept}
    try:
        done = subprocess.run(  # noqa: S603 our own command
            ["git", "-C", str(folder), "-c", f"core.hooksPath={os.devnull}", *arguments],  # noqa: S607 the user's git
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            env={**inherited, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BaseError(f"git {arguments[0]}: {error}") from None
    if done.returncode:
        raise BaseError(" ".join(done.stderr.split()) or f"git {arguments[0]} failed with status {done.returncode}")
    return done.stdout.strip()
