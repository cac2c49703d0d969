# ruff: noqa: T201 a command prints
"""``loaderperf github``: what the action and workflows of GitHub need besides pytest."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_loaderperf.arguments import file_path
from pytest_loaderperf.errors import LoaderPerfError, ResultError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

NO_BASE = "none"  # as a base: compare with no commit
_NO_COMMIT = "0" * 40  # what GitHub calls the commit before a branch's first push
_MOST_BYTES = 64 << 20  # of a result file: more is no result of ours
_MOST_DIGITS = 10  # of a pull request's number


class _PullRequest(NamedTuple):
    """Which pull request a run was for, its head, and the page of that run."""

    number: int
    commit: str
    repository: str
    run_url: str | None


def add_github_commands(commands: Commands) -> None:
    """Add the command ``github`` with its own commands."""
    github = commands.add_parser("github", help="for GitHub Actions: the base, the verdict, the comment")
    parts = github.add_subparsers(required=True, metavar="COMMAND")
    base = parts.add_parser("base", help="print the commit to compare with, fetched if needed")
    base.add_argument(
        "ref",
        metavar="REF",
        nargs="?",
        default="",
        help="branch, tag or commit whose common commit with HEAD is the base (default: what the event says; "
        f"{NO_BASE}: no base)",
    )
    base.set_defaults(run=_base)
    verdict = parts.add_parser("verdict", help="print pass, fail, inconclusive or error")
    verdict.add_argument("results", metavar="RESULT.json", nargs="+", type=file_path)
    verdict.set_defaults(run=_verdict)
    comment = parts.add_parser(
        "comment", help="write a result as a comment on its pull request, and keep it up to date"
    )
    comment.add_argument("results", metavar="RESULT.json", nargs="+", type=file_path)
    comment.add_argument(
        "--pull-request-file",
        metavar="FILE",
        type=file_path,
        help="has the number of the pull request, in a workflow_run job",
    )
    comment.add_argument(
        "--name", default="loaderperf", help="which of several comments to keep up to date (default %(default)s)"
    )
    comment.add_argument("--author", help="who comments, if not the bot of GITHUB_TOKEN")
    comment.add_argument("--print", action="store_true", help="print the comment instead of sending it")
    comment.set_defaults(run=_comment)


def _base(options: argparse.Namespace) -> int:
    from pytest_loaderperf.remote.merge_base import merge_base

    ref = options.ref or _base_of_event()
    if ref is None or ref == NO_BASE:
        print("no base: claims about run.base are skipped", file=sys.stderr)
    else:
        print(merge_base(ref, Path.cwd()))
    return 0


def _base_of_event() -> str | None:
    """What the event compares with: the branch of a pull request, or what was there before a push."""
    if branch := os.environ.get("GITHUB_BASE_REF"):
        return f"origin/{branch}"
    event = _event() if os.environ.get("GITHUB_EVENT_PATH") else {}
    group = event.get("merge_group")
    before = event.get("before") or (group.get("base_sha") if isinstance(group, dict) else None)
    return None if before in (None, _NO_COMMIT) else str(before)


def _verdict(options: argparse.Namespace) -> int:
    from pytest_loaderperf.report import read_json
    from pytest_loaderperf.report.markdown import verdict_of

    try:
        print(verdict_of([read_json(file) for file in options.results]))
    except ResultError as error:
        print("error")
        print(f"loaderperf: {error}", file=sys.stderr)
    return 0


def _comment(options: argparse.Namespace) -> int:
    from pytest_loaderperf.report import read_json
    from pytest_loaderperf.report.github import comment_body, marker
    from pytest_loaderperf.report.pull_request import BOT, Comments

    token = os.environ.get("GITHUB_TOKEN", "")
    if not token and not options.print:
        raise LoaderPerfError(
            "GITHUB_TOKEN is not set. Expected a token that may comment: give the step `env: GITHUB_TOKEN: "
            "${{ github.token }}` and the job `permissions: pull-requests: write`."
        )
    pull_request = _pull_request(options.pull_request_file)
    for file in options.results:
        if file.exists() and file.stat().st_size > _MOST_BYTES:
            raise ResultError(f"{file}: expected a result of at most {_MOST_BYTES >> 20} MiB, got a larger file.")
    documents = [read_json(file) for file in options.results]
    body = comment_body(documents, name=options.name, head=pull_request.commit, run_url=pull_request.run_url)
    if options.print:
        print(body, end="")
        return 0
    api_url = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    comments = Comments(api_url, _needed("GITHUB_REPOSITORY"), token, options.author or BOT)
    number, now = pull_request.number, comments.head(pull_request.number)
    if now.repository != pull_request.repository:
        raise LoaderPerfError(
            f"pull request {number} comes from {now.repository!r}, but the result from {pull_request.repository!r}. "
            "Expected the result of its own run: nothing is written."
        )
    if now.commit != pull_request.commit:
        print(f"no comment: the result is for {pull_request.commit[:12]}, the pull request is at {now.commit[:12]} now")
        return 0
    print(f"comment written: {printable(comments.put(number, marker(options.name), body))}")
    return 0


def _pull_request(file: Path | None) -> _PullRequest:
    """What the event says, which a fork cannot change; in a workflow_run job the number is in ``file``."""
    event = _event()
    try:
        if "pull_request" in event:
            head, number, run_url = event["pull_request"]["head"], int(event["pull_request"]["number"]), _own_run()
            return _PullRequest(number, str(head["sha"]), _repository(head["repo"], number), run_url)
        run = event["workflow_run"]
        if file is None:
            raise LoaderPerfError("in a workflow_run job, name the file with the number: --pull-request-file FILE")
        number = _number_in(file)
        return _PullRequest(number, str(run["head_sha"]), _repository(run["head_repository"], number), run["html_url"])
    except (KeyError, TypeError, ValueError) as error:
        lacks = (
            f"without {printable(error)}" if isinstance(error, KeyError) else f"with other content: {printable(error)}"
        )
        raise LoaderPerfError(
            f"GITHUB_EVENT_PATH: expected the event of a pull_request or workflow_run, got one {lacks}. "
            "Run this in such a workflow."
        ) from None


def _repository(head: dict[str, Any] | None, number: int) -> str:
    """The repository that the pull request's commits are in. Raises LoaderPerfError for a fork that is gone."""
    if head is None:
        raise LoaderPerfError(
            f"pull request {number}: expected the repository that it comes from, got none: that fork was deleted. "
            "Nothing is written."
        )
    return str(head["full_name"])


def _number_in(file: Path) -> int:
    """The number in a file that a fork's code may have written, so nothing but its size is shown."""
    try:
        text = file.read_bytes()[: _MOST_DIGITS + 2].decode("ascii", "replace").strip()
    except OSError as error:
        raise LoaderPerfError(f"cannot read {file}: {error.strerror}") from None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text)):
        raise LoaderPerfError(f"{file}: expected the number of a pull request, got {file.stat().st_size} other bytes.")
    return int(text)


def _own_run() -> str | None:
    parts = [os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else None


def _event() -> dict[str, Any]:
    file = _needed("GITHUB_EVENT_PATH")
    try:
        event = json.loads(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise LoaderPerfError(f"GITHUB_EVENT_PATH: cannot read {file}: {error}") from None
    return event if isinstance(event, dict) else {}


def _needed(name: str) -> str:
    if not (value := os.environ.get(name)):
        raise LoaderPerfError(f"{name} is not set. Expected it as GitHub Actions sets it: run this in a workflow.")
    return value
