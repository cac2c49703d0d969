"""Tables of plain web servers: with range requests, with or without ETags, and signed."""

from __future__ import annotations

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data import check, optimize
from pytest_loaderperf.data.formats import format_of, open_table, write_table
from pytest_loaderperf.data.objects import store
from pytest_loaderperf.errors import DataError
from tests.data.objects.faulty import Fault, faulty, times

SIGNATURE = "X-Amz-Signature=not-to-be-shown"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        web = self.server.web
        name = self.path.partition("?")[0].lstrip("/")
        content = web.files.get(name)
        if content is None:
            self._answer(404, {}, b"")
            return
        facts = {"Last-Modified": web.modified} if web.modified else {}
        if web.etag:
            facts["ETag"] = web.etag.format(hashlib.sha256(content).hexdigest())
        wanted = self.headers.get("Range") if web.ranges else None
        if self.headers.get("If-Match") not in (None, facts.get("ETag")):
            self._answer(412, facts, b"")
        elif wanted is None:
            self._answer(200, facts, content)
        elif not content:
            self._answer(416, facts, b"")
        else:
            start, end = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            end = min(end, len(content) - 1)
            facts["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            if web.says_range is not None:
                facts["Content-Range"] = web.says_range
            self._answer(206, facts, web.encoded(content[start : end + 1]))

    def _answer(self, status, facts, content):
        self.send_response(status)
        for name, value in facts.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def __getattr__(self, name):
        if name == "do_HEAD":
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, *args):
        """It is quiet."""


class _Web:
    """The files of a web server, and how it answers."""

    def __init__(self):
        self.files, self.etag, self.ranges = {}, '"{}"', True
        self.encoded, self.says_range = bytes, None
        self.modified = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.fixture
def web(monkeypatch):
    for name in ("FIRST_WAIT_S", "MOST_WAIT_S"):
        monkeypatch.setattr(store, name, 0.02)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.block_on_close, server.web = True, False, _Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    with faulty(*server.server_address) as server.web.faults:
        yield server.web
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def rows():
    return pa.table({"x": np.arange(100_000)})


@pytest.fixture
def url(web, rows, tmp_path):
    pq.write_table(rows, tmp_path / "x.parquet", row_group_size=20_000)
    web.files["a folder/x.parquet".replace(" ", "%20")] = (tmp_path / "x.parquet").read_bytes()
    return f"{web.faults.url}/a%20folder/x.parquet"


@pytest.mark.parametrize("etag", ['"{}"', 'W/"{}"', None], ids=["etag", "weak etag", "date alone"])
def test_rows_are_read_by_ranges_also_from_cut_answers(web, url, rows, etag):
    web.etag = etag
    table = open_table(url)
    assert len(table) == len(rows)
    web.faults.plan = times(3, Fault(cut=100))
    assert table.read().equals(rows)
    table.close()


@pytest.mark.parametrize("etag", ['"{}"', 'W/"{}"', None], ids=["etag", "weak etag", "date alone"])
def test_a_change_is_an_error(web, url, etag):
    web.etag = etag
    table = open_table(url)
    assert table.schema.names == ["x"]
    name = next(iter(web.files))
    web.files[name] = web.files[name][::-1]
    web.modified = "Tue, 02 Jan 2024 00:00:00 GMT"
    with pytest.raises(DataError, match=r"x\.parquet changed after it was opened"):
        table.read()
    table.close()


def test_a_signed_url_is_read_without_head_and_never_shown(web, url, rows, tmp_path):
    table = open_table(f"{url}?{SIGNATURE}")
    assert table.read().equals(rows)
    assert {one.method for one in web.faults.requests} == {"GET"}
    web.faults.plan = times(1000, Fault(status=403))
    with pytest.raises(DataError, match=r"\(403\)\. Give a signed URL") as error:
        table.read()
    assert "not-to-be-shown" not in f"{error.value}{table.path}{table.path!r}"
    table.close()


@pytest.mark.parametrize("status", [403, 405])
def test_where_head_is_refused_the_version_is_asked_for_by_get(web, url, rows, status):
    web.faults.plan = times(1000, Fault(status=status), "HEAD")
    table = open_table(url)
    assert table.read().equals(rows)
    table.close()


def test_what_is_refused_by_get_too_is_refused(web, url):
    web.faults.plan = lambda _: Fault(status=403)
    with pytest.raises(DataError, match=r"the store refused access \(403\)"):
        open_table(url)


def test_an_empty_file_is_called_empty_also_where_only_get_may_be_used(web):
    web.files["x.parquet"] = b""
    with pytest.raises(DataError, match=r"x\.parquet is empty \(0 bytes\)"):
        open_table(f"{web.faults.url}/x.parquet?{SIGNATURE}")


def test_a_server_that_compresses_ranges_is_not_called_one_whose_file_has_changed(web, url):
    web.encoded = gzip.compress
    table = open_table(url)
    with pytest.raises(DataError, match=r"expected 65,536 bytes of it, got [\d,]+\. Does its server compress"):
        table.read()
    table.close()


@pytest.mark.parametrize("says", ["bytes 7-65542/800000", "bytes 0-65535/*", ""])
def test_other_ranges_than_requested_are_an_error_that_is_not_tried_again(web, url, says):
    web.says_range = says
    table = open_table(url)
    with pytest.raises(DataError, match=r"its server does not send the bytes that were requested, .* Correct that"):
        table.read()
    table.close()


def test_another_signature_is_the_same_cache(web, url, tmp_path):
    for signature in ("X-Amz-Signature=1", "X-Amz-Signature=2"):
        table = open_table(f"{url}?{signature}")
        assert optimize(table, cache_dir=tmp_path / "cache")[3]["x"].item() == 3
        table.close()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_vortex_file_is_read_from_a_web_server(web, rows, tmp_path):
    write_table(rows, tmp_path / "x.vortex")
    web.files["x.vortex"] = (tmp_path / "x.vortex").read_bytes()
    table = open_table(f"{web.faults.url}/x.vortex")
    assert table.take(np.array([7]))["x"].to_pylist() == [7]
    table.close()


def test_a_server_without_ranges_is_an_error(web, url):
    web.ranges = False
    table = open_table(url)
    with pytest.raises(DataError, match=r"does not answer range requests\. Copy it to a disk first"):
        table.read()
    table.close()


@pytest.mark.parametrize(
    "name, says", [("no.parquet", "is missing"), ("folder/", "is missing"), ("x.lance", "web servers list no objects")]
)
def test_what_a_web_server_does_not_have_is_an_error(web, name, says):
    with pytest.raises(DataError, match=says):
        open_table(f"{web.faults.url}/{name}")


def test_tables_are_not_written_to_a_store(rows):
    with pytest.raises(
        DataError, match=r"expected a path on a disk, got a URL, s3://\.\.\. .* write a file and upload it"
    ):
        write_table(rows, "s3://bucket/x.parquet")
    for function in (format_of, check):
        with pytest.raises(DataError, match="expected a path on a disk"):
            function("s3://bucket/x.parquet")


def test_a_server_that_gives_neither_etag_nor_date_is_an_error(web, url):
    """A change could not be noticed."""
    web.etag = web.modified = None
    with pytest.raises(DataError, match=r"x\.parquet cannot be read: its server gives neither an ETag nor a date"):
        open_table(url)
