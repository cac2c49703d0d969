"""A git worktree of the commit to compare with, under ``.loaderperf/`` and removed after use."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil

from pytest_loaderperf.errors import LoaderPerfError

FOLDER = ".loaderperf"
_TIMEOUT_S = 300.0  # for a checkout from a slow disk
_CODE = {".py", ".pyc", ".so", ".pyd", ".egg-info", ".dist-info"}


class BaseError(LoaderPerfError):
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
                f"comparing with {ref!r} needs a git repository, but {start} is in none ({error}). "
                "Run in the checkout of a repository."
            ) from None
        self.ref, self.commit = ref, self._commit(ref)
        folder = self.top / FOLDER
        self.path = folder / f"base-{self.commit[:12]}-{os.getpid()}"
        try:
            folder.mkdir(exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
        except OSError as error:
            raise BaseError(
                f"comparing with {ref!r} puts a worktree under {folder}, which cannot be written ({error}). "
                "Run in a checkout that you may write to."
            ) from None
        self._remove_leftovers(folder)
        try:
            _git(self.top, "worktree", "add", "--quiet", "--detach", "--force", str(self.path), self.commit)
        except BaseError as error:
            self.close()
            raise BaseError(
                f"git cannot check out {ref!r} beside this checkout: {error}. "
                "If another git process holds a lock, let it end; if none runs, remove the lock file that git names."
            ) from None
        self._link_data()

    def _link_data(self) -> None:
        """Let what git does not track be found at its place: data, but no code, which must be that of the commit."""
        for name in _git(self.top, "ls-files", "--others", "--directory", "--no-empty-directory", "-z").split("\0"):
            source, link = self.top / name, self.path / name.rstrip("/")
            hidden = any(part.startswith((".", "__")) for part in Path(name).parts)
            code = source.suffix in _CODE or (
                source.is_dir() and any(path.suffix in _CODE for path in source.iterdir())
            )
            if name and not hidden and not code and not link.exists() and link.parent.is_dir():
                link.symlink_to(source, source.is_dir())

    def _commit(self, ref: str) -> str:
        try:
            return _git(self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except BaseError:
            pass
        way_out = "See `git branch --all` and `git tag` for what there is."
        if _git(self.top, "rev-parse", "--is-shallow-repository") == "true":
            way_out = (
                "This clone is shallow: fetch more of the history, `git fetch --unshallow`, or that commit alone, "
                "`git fetch --depth=1 origin COMMIT`; in GitHub Actions give actions/checkout `fetch-depth: 0`."
            )
        elif ref.startswith("origin/"):
            way_out = f"Fetch it first: `git fetch origin {ref.removeprefix('origin/')}`."
        raise BaseError(f"--loaderperf-against expects a commit, branch or tag, but {ref!r} is none here. {way_out}")

    def _remove_leftovers(self, folder: Path) -> None:
        for left in folder.glob("base-*-*"):
            pid = left.name.rpartition("-")[2]
            if not pid.isdigit() or int(pid) == os.getpid() or not psutil.pid_exists(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
        _git(self.top, "worktree", "prune")

    def close(self) -> None:
        """Remove it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        _git(self.top, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> str:
    # A hook's variables would send git to another index or work tree.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 our own command
            ["git", "-C", str(folder), *arguments],  # noqa: S607 the git that the user has
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BaseError(f"git {arguments[0]}: {error}") from None
    if done.returncode:
        raise BaseError(" ".join(done.stderr.split()) or f"git {arguments[0]} failed with status {done.returncode}")
    return done.stdout.strip()
