"""A git worktree of the commit to compare with, under ``.loaderperf/`` and removed after use."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from pytest_loaderperf.errors import refusal
from pytest_loaderperf.remote import RemoteError

FOLDER = ".loaderperf"
_TIMEOUT_S = 300.0  # for a checkout from a slow disk
_ANYWAY = ("--force", "--force")  # the second is for an incomplete one, which git keeps locked
_SUBMODULE = "160000"  # mode of a tree's entry
_CODE = {".py", ".pyc", ".so", ".pyd", ".egg-info", ".dist-info"}
_NAME = re.compile(r"base-[0-9a-f]{12}-[0-9a-f]{16}")  # commit and random part: unique among all runs and machines
_LOCK = ".lock"  # suffix of the file next to a worktree that its run keeps locked
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # one running kernel
# Variables that a hook sets, and that would make git use another repository, index or work tree:
# `git rev-parse --local-env-vars`, without GIT_CONFIG_PARAMETERS and GIT_CONFIG_COUNT, which have a user's settings.
_REDIRECTING = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_IMPLICIT_WORK_TREE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
    *("GIT_CONFIG", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_INTERNAL_SUPER_PREFIX"),
}


class BaseError(RemoteError):
    """The commit to compare with cannot be checked out, or its loader cannot be measured."""


class _RefusedError(BaseError):
    """The system does not start git, so there is no answer."""


class Worktree:
    """The files of commit ``ref`` of the repository around ``start``: at ``path``, until ``close``.

    ``top`` is the checkout's own folder, ``commit`` the full hash. Files of killed processes are removed first.

    Raises BaseError, which says what to do, if there is no git, repository or such commit, or nothing can be written.
    """

    def __init__(self, ref: str, start: Path) -> None:
        if shutil.which("git") is None:
            raise BaseError(f"comparing with {ref!r} needs git, but there is none on the PATH. Install git.")
        try:
            self.top = Path(git(start, "rev-parse", "--show-toplevel"))
        except _RefusedError:
            raise
        except BaseError as error:
            if "safe.directory" in str(error):
                raise BaseError(
                    f"comparing with {ref!r}: git refuses the checkout around {start}, because another user owns it. "
                    f"Trust it, `git config --global --add safe.directory {start}`, or run as its owner."
                ) from None
            raise BaseError(
                f"comparing with {ref!r} needs the checkout of a git repository, but git finds none around {start} "
                f"({error}). Run in a checkout, with pytest's rootdir inside it."
            ) from None
        self.ref, self.commit = ref, self._commit(ref)
        folder = self.top / FOLDER
        self.path = folder / f"base-{self.commit[:12]}-{token_hex(8)}"
        _make_folder(folder, ref)
        self._submodules = _own_submodules(self.top)
        remove_abandoned(self.top)
        self._lock = _locked(self.path)
        try:
            self._check_out()
            self._link_data()
        except BaseException:
            self.close()
            raise

    def same_code(self) -> bool:
        """Whether no file that git tracks differs from the commit."""
        try:
            return not git(self.top, "diff", "--name-only", "--no-ext-diff", self.commit, "--")
        except BaseError:  # in a partial clone without its remote, for example
            return False

    def _check_out(self) -> None:
        try:
            git(self.top, "worktree", "add", "--quiet", "--detach", "--force", str(self.path), self.commit)
        except BaseError as error:
            said = str(error).rstrip(".")
            raise BaseError(
                f"git cannot check out {self.ref!r} in a worktree: {said}. {_way_out(said, self.commit)}"
            ) from None
        for commit, name in _submodules(self.path):
            if name in self._submodules:
                self._check_out_submodule(commit, name)

    def _check_out_submodule(self, commit: str, name: str) -> None:
        try:
            git(self.top / name, "worktree", "add", "--quiet", "--detach", "--force", str(self.path / name), commit)
        except BaseError as error:
            raise BaseError(
                f"{self.ref!r} has the submodule {name} at {commit}, which git cannot check out: {error}. "
                f"Fetch it: `git -C {name} fetch origin {commit}`."
            ) from None

    def _link_data(self) -> None:
        """Link what git does not track: data, but no code, which must be the commit's."""
        for name in git(self.top, "ls-files", "--others", "--directory", "--no-empty-directory", "-z").split("\0"):
            source, link = self.top / name, self.path / name.rstrip("/")
            hidden = any(part.startswith((".", "__")) for part in Path(name).parts)
            if not name or hidden or link.exists() or not link.parent.is_dir():
                continue
            if (target := self._same_here(source)) is not None:
                link.symlink_to(target, target.is_dir())

    def _same_here(self, source: Path) -> Path | None:
        """The file in the worktree for ``source``, which git does not track; None for code."""
        if source.is_symlink():
            target = source.resolve()
            if not target.is_relative_to(self.top):
                return target  # in no commit of this repository, so the same on both sides
            if (there := self.path / target.relative_to(self.top)).exists():
                return there
        return None if _is_code(source) else source

    def _commit(self, ref: str) -> str:
        try:
            return git(self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except _RefusedError:
            raise
        except BaseError:
            pass
        if ref.strip() and git(self.top, "rev-parse", "--is-shallow-repository") == "true":
            raise BaseError(
                f"--loaderperf-base: expected a commit, branch or tag, but this clone is shallow and has no {ref!r}: "
                "fetch more of the history, `git fetch --unshallow`, or that commit alone, "
                "`git fetch --depth=1 origin COMMIT`; in GitHub Actions give actions/checkout `fetch-depth: 0`."
            )
        way_out = "See `git branch --all` and `git tag` for what there is."
        if not ref.strip():
            way_out = "Is a variable empty that should name it?"
        elif not git(self.top, "rev-list", "--all", "--max-count=1"):
            way_out = "This repository has no commits yet."
        elif ref.startswith("origin/"):
            way_out = f"Fetch it first: `git fetch origin {ref.removeprefix('origin/')}`."
        raise BaseError(
            f"--loaderperf-base: expected a commit, branch or tag, got {ref!r}, which is none here. {way_out}"
        )

    def close(self) -> None:
        """Remove it. May be called twice."""
        if not self._lock.closed:
            _remove(self.top, self.path, self._submodules)
            _lock_file(self.path).unlink(missing_ok=True)
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # a forked process may have it open, too
            self._lock.close()


def remove_abandoned(top: Path) -> None:
    """Remove the worktrees of the checkout ``top`` that killed runs of this machine left; those of live runs stay.

    A run keeps its worktree's lock as long as it lives, for any process number, namespace or clock. For another
    machine, or a file system without locks, this is unknown, and worktrees stay.
    """
    folder = top / FOLDER
    if folder.is_symlink():
        return
    for file in folder.glob(f"base-*{_LOCK}"):
        path = file.with_suffix("")
        if _NAME.fullmatch(path.name) is None or file.is_symlink() or path.is_symlink():
            continue
        with suppress(OSError, UnicodeDecodeError), file.open("r+", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.read() == _machine() and (not path.exists() or path in _worktrees(top)):
                _remove(top, path, _own_submodules(top))
                file.unlink()


def _locked(path: Path) -> IO[str]:
    """The new lock file of the worktree ``path``, locked until it is closed, and written under the lock."""
    try:
        lock = _lock_file(path).open("x", encoding="ascii")
    except OSError as error:
        raise BaseError(f"cannot write {_lock_file(path)}: {error}. Run in a checkout that you may write to.") from None
    try:
        with suppress(OSError):  # a file system without locks: other processes get none either
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(_machine())
        lock.flush()
    except BaseException as error:
        _lock_file(path).unlink(missing_ok=True)
        with suppress(OSError):
            lock.close()
        if isinstance(error, OSError):
            raise BaseError(f"cannot write {_lock_file(path)}: {error}. Free some space on that disk.") from None
        raise
    return lock


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + _LOCK)


def _machine() -> str:
    """Identifies the running kernel, whose locks are reliable, among those that share a disk."""
    try:
        return f"loaderperf {_BOOT.read_text('ascii').strip()}\n"
    except OSError:
        return "loaderperf\n"


def _worktrees(top: Path) -> list[Path]:
    listed = git(top, "worktree", "list", "--porcelain").splitlines()
    return [Path(line.removeprefix("worktree ")) for line in listed if line.startswith("worktree ")]


def _remove(top: Path, path: Path, submodules: list[str]) -> None:
    # Not `git worktree prune`: it would drop worktrees that are not visible here, such as those outside this container.
    if path.is_symlink() or path.parent.is_symlink():
        return
    shutil.rmtree(path, ignore_errors=True)
    for name in ["", *submodules]:
        with suppress(BaseError):
            git(top / name, "worktree", "remove", *_ANYWAY, str(path / name), process_group=0)  # no Ctrl-C reaches it


def _make_folder(folder: Path, ref: str) -> None:
    wanted = f"comparing with {ref!r} puts a worktree under {folder}"
    if folder.is_symlink():
        raise BaseError(f"{wanted}, which is a symbolic link. Expected a folder of this checkout: remove the link.")
    try:
        folder.mkdir(exist_ok=True)
        with suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as ignored:
            ignored.write("*\n")
    except OSError as error:
        raise BaseError(
            f"{wanted}, which cannot be written ({error}). Run in a checkout that you may write to."
        ) from None


def _way_out(error: str, commit: str) -> str:
    """What to do about git's error for a failed checkout."""
    said = error.lower()
    if "lfs" in said or "smudge" in said or "filter" in said:
        return (
            "A git filter could not make a file. With LFS, fetch what it needs, "
            f"`git lfs fetch origin {commit[:10]}`, or leave the pointers as they are, GIT_LFS_SKIP_SMUDGE=1."
        )
    if "lock" in said:
        return "If another git process holds a lock, let it end; if none runs, remove the lock file that git names."
    if "space" in said or "quota" in said:
        return "Free some space on that disk."
    if "unable to write" in said:  # git does not say why
        return "Is that disk full, or may you not write there?"
    return "Try `git worktree add` by hand to see more."


def installed(path: Path) -> bool:
    """Whether a path belongs to an environment, which may be inside the checkout, not to the checkout."""
    return path.is_relative_to(Path(sys.prefix).resolve()) or "site-packages" in path.parts


def _submodules(folder: Path) -> list[tuple[str, str]]:
    """Commit and path of each submodule that the index of ``folder`` has."""
    entries = git(folder, "ls-files", "--stage", "-z").split("\0")
    return [(entry.split()[1], entry.partition("\t")[2]) for entry in entries if entry.startswith(_SUBMODULE)]


def _own_submodules(top: Path) -> list[str]:
    """Paths of those that are checked out."""
    return [name for _, name in _submodules(top) if (top / name / ".git").exists()]


def _is_code(source: Path) -> bool:
    try:
        return source.suffix in _CODE or (source.is_dir() and any(path.suffix in _CODE for path in source.iterdir()))
    except OSError:
        return True  # not readable, so not used as data


def git(folder: Path, *arguments: str, process_group: int | None = None) -> str:
    """What git says in ``folder``. Raises BaseError with its words."""
    inherited = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
    try:
        done = subprocess.run(  # noqa: S603 our own command
            ["git", "-C", str(folder), "-c", f"core.hooksPath={os.devnull}", *arguments],  # noqa: S607 the user's git
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # as for file names
            timeout=_TIMEOUT_S,
            check=False,
            env={**inherited, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            process_group=process_group,
        )
    except OSError as error:
        raise _RefusedError(f"git cannot be started: {refusal(error)}") from None
    except subprocess.SubprocessError as error:
        raise BaseError(f"git {arguments[0]}: {error}") from None
    if done.returncode:
        raise BaseError(" ".join(done.stderr.split()) or f"git {arguments[0]} failed with status {done.returncode}")
    return done.stdout.strip("\n")  # names may begin with spaces
