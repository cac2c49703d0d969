"""A local S3 server for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.data.objects.local import local_s3


@pytest.fixture(scope="package")
def _server():
    with local_s3() as server:
        yield server


@pytest.fixture
def faults(_server):
    """The proxy, without a fault at first and afterwards."""
    faults = _server[0]
    yield faults
    faults.plan, faults.latency_s = lambda _: None, 0.0


@pytest.fixture
def bucket(_server):
    return _server[1]
