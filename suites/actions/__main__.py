"""Run the action and all workflows here: ``make ci-dry-run``. Status 1 if one does not end as it should."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suites.actions.api import GitHub, served
from suites.actions.repository import EQUAL, FORK, ROOT, SLOW, Repository, make_user_repository
from suites.actions.run import Place
from suites.actions.runner import Job
from suites.calibration.repository import git

SHOWN = ROOT / ".loaderperf" / "ci-dry-run"
WORKFLOWS = ROOT / ".github" / "workflows"
ONLY_PRINTED = {"MAKEFLAGS": "n"}  # make says what it would run: tests and benchmarks take hours


def user(place: Place, repository: Repository) -> Iterator[str]:
    """The gate and the comment of a user's pull requests; yields what is wrong."""
    slow, equal = place.gate(repository, SLOW), place.gate(repository, EQUAL)
    if not slow.failed or "FAIL" not in slow.summary or not slow.annotations:
        yield f"the slow pull request passes:\n{slow.output}"
    if equal.failed or "test_no_regression" not in equal.summary or equal.annotations:
        yield f"the equal pull request fails:\n{equal.output}"
    for number in (SLOW, EQUAL):
        place.github.open_pull(number, repository.heads[number], FORK)
    comments = [
        place.comment(repository, number, conclusion, f"comment-{i}")
        for i, (number, conclusion) in enumerate([(SLOW, "failure"), (EQUAL, "success"), (SLOW, "failure")])
    ]
    yield from (f"no comment:\n{job.output}" for job in comments if job.failed)
    if [comment["number"] for comment in place.github.comments] != [SLOW, EQUAL]:
        yield f"expected a comment for each pull request, got {len(place.github.comments)}"
    (SHOWN / "summary.md").write_text(slow.summary)
    (SHOWN / "annotations.txt").write_text("\n".join(slow.annotations))
    (SHOWN / "comment.md").write_text("".join(comment["body"] for comment in place.github.comments[:1]))


def own(place: Place) -> Iterator[str]:
    """The workflows of this repository, on its HEAD; yields what is wrong."""
    origin = place.folder / "own.git"
    git(place.folder, "clone", "--quiet", "--bare", str(ROOT), str(origin))
    git(origin, "update-ref", "refs/heads/main", "HEAD")
    head = git(origin, "rev-parse", "HEAD")
    git(origin, "update-ref", "refs/pull/3/merge", head)
    ours = Repository(origin, {3: head})
    place.github.open_pull(3, head, FORK)

    def run(file: str, event: dict[str, Any], run_id: int, **more: Any) -> dict[str, Job]:
        return place.workflow(WORKFLOWS / file, origin, event, f"own-{run_id}", run_id, **more)

    results = place.folder / "artifacts" / "8" / "asv-results"  # what asv would have measured that night
    results.mkdir(parents=True)
    (results / "box.json").write_text("{}\n")
    fixed = {"environment": ONLY_PRINTED, "variables": {"ASV_RUNNER": "box", "ASV_PAGES": "true"}}
    done = {
        "perf": run("perf.yml", ours.pull_event(3), 3),
        "comment": run("comment.yml", ours.run_event(3, "success"), 4),
        "ci": run("ci.yml", {}, 5, environment=ONLY_PRINTED),
        "gpu": run("gpu.yml", {}, 6, environment=ONLY_PRINTED, variables={"GPU_RUNNER": "gpu"}, inputs={"runner": ""}),
        "no gpu": run("gpu.yml", {}, 7, inputs={"runner": ""}),
        "asv": run("asv.yml", {}, 8, **fixed),
        "asv, the next night": run("asv.yml", {}, 9, **fixed),
    }
    gate = done.pop("perf")["gate"]  # whether it passes depends on how busy this machine is
    if not gate.summary.startswith("### "):
        yield f"perf: nothing was measured:\n{gate.output}"
    for name, jobs in done.items():
        yield from (f"{name}: {job} fails:\n{ran.output}" for job, ran in jobs.items() if ran.failed)
    if list(done["no gpu"]) != ["where"] or "no runner with a GPU" not in done["no gpu"]["where"].summary:
        yield "gpu: without a runner, the summary does not say why nothing ran"
    if "cuda" not in done["gpu"] or set(done["asv"]) != {"measure", "keep", "site"}:
        yield "gpu or asv: jobs are missing although their runners are configured"
    if (
        git(origin, "ls-tree", "--name-only", "asv-results") != "box.json"
        or not (place.folder / "artifacts" / "9" / "asv-results" / "box.json").exists()
    ):
        yield "asv: results are not kept on their branch, or not taken from it the next night"


def main() -> int:
    """Run all, say what is wrong, and where to look."""
    shutil.rmtree(SHOWN, ignore_errors=True)
    SHOWN.mkdir(parents=True)
    # Outside of this repository, whose settings of pytest are not the user's.
    with tempfile.TemporaryDirectory() as name, served(GitHub()) as github:
        folder = Path(name).resolve()
        place = Place.make(folder, github)
        problems = [*user(place, make_user_repository(folder / "user")), *own(place)]
        shutil.copytree(folder / "artifacts", SHOWN / "artifacts")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"summary, annotations, comment and artifacts: {SHOWN}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
