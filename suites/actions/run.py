"""What a pull request of the user's repository sees: the gate, then the comment, by the workflows of the page."""

from __future__ import annotations

import os
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.actions import api
from suites.actions.others import stand_ins
from suites.actions.repository import NAME, ROOT, Repository, examples
from suites.actions.runner import Job, Runner, run_workflow

COMMIT = "0" * 40  # for the placeholder in the examples
_OWN = "pytest-loaderperf/pytest-loaderperf"
_COMMENT = ".github/actions/comment"


@dataclass
class Place:
    """Where workflows run: a ``folder``, the environment of their steps, and a GitHub to ask."""

    folder: Path
    github: api.GitHub
    environment: dict[str, str]

    @classmethod
    def make(cls, folder: Path, github: api.GitHub) -> Place:
        """With an environment of Python in which all but this package is installed already, without a network."""
        tools = folder / "python"
        venv.create(tools, symlinks=True)
        packages = sysconfig.get_path("purelib", "venv", {"base": str(tools)})
        Path(packages, "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GITHUB_", "RUNNER_", "PIP_", "PYTEST_", "MAKE", "MFLAGS", "PYTHONPATH"))
        }
        environment |= {"PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(tools)}
        # pip turns the isolation off, with which it would look for hatchling, by a false value.
        environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
        return cls(folder, github, environment)

    def workflow(
        self, file: Path, origin: Path, event: Mapping[str, Any], name: str, run_id: int, **more: Any
    ) -> dict[str, Job]:
        """Run the workflow ``file`` for ``event``, and return its jobs."""
        runner = Runner(
            folder=self.folder / name,
            event=event,
            environment=self.environment | more.pop("environment", {}),
            ours={"./": ROOT, f"./{_COMMENT}": ROOT / _COMMENT, _OWN: ROOT, f"{_OWN}/{_COMMENT}": ROOT / _COMMENT},
            others=stand_ins(origin, self.folder / "artifacts"),
            token=_token,
            **more,
        )
        context = {
            "event": event,
            "repository": NAME,
            "base_ref": event.get("pull_request", {}).get("base", {}).get("ref", ""),
            "sha": COMMIT,
            "api_url": self.github.url,
            "server_url": "https://example.org",
            "run_id": run_id,
        }
        return run_workflow(file, runner, context)

    def example(self, file: str) -> Path:
        """An example of the user's page as a file."""
        path = self.folder / "workflows" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(examples()[file].replace("@COMMIT", f"@{COMMIT}"))
        return path

    def gate(self, repository: Repository, number: int) -> Job:
        """The measuring job for a pull request of a fork."""
        event = repository.pull_event(number)
        return self.workflow(self.example("perf.yml"), repository.origin, event, f"gate-{number}", number)["gate"]

    def comment(self, repository: Repository, number: int, conclusion: str, name: str) -> Job:
        """The commenting job after it."""
        event = repository.run_event(number, conclusion)
        return self.workflow(self.example("comment.yml"), repository.origin, event, name, number + 100)["comment"]


def _token(permissions: Mapping[str, str]) -> str:
    return api.WRITE if permissions.get("pull-requests") == "write" else api.READ
