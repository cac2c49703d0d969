"""A small GitHub on this machine: pull requests, and comments on them, behind the addresses of its REST API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

READ, WRITE = "token-that-reads", "token-that-writes"
BOT = "github-actions[bot]"
_PULL = re.compile(r"/repos/([^/]+/[^/]+)/pulls/(\d+)")
_COMMENTS = re.compile(r"/repos/([^/]+/[^/]+)/issues/(\d+)/comments(?:\?per_page=(\d+)&page=(\d+))?")
_COMMENT = re.compile(r"/repos/([^/]+/[^/]+)/issues/comments/(\d+)")


@dataclass
class GitHub:
    """What it knows. ``failures`` are answered first: status, headers and text, one a request."""

    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lost: int = 0  # answers that never arrive, although what was asked is done
    url: str = ""

    def open_pull(self, number: int, commit: str, repository: str) -> None:
        self.pulls[number] = {"number": number, "head": {"sha": commit, "repo": {"full_name": repository}}}

    def say(self, number: int, body: str, login: str = BOT) -> dict[str, Any]:
        comment = {"id": len(self.comments) + 1, "number": number, "body": body, "user": {"login": login}}
        comment["html_url"] = f"{self.url}/comments/{comment['id']}"
        self.comments.append(comment)
        return comment

    def answer(self, method: str, path: str, token: str, content: Any) -> tuple[int, Any]:
        """Status and JSON for a request."""
        if token not in (READ, WRITE):
            return 401, {"message": "Bad credentials"}
        if method != "GET" and token != WRITE:
            return 403, {"message": "Resource not accessible by integration"}
        return self._found(method, path, content)

    def _found(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        if found := _PULL.fullmatch(path):
            pull = self.pulls.get(int(found[2]))
            return (200, pull) if pull else (404, {"message": "Not Found"})
        if found := _COMMENTS.fullmatch(path):
            if method == "POST":
                return 201, self.say(int(found[2]), content["body"])
            size, page = int(found[3]), int(found[4])
            of_pull = [comment for comment in self.comments if comment["number"] == int(found[2])]
            return 200, of_pull[(page - 1) * size : page * size]
        if (found := _COMMENT.fullmatch(path)) and method == "PATCH":
            comment = self.comments[int(found[2]) - 1]
            comment["body"] = content["body"]
            return 200, comment
        return 404, {"message": f"Not Found: {method} {path}"}


@contextmanager
def served(github: GitHub) -> Iterator[GitHub]:
    """``github``, with its ``url`` on this machine, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            content = json.loads(self.rfile.read(size)) if size else None
            github.requests.append(f"{self.command} {self.path}")
            if github.failures:
                status, headers, text = github.failures.pop(0)
            else:
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                status, answer = github.answer(self.command, self.path, token, content)
                headers, text = {}, json.dumps(answer)
                if self.command == "POST" and github.lost:
                    github.lost -= 1
                    self.close_connection = True
                    return
            data = text.encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _handle  # noqa: N815 http.server's names

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        github.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield github
        finally:
            server.shutdown()
            thread.join()
