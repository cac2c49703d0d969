"""A proxy before an object store that delays, refuses, cuts and slows down its answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    path: str
    range: str | None


class Fault(NamedTuple):
    """What happens to one request.

    ``status``: answered instead of the store; ``cut``: bytes of the body before the connection ends; ``pause_s``: after
    the first byte of the body; ``latency_s``: before the answer.
    """

    status: int | None = None
    cut: int | None = None
    pause_s: float = 0.0
    latency_s: float = 0.0


@dataclass
class Faults:
    """``plan``: the fault of a request, or None; ``requests``: those that came, in order."""

    url: str
    latency_s: float = 0.0
    plan: Callable[[Request], Fault | None] = lambda _: None
    requests: list[Request] = field(default_factory=list)

    @contextmanager
    def counted(self) -> Iterator[list[Request]]:
        """The requests that come while the block runs."""
        before, found = len(self.requests), list[Request]()
        yield found
        found += self.requests[before:]


def times(count: int, fault: Fault, method: str = "GET") -> Callable[[Request], Fault | None]:
    """A plan: the first ``count`` requests of ``method`` get ``fault``."""
    lock, left = threading.Lock(), [count]

    def plan(request: Request) -> Fault | None:
        if request.method != method:
            return None
        with lock:
            left[0] -= 1
            return fault if left[0] >= 0 else None

    return plan


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the store for it."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.upstream = http.client.HTTPConnection(*self.server.store, timeout=30)

    def finish(self):
        self.upstream.close()
        super().finish()

    def do_GET(self):
        faults, stop = self.server.faults, self.server.stop
        request = Request(self.command, self.path, self.headers.get("Range"))
        faults.requests.append(request)
        fault = faults.plan(request) or Fault()
        stop.wait(faults.latency_s + fault.latency_s)
        if fault.status is not None:
            self.send_response(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self._relayed()
        if fault.cut is not None:
            content, self.close_connection = content[: fault.cut], True
        if fault.pause_s:
            self.wfile.write(content[:1])
            stop.wait(fault.pause_s)
            content = content[1:]
        self.wfile.write(content)

    def __getattr__(self, name):
        """All methods are relayed alike."""
        if name in ("do_HEAD", "do_PUT", "do_POST", "do_DELETE"):
            return self.do_GET
        raise AttributeError(name)

    def _relayed(self):
        """Send the head of the store's answer; its body."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        self.upstream.request(self.command, self.path, body, dict(self.headers))
        answer = self.upstream.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        nbytes = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(nbytes or 0))
        self.end_headers()
        return content

    def log_message(self, *args):
        """Tests read ``requests``."""


@contextmanager
def faulty(host: str, port: int) -> Iterator[Faults]:
    """A proxy before the server at ``host`` and ``port``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.store, server.stop = (host, port), threading.Event()
    server.faults = faults = Faults(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield faults
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
