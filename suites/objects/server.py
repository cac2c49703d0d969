"""An object store of one folder in a process of its own: HEAD and GET of ranges as S3 answers them, after a latency."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "bucket"
_SENT_NBYTES = 256 << 10  # at a time


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, latency_s: float, connection_mb: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.latency_s = folder, latency_s
        self.seconds_per_byte = 1e-6 / connection_mb if connection_mb else 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        time.sleep(self.server.latency_s)
        path = self.server.folder / self.path.partition("?")[0].removeprefix(f"/{BUCKET}/").replace("%2E", ".")
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        wanted = self.headers.get("Range")
        start, end = 0, size
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1, size)
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Content-Length", str(end - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.flush()
        if self.command == "GET":
            with path.open("rb") as file:
                while start < end:
                    count = os.sendfile(self.connection.fileno(), file.fileno(), start, min(_SENT_NBYTES, end - start))
                    start += count
                    time.sleep(count * self.server.seconds_per_byte)

    def __getattr__(self, name: str) -> Any:
        if name == "do_HEAD":
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, latency_s: float, connection_mb: float) -> Iterator[str]:
    """The URL of a store with the files of ``folder``. ``connection_mb``: MB/s of one connection; 0: no limit."""
    command = [sys.executable, "-m", __name__, str(folder), str(latency_s), str(connection_mb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603 its own
        assert child.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.terminate()


if __name__ == "__main__":
    server = _Server(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
