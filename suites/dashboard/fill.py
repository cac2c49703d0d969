"""``python -m suites.dashboard.fill 10``: run today's benchmarks on the last commits that have no results yet."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

WORKTREES = Path(".asv/commits")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607


def missing(count: int, results: Path) -> list[str]:
    """Those of the last ``count`` commits, newest first, that no machine has asv's own results of."""
    known = {path.name.partition("-")[0] for path in results.glob("*/*-*.json") if "-loaderperf-" not in path.name}
    listed = _git("log", "--first-parent", f"--max-count={count}", "--format=%H").split()
    return [commit for commit in listed if commit[:8] not in known]


def measure(commit: str, bench: str | None, *, quick: bool) -> bool:
    """Whether asv could run its benchmarks on the package of that commit, in this interpreter."""
    there = (WORKTREES / commit[:12]).resolve()
    if there.exists():  # of a run that was killed
        _git("worktree", "remove", "--force", os.fspath(there))
    _git("worktree", "add", "--detach", "--force", os.fspath(there), commit)
    try:
        asv = [sys.executable, "-m", "asv", "run", "--python=same", f"--set-commit-hash={commit}", "--show-stderr"]
        if bench:
            asv.append(f"--bench={bench}")
        environment = os.environ | {"ASV_PYTHONPATH": os.fspath(there)}  # asv ignores PYTHONPATH
        if quick:
            environment["LOADERPERF_ASV_QUICK"] = "1"
        return subprocess.run(asv, env=environment, check=False).returncode == 0  # noqa: S603 our own command
    finally:
        _git("worktree", "remove", "--force", os.fspath(there))


def main() -> str | None:
    parser = argparse.ArgumentParser(prog="python -m suites.dashboard.fill", description=__doc__)
    parser.add_argument("commits", type=int, help="how many of the last commits")
    parser.add_argument("--results", type=Path, default=Path(".asv/results"), help="asv's results_dir (%(default)s)")
    parser.add_argument("--bench", metavar="REGEX", help="only these benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer cases, each for a shorter time")
    options = parser.parse_args()
    commits = missing(options.commits, options.results)
    print(f"{len(commits)} of the last {options.commits} commits have no results yet", flush=True)  # noqa: T201
    failed = [commit[:8] for commit in commits if not measure(commit, options.bench, quick=options.quick)]
    return f"asv could not run on {', '.join(failed)}: see above" if failed else None


if __name__ == "__main__":
    sys.exit(main())
