"""A user's small repository: a package with datasets, tests that measure loaders of them, and two commits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BASE_OPTION = "--loaderperf-base"
_RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of ``pytest --loaderperf``: the verdicts of each test's claims, its output and its seconds."""

    verdicts: dict[str, list[str]]
    output: str
    status: int
    seconds: float


def git(folder: Path, *arguments: str) -> str:
    """Git's output."""
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 our own


def make_repository(folder: Path, tests: str, commits: Sequence[str]) -> None:
    """One commit for each text of ``mypkg/datasets.py``; ``test_speed.py`` is ``tests`` in all of them."""
    (folder / "mypkg").mkdir(parents=True)
    (folder / "mypkg" / "__init__.py").touch()
    (folder / "test_speed.py").write_text(tests)
    git(folder, "init")
    for datasets in commits:
        (folder / "mypkg" / "datasets.py").write_text(datasets)
        git(folder, "add", ".")
        git(folder, "commit", "--allow-empty", "-m", "more")


def measure_repository(folder: Path, timeout_s: float, *options: str) -> Outcome:
    """Run its tests, compared with the previous commit. Raises subprocess.TimeoutExpired."""
    command = [sys.executable, "-m", "pytest", "--loaderperf", f"{BASE_OPTION}=HEAD~1", f"--loaderperf-json={_RESULT}"]
    (folder / _RESULT).unlink(missing_ok=True)
    began_s = time.monotonic()
    ended = subprocess.run(  # noqa: S603 our own
        [*command, *options],
        cwd=folder,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    seconds = time.monotonic() - began_s
    result = folder / _RESULT
    runs = json.loads(result.read_text())["runs"] if result.exists() else []
    verdicts = {run["nodeid"].partition("::")[2]: [claim["verdict"].upper() for claim in run["claims"]] for run in runs}
    return Outcome(verdicts, ended.stdout, ended.returncode, seconds)
