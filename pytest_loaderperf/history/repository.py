"""What git knows: the commit of a run, and the order of commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_S = 60.0
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
    time = _git(folder, "show", "--no-patch", "--format=%ct", "HEAD")
    if time is None:
        return Checkout()
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    return Checkout(float(time), branch or None, None if changes is None else bool(changes))


def commits(folder: Path) -> list[Commit]:
    """HEAD's history, oldest first; empty without git or a repository."""
    listed = _git(folder, "log", "--topo-order", "--reverse", "--format=%H %ct %s", "HEAD")
    lines = [line.split(" ", 2) for line in (listed or "").split("\n") if line]
    return [Commit(name, float(time), subject) for name, time, subject in lines]


def known(folder: Path, names: set[str]) -> set[str]:
    """Those commits that the repository has, whether or not they are in HEAD's history."""
    asked = "\n".join(sorted(names))
    answer = _git(folder, "cat-file", "--batch-check=%(objectname) %(objecttype)", given=asked)
    lines = [line.split(" ") for line in (answer or "").splitlines()]
    return {name for name, kind in lines if kind == "commit"}


def resolve(folder: Path, ref: str) -> str | None:
    """The full name of the commit that ``ref`` means; None if there is none."""
    return _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")


def is_shallow(folder: Path) -> bool:
    """Whether the repository lacks its older commits."""
    return _git(folder, "rev-parse", "--is-shallow-repository") == "true"


def _git(folder: Path, *arguments: str, given: str = "") -> str | None:
    """What git prints; None if it fails or there is none."""
    inherited = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
    try:
        done = subprocess.run(  # noqa: S603 our own command
            ["git", "-C", str(folder), "-c", f"core.hooksPath={os.devnull}", *arguments],  # noqa: S607 the user's git
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=_TIMEOUT_S,
            check=True,
            env={**inherited, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip("\n")
