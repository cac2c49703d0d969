"""The names of objects in stores, which are shown without the secrets in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pytest_loaderperf.errors import DataError

SCHEMES = ("s3", "gs", "https", "http")
_SIGNED = ("x-amz-", "x-goog-")  # parameters of signed URLs, which differ each time one is signed


def is_url(path: object) -> bool:
    """Whether ``path`` is a text such as ``s3://bucket/key``."""
    return isinstance(path, str) and "://" in path


def on_disk(path: str | os.PathLike[str]) -> Path:
    """``path``. Raises DataError for a URL."""
    if is_url(path):
        scheme = str(path).partition("://")[0]
        raise DataError(
            f"expected a path on a disk, got a URL, {scheme}://... From object stores tables are only read, by "
            "open_table. Copy the object to a disk first, or write a file and upload it."
        )
    return Path(path)


@dataclass(frozen=True, slots=True, repr=False)
class ObjectPath:
    """An object, or all objects below a prefix, by its URL. What tables use of a Path is here by the same names.

    ``store``: the bucket, or the host and port; ``key``: the rest, without a slash at the end; ``query``: of https.
    Its text, also in errors, is the URL without the query, which may hold a signature.
    """

    scheme: str
    store: str
    key: str
    query: str = ""

    @classmethod
    def of(cls, url: str) -> ObjectPath:
        """Raises DataError for other schemes, and for a URL with a user or a password."""
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            known = ", ".join(f"{one}://" for one in SCHEMES)
            raise DataError(
                f"expected a URL that begins with one of {known}, got {scheme}://. Copy it to a disk first."
            )
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise DataError(
                f"expected a {scheme}:// URL without a user or a password, got one with them. Take them out: "
                "credentials are read from the environment."
            )
        if scheme in ("s3", "gs"):  # whose keys may hold any sign, also ? and #
            store, _, key = rest.partition("/")
            query = ""
        else:
            store, key, query = parts.netloc, parts.path.lstrip("/"), parts.query
        if not store:
            raise DataError(f"expected {scheme}://STORE/NAME, got {scheme}://{rest[:80]}. Name the bucket or the host.")
        return cls(scheme, store, key.rstrip("/"), query)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.store}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def url(self) -> str:
        """All of the URL, with its query: not to be shown."""
        return f"{self}?{self.query}" if self.query else str(self)

    @property
    def identity(self) -> str:
        """The URL without the parameters of a signature, which change from day to day: not to be shown."""
        kept = [one for one in parse_qsl(self.query, keep_blank_values=True) if not one[0].lower().startswith(_SIGNED)]
        return f"{self}?{urlencode(kept)}" if kept else str(self)

    @property
    def name(self) -> str:
        name = PurePosixPath(self.key).name
        return unquote(name) if self.scheme.startswith("http") else name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.scheme, self.store, self.key.rpartition("/")[0])

    def __truediv__(self, key: str) -> ObjectPath:
        return ObjectPath(self.scheme, self.store, f"{self.key}/{key}".lstrip("/"), self.query)


class Version(NamedTuple):
    """What distinguishes an object's content: a read of another one is an error.

    ``modified``: only where there is no strong ETag, else empty.
    """

    nbytes: int
    etag: str | None
    modified: str

    @property
    def strong_etag(self) -> str | None:
        """The ETag if it stands for the same bytes: no server gives ranges by a weak one."""
        return None if self.etag is None or self.etag.startswith("W/") else self.etag
