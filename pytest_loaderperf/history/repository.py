"""What git knows: the commit of a run and whether files differ from it, and the order of commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from pytest_loaderperf.errors import ResultError

_TIMEOUT_S = 60.0  # a git command takes milliseconds; a broken network file system takes forever
_MOST_NAMED = 3  # changed files in a message
# Hooks set these, and git would then use another repository.
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


class Checkout(NamedTuple):
    """The checked-out commit's time, in seconds since 1970; its branch; whether files differ from it.

    None: not known, or for ``branch`` a detached head.
    """

    time_s: float | None = None
    branch: str | None = None
    dirty: bool | None = None


class Commit(NamedTuple):
    """A commit of HEAD's history: its full name, time in seconds since 1970, and subject."""

    name: str
    time_s: float
    subject: str


def checkout(folder: Path) -> Checkout:
    """What is checked out around ``folder``. Files that git does not track do not count as changes."""
    time = _said(folder, "show", "--no-patch", "--format=%ct", "HEAD")
    if time is None:
        return Checkout()
    changes = _said(folder, "status", "--porcelain", "--untracked-files=no")
    branch = _said(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    return Checkout(float(time), branch or None, None if changes is None else bool(changes))


def commits(folder: Path) -> list[Commit]:
    """HEAD's history, oldest first; empty without git or a repository."""
    listed = _said(folder, "log", "--topo-order", "--reverse", "--format=%H %ct %s", "HEAD")
    lines = [line.split(" ", 2) for line in (listed or "").split("\n") if line]
    return [Commit(name, float(time), subject) for name, time, subject in lines]


def known(folder: Path, names: set[str]) -> set[str]:
    """Those commits that the repository has, whether or not they are in HEAD's history."""
    asked = "\n".join(sorted(names))
    answer = _said(folder, "cat-file", "--batch-check=%(objectname) %(objecttype)", given=asked)
    lines = [line.split(" ") for line in (answer or "").splitlines()]
    return {name for name, kind in lines if kind == "commit"}


def resolve(folder: Path, ref: str) -> str | None:
    """The full name of the commit that ``ref`` means; None if there is none."""
    return _said(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")


def is_shallow(folder: Path) -> bool:
    """Whether the repository lacks its older commits."""
    return _said(folder, "rev-parse", "--is-shallow-repository") == "true"


def head(root: Path) -> str:
    """The commit that is checked out. Raises ResultError if there is none."""
    try:
        return git(root, "rev-parse", "--verify", "HEAD^{commit}").strip()
    except ResultError as error:
        raise ResultError(
            f"expected a git repository with a commit, which results can belong to, got {root}: {error}. "
            "Run git init and commit, or run inside the repository."
        ) from None


def commit_date_ms(root: Path, commit: str) -> int:
    """Milliseconds since 1970 of a commit. Raises ResultError if the repository does not have it."""
    try:
        return int(git(root, "show", "--no-patch", "--format=%ct", f"{commit}^{{commit}}").split()[-1]) * 1000
    except (ResultError, ValueError, IndexError):
        raise ResultError(
            f"commit {commit} is not in the repository at {root}. Expected one of its commits: fetch it, or run in "
            "the repository that was measured."
        ) from None


def changed_files(root: Path, beside: Path) -> list[str]:
    """Tracked files that differ from the commit checked out, without those in the folder ``beside``."""
    top = Path(git(root, "rev-parse", "--show-toplevel").rstrip("\n"))
    inside = beside.resolve()
    skipped = []
    if inside.is_relative_to(top.resolve()) and inside != top.resolve():
        skipped = [f":(exclude,top,literal){inside.relative_to(top.resolve()).as_posix()}"]
    listed = git(top, "diff", "HEAD", "--name-only", "-z", "--", ":(top)", *skipped)
    return [name for name in listed.split("\0") if name]


def dirty_text(changed: list[str], commit: str) -> str:
    """That files differ from the commit, for a message."""
    named = ", ".join(changed[:_MOST_NAMED]) + (", …" if len(changed) > _MOST_NAMED else "")
    files = "file differs" if len(changed) == 1 else "files differ"
    return f"{len(changed)} {files} from commit {commit[:8]} ({named})"


def git(folder: Path, *arguments: str, given: str = "") -> str:
    """What a git command prints in ``folder``, with ``given`` on its input. Raises ResultError with git's own words."""
    inherited = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
    settings = ["-c", f"core.hooksPath={os.devnull}", "-c", "core.quotepath=off", "-c", "log.showSignature=false"]
    try:
        done = subprocess.run(  # noqa: S603 our own command
            ["git", "-C", str(folder), *settings, *arguments],  # noqa: S607 the user's git
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=_TIMEOUT_S,
            check=True,
            env={**inherited, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().removeprefix("fatal: ")
        raise ResultError(said or f"git ended with {error.returncode}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise ResultError(f"git cannot be run: {error}") from None
    return done.stdout.strip("\n")


def _said(folder: Path, *arguments: str, given: str = "") -> str | None:
    """The same; None if git fails or there is none."""
    try:
        return git(folder, *arguments, given=given)
    except ResultError:
        return None
