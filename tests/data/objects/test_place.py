"""The names of objects, as they are shown and as they are told apart."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pytest_loaderperf.data.objects.place import ObjectPath, is_url, on_disk


@pytest.mark.parametrize(
    "url, store, key, name",
    [
        ("s3://bucket/a b/x.parquet", "bucket", "a b/x.parquet", "x.parquet"),
        ("s3://bucket/what?#100%.csv", "bucket", "what?#100%.csv", "what?#100%.csv"),
        ("gs://bucket/folder/", "bucket", "folder", "folder"),
        ("S3://bucket", "bucket", "", ""),
        ("https://host:8080/a/x%20y.npy?sig=1", "host:8080", "a/x%20y.npy", "x y.npy"),
    ],
)
def test_a_url_is_taken_apart(url, store, key, name):
    path = ObjectPath.of(url)
    assert (path.store, path.key, path.name) == (store, key, name)
    assert pickle.loads(pickle.dumps(path)) == path  # noqa: S301 our own


def test_a_query_is_kept_and_not_shown():
    path = ObjectPath.of("https://host/x.csv?v=2&X-Amz-Signature=secret")
    assert path.url == "https://host/x.csv?v=2&X-Amz-Signature=secret"
    assert f"{path} {path!r}" == "https://host/x.csv ObjectPath('https://host/x.csv')"
    assert path.identity == "https://host/x.csv?v=2"


def test_paths_are_no_urls():
    assert not is_url("folder/x.csv")
    assert not is_url(Path("s3:/bucket/x.csv"))
    assert on_disk("folder/x.csv") == Path("folder/x.csv")


def test_objects_have_parents_and_children():
    path = ObjectPath.of("s3://bucket/a/b.parquet")
    assert (str(path.parent), str(path.parent / "c.csv"), path.stem) == ("s3://bucket/a", "s3://bucket/a/c.csv", "b")
