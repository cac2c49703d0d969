"""Stand-ins for the actions of others that our workflows use."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from suites.actions.runner import Job, Used
from suites.calibration.repository import git


def stand_ins(origin: Path, artifacts: Path) -> dict[str, Used]:
    """By name: what is checked out comes from ``origin``, and what is uploaded goes to ``artifacts``."""

    def checkout(job: Job, given: dict[str, str]) -> Mapping[str, str]:
        number = job.github["event"].get("pull_request", {}).get("number")
        wanted = f"refs/pull/{number}/merge" if number else "HEAD"
        git(job.workspace, "init", "--quiet")
        git(job.workspace, "remote", "add", "origin", origin.as_uri())
        whole = given.get("fetch-depth") == "0"
        if whole:
            git(job.workspace, "fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*")
        git(job.workspace, "fetch", "--quiet", *([] if whole else ["--depth=1"]), "origin", wanted)
        git(job.workspace, "checkout", "--quiet", git(job.workspace, "rev-parse", "FETCH_HEAD"))
        return {}

    def setup_python(_job: Job, _given: dict[str, str]) -> Mapping[str, str]:
        return {}

    def upload(job: Job, given: dict[str, str]) -> Mapping[str, str]:
        source = job.workspace / given["path"]
        target = artifacts / str(job.github["run_id"]) / given.get("name", "github-pages")
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return {}

    def download(job: Job, given: dict[str, str]) -> Mapping[str, str]:
        source = artifacts / given.get("run-id", str(job.github["run_id"])) / given["name"]
        if not source.is_dir():
            job.failed = True
            job.output += f"there is no artifact {given['name']!r} of run {source.parent.name}\n"
            return {}
        shutil.copytree(source, job.workspace / given["path"], dirs_exist_ok=True)
        return {}

    def deploy(_job: Job, _given: dict[str, str]) -> Mapping[str, str]:
        return {"page_url": "https://example.org/"}

    return {
        "actions/checkout": checkout,
        "actions/setup-python": setup_python,
        "actions/upload-artifact": upload,
        "actions/upload-pages-artifact": upload,
        "actions/download-artifact": download,
        "actions/deploy-pages": deploy,
    }
