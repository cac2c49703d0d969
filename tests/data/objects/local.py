"""A local S3 server behind a proxy that can fail."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pytest_loaderperf.data.objects import store
from tests.data.objects.faulty import faulty

BUCKET = "bucket"
SECRET = "not-to-be-shown"  # noqa: S105 of a server of these tests


class Bucket:
    """A bucket: ``url`` of its names, and what is put there."""

    url = f"s3://{BUCKET}"

    def __init__(self, endpoint):
        self._client = boto3.client("s3", endpoint_url=endpoint)
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, name, content):
        self._client.put_object(Bucket=BUCKET, Key=name, Body=content, ACL="public-read")
        return f"{self.url}/{name}"

    def upload(self, path: Path, name=None):
        """The file or folder at ``path``."""
        name = name or path.name
        for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
            self.put(name if file == path else f"{name}/{file.relative_to(path).as_posix()}", file.read_bytes())
        return f"{self.url}/{name}"


@contextmanager
def local_s3():
    """A server of S3's protocol, the proxy before it that the environment names, and a bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch, faulty(host, port) as faults:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", faults.url)
        patch.setattr(store, "FIRST_WAIT_S", 0.01)
        patch.setattr(store, "MOST_WAIT_S", 0.05)
        patch.setattr(store, "REQUEST_S", 1.0)
        patch.setattr(store, "CONNECT_S", 1.0)
        yield faults, Bucket(f"http://{host}:{port}")
    server.stop()
