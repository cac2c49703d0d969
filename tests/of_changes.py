"""The tests of what changed, the nearest first, as many as half a minute allows: ``python -m tests.of_changes [BASE]``.

What changed is what differs from where HEAD left ``BASE``: by default origin/main, or HEAD where there is none. Tests
of other folders, which may use it as well, are left to ``make test``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
WHOLE_PACKAGE = "tests/test_architecture.py"  # quick, and about every module
SECONDS = 35.0  # from the start on; lint, types and the last tests that run have the rest of a minute
OTHERS = {
    ".github": "ci",
    "CONTRIBUTING.md": "test_contributing.py",
    "Makefile": "test_contributing.py",
    "README.md": "plugin/test_readme.py",
    "action.yml": "ci",
    "docs/github-actions.md": "ci",
    "docs/data.md": "data/workloads/test_spec.py",
    "fixtures/series": "judge/test_recorded_series.py",
    "fixtures/workloads": "data/workloads",
    "suites": "suites",
    "suites/actions": "ci",
}


def mirrored_tests(path: str, tests: Path) -> tuple[list[Path], list[Path]]:
    """Test files for ``path``, relative to the repository: those by its name or itself, and all of its folder.

    Both are empty for what has no tests of its own. ``tests`` mirrors the package.
    """
    changed = PurePosixPath(path)
    top, *folders = changed.parts[:-1] or [""]
    if top in ("pytest_loaderperf", "tests"):
        pattern = changed.name if changed.name.startswith("test_") else f"test_{changed.stem}*.py"
        folder = next(at for at in (tests / "/".join(folders[:n]) for n in range(len(folders), -1, -1)) if at.is_dir())
        if folder == tests:
            return sorted(tests.glob(pattern)), []
        return sorted(folder.rglob(pattern)), sorted(folder.rglob("test_*.py"))
    target = next((OTHERS[part] for part in map(str, (changed, *changed.parents)) if part in OTHERS), None)
    if target is None:
        return [], []
    found = tests / target
    return ([], sorted(found.rglob("test_*.py"))) if found.is_dir() else ([found], [])


class Deadline:
    """Ends the run once its time is over, unless a test has failed: then pytest ends it as it does."""

    def __init__(self, at_s: float) -> None:
        self._at_s = at_s
        self._tests = self._done = 0
        self._failed = False

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._tests = len(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._failed |= report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed
        self._done += report.when == "teardown"
        if time.monotonic() > self._at_s and self._done < self._tests and not self._failed:
            pytest.exit(f"{SECONDS:.0f} s are over after {self._done} of {self._tests} tests; all: make test", 0)


def changed_since(base: str) -> list[str]:
    """Files that differ from where HEAD left ``base``, new ones among them."""
    parted = _git("merge-base", base, "HEAD").strip()
    differ = _git("diff", "--name-only", "--no-renames", "-z", parted)
    new = _git("ls-files", "--others", "--exclude-standard", "-z")
    return sorted({*differ.split("\0"), *new.split("\0")} - {""})


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def _default_base() -> str:
    known = _git("for-each-ref", "--format=x", "refs/remotes/origin/main")
    return "origin/main" if known else "HEAD"


def main(base: str) -> int:
    """Run them; pytest's exit status."""
    at_s = time.monotonic() + SECONDS
    base = base or _default_base()
    changed = changed_since(base)
    found = {path: mirrored_tests(path, ROOT / "tests") for path in changed}
    near, around = ([at for pair in found.values() for at in pair[place]] for place in (0, 1))
    files = [at.relative_to(ROOT).as_posix() for at in dict.fromkeys([*near, *around])]
    alone = [path for path, pair in found.items() if not any(pair)]
    print(f"changed since {base}: {', '.join(changed) or 'nothing'}")  # noqa: T201 a command prints
    if alone:
        print(f"without tests of their own: {', '.join(alone)}")  # noqa: T201
    command = ["-q", "-x", "-n", "2", *dict.fromkeys([WHOLE_PACKAGE, *files])]
    print("pytest", *command, flush=True)  # noqa: T201
    return pytest.main(command, plugins=[Deadline(at_s)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or [""]))
