"""What git says about the commit that was measured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pytest_loaderperf.errors import ResultError

_SECONDS = 60.0  # a git command takes milliseconds; a broken network file system takes forever
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")  # set in hooks: another repository
_MOST_NAMED = 3  # changed files in a message


def git(root: Path, *arguments: str, said: str | None = None) -> str:
    """What a git command prints in ``root``, given ``said`` on its input. Raises ResultError with git's own words."""
    try:
        done = subprocess.run(  # noqa: S603 no shell
            ["git", "-c", "core.quotepath=off", *arguments],  # noqa: S607 the git that the user has
            cwd=root,
            input=said,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_SECONDS,
            check=True,
            env={name: value for name, value in os.environ.items() if name not in _REDIRECTING} | {"LC_ALL": "C"},
        )
    except subprocess.CalledProcessError as error:
        said_it = (error.stderr or "").strip().removeprefix("fatal: ")
        raise ResultError(said_it or f"git ended with {error.returncode}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise ResultError(f"git cannot be run: {error}") from None
    return done.stdout


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


def known_commits(root: Path, commits: Iterable[str]) -> list[str]:
    """Those of ``commits``, which may be abbreviated, that the repository has."""
    asked = list(commits)
    told = git(root, "cat-file", "--batch-check", said="".join(f"{commit}\n" for commit in asked)).splitlines()
    return [commit for commit, line in zip(asked, told, strict=True) if " commit " in line]


def is_shallow(root: Path) -> bool:
    """Whether old commits are missing here."""
    return git(root, "rev-parse", "--is-shallow-repository").strip() == "true"
