"""A comment on a pull request of GitHub, kept up to date. Only the standard library is needed."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, NamedTuple

from pytest_loaderperf.errors import LoaderPerfError, printable

BOT = "github-actions[bot]"  # who comments with the token of a workflow
_TRIES = 5
_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 60.0
_TIMEOUT_S = 30.0
_PER_PAGE, _MOST_PAGES = 100, 100
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Is GITHUB_TOKEN set to a valid token?",
    HTTPStatus.FORBIDDEN: "Give the job `permissions: pull-requests: write`. A fork's run has no such token: "
    "comment in a workflow_run job.",
    HTTPStatus.NOT_FOUND: "Does the token reach this repository, and does the pull request exist?",
}


class PullRequestError(LoaderPerfError):
    """GitHub refuses a comment, or does not answer."""


class _BusyError(PullRequestError):
    """It may work later; ``wait_s``: after so many seconds, if GitHub says so."""

    def __init__(self, message: str, wait_s: float | None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Head(NamedTuple):
    """The commit and the repository, ``owner/name``, that a pull request comes from."""

    commit: str
    repository: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the token to another address."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


@dataclass(frozen=True)
class Comments:
    """The comments of pull requests in ``repository``, written as ``author``."""

    api_url: str
    repository: str
    token: str
    author: str = BOT
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if _REPOSITORY.fullmatch(self.repository) is None:
            raise PullRequestError(f"GITHUB_REPOSITORY: expected owner/name, got {self.repository!r}")
        if not self.api_url.startswith(("https://", "http://")):
            raise PullRequestError(f"GITHUB_API_URL: expected an address with https, got {self.api_url!r}")

    def head(self, number: int) -> Head:
        """What the pull request comes from now."""
        found = self._patiently(lambda: self._ask("GET", f"pulls/{number}"))
        try:
            head = found["head"]
            return Head(str(head["sha"]), str((head["repo"] or {}).get("full_name", "")))
        except (KeyError, TypeError, AttributeError):
            raise PullRequestError(f"expected a pull request, got other JSON for number {number}") from None

    def put(self, number: int, marker: str, body: str) -> str:
        """Write ``body``, which starts with ``marker``, over an earlier comment or as a new one; return its address."""

        def once() -> Any:
            earlier = next((one for one in self._all(number) if self._is_ours(one, marker)), None)
            if earlier is None:
                return self._ask("POST", f"issues/{number}/comments", {"body": body})
            return self._ask("PATCH", f"issues/comments/{int(earlier['id'])}", {"body": body})

        # Looking anew before each try: a comment may exist although its answer was lost.
        written = self._patiently(once)
        return str(written.get("html_url", "")) if isinstance(written, dict) else ""

    def _is_ours(self, comment: Any, marker: str) -> bool:
        """Whether we wrote it: anybody can copy a marker."""
        return str(comment["body"] or "").startswith(marker) and (comment["user"] or {}).get("login") == self.author

    def _all(self, number: int) -> Iterator[Any]:
        for page in range(1, _MOST_PAGES + 1):
            found = self._ask("GET", f"issues/{number}/comments?per_page={_PER_PAGE}&page={page}")
            if not isinstance(found, list):
                raise PullRequestError(f"expected a list of comments, got {type(found).__name__}")
            yield from found
            if len(found) < _PER_PAGE:
                return

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask again, a few times, while GitHub is busy."""
        for retry in range(_TRIES):
            try:
                return ask()
            except _BusyError as error:
                if retry == _TRIES - 1:
                    raise PullRequestError(f"{error} Tried {_TRIES} times.") from None
                wait_s = _FIRST_WAIT_S * 2**retry if error.wait_s is None else error.wait_s
                self.sleep(min(wait_s, _MOST_WAIT_S))
        raise AssertionError

    def _ask(self, method: str, path: str, content: object = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(  # noqa: S310 __post_init__ checks the scheme
            f"{self.api_url.rstrip('/')}/repos/{self.repository}/{path}", data, method=method
        )
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("X-GitHub-Api-Version", "2022-11-28")
        request.add_header("User-Agent", "pytest-loaderperf")
        request.add_header("Content-Type", "application/json")
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        what = f"GitHub: {method} {path.partition('?')[0]}"
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise self._refused(what, error) from None
        except (OSError, HTTPException) as error:
            raise _BusyError(f"{what} got no answer: {printable(getattr(error, 'reason', error))}.", None) from None
        except ValueError:
            raise PullRequestError(f"{what}: expected JSON, got something else. Is GITHUB_API_URL right?") from None

    def _refused(self, what: str, error: urllib.error.HTTPError) -> PullRequestError:
        try:
            said = json.load(error).get("message", "")
        except (OSError, ValueError, AttributeError):
            said = ""
        text = f"{what} got {error.code}: {printable(said or error.reason)}."
        after = error.headers.get("Retry-After", "")
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code == HTTPStatus.TOO_MANY_REQUESTS or after:
            return _BusyError(text, float(after) if after.isdecimal() else None)
        if HTTPStatus.MULTIPLE_CHOICES <= error.code < HTTPStatus.BAD_REQUEST:
            text += " Was the repository renamed?"
        return PullRequestError(f"{text} {_ADVICE.get(error.code, '')}".rstrip())
