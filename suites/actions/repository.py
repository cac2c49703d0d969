"""A user's repository on GitHub, made here: a main branch, and pull requests of a fork, one equal and one slow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.calibration.repository import git, make_repository

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "github-actions.md"
NAME, FORK = "owner/project", "stranger/project"
EQUAL, SLOW = 1, 2  # pull requests
_EXAMPLE = re.compile(r"```yaml\n# \.github/workflows/([a-z]+\.yml)\n(.*?)```", re.DOTALL)
_DATASETS = """
from torch.utils.data import Dataset

class Numbers(Dataset):
    def __len__(self):
        return 2000

    def __getitem__(self, index):
        return sum(range({work}))
"""
_TESTS = """
from mypkg.datasets import Numbers
from torch.utils.data import DataLoader

def test_no_regression(loaderperf):
    run = loaderperf(lambda: DataLoader(Numbers(), batch_size=16))
    assert run.throughput >= 0.7 * run.base.throughput
"""


@dataclass(frozen=True)
class Repository:
    """``origin`` is bare, with ``main`` and, as on GitHub, ``refs/pull/N/merge``; ``heads``: of the pull requests."""

    origin: Path
    heads: Mapping[int, str]

    def pull_event(self, number: int, repository: str = FORK) -> dict[str, Any]:
        head = {"sha": self.heads[number], "repo": {"full_name": repository}}
        return {"number": number, "pull_request": {"number": number, "head": head, "base": {"ref": "main"}}}

    def run_event(self, number: int, conclusion: str) -> dict[str, Any]:
        """The end of the workflow ``perf``, whose run has the number of the pull request."""
        run = {"id": number, "event": "pull_request", "conclusion": conclusion, "head_sha": self.heads[number]}
        where = {
            "head_repository": {"full_name": FORK},
            "html_url": f"https://example.org/{NAME}/actions/runs/{number}",
        }
        return {"workflow_run": run | where}


def make_user_repository(folder: Path) -> Repository:
    """Three commits: on main, one of equal speed, and one that is slow."""
    fork, origin = folder / "fork", folder / "origin.git"
    (fork / "tests").mkdir(parents=True)
    (fork / "requirements.txt").write_text("torch\n")
    (fork / "tests" / "test_data.py").write_text(_TESTS)
    (fork / "conftest.py").touch()  # so that tests find mypkg
    fast = _DATASETS.format(work=500)
    make_repository(fork, "", [fast, f"{fast}\n# the same\n", _DATASETS.format(work=5000)])
    main, *heads = git(fork, "rev-list", "--reverse", "HEAD").split()
    git(folder, "init", "--quiet", "--bare", str(origin))
    git(fork, "push", "--quiet", str(origin), f"{main}:refs/heads/main")
    for number, head in zip((EQUAL, SLOW), heads, strict=True):
        merged = git(fork, "commit-tree", f"{head}^{{tree}}", "-p", main, "-p", head, "-m", "merge")
        git(fork, "push", "--quiet", str(origin), f"{merged}:refs/pull/{number}/merge")
    return Repository(origin, dict(zip((EQUAL, SLOW), heads, strict=True)))


def examples() -> dict[str, str]:
    """The workflows of the user's page, by file name, as they stand there."""
    return dict(_EXAMPLE.findall(PAGE.read_text("utf-8")))
