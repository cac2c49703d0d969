"""The connection to an object store: requests with retries, and credentials from the environment alone."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.objects.failures import DISK, ChangedError, MissingError, changed, failed
from pytest_loaderperf.data.objects.place import ObjectPath, Version
from pytest_loaderperf.errors import DataError

CONNECTIONS = 16  # requests at the same time: a store answers each after tens of milliseconds, whatever its size
RETRIES = 5  # after the first attempt
FIRST_WAIT_S, MOST_WAIT_S = 0.1, 10.0  # before a retry; in between it is drawn at random, and grows
CONNECT_S, REQUEST_S, RETRYING_S = 5.0, 30.0, 180.0  # at most: to connect, for one attempt, for all attempts
# Credentials of each store in the environment; without any of them requests are not signed.
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID AWS_WEB_IDENTITY_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_RELATIVE_URI "
    "AWS_CONTAINER_CREDENTIALS_FULL_URI".split(),
    "gs": "GOOGLE_APPLICATION_CREDENTIALS GOOGLE_SERVICE_ACCOUNT GOOGLE_SERVICE_ACCOUNT_PATH "
    "GOOGLE_SERVICE_ACCOUNT_KEY".split(),
}
# The endpoint of each store in the environment, the first that is set, and the option for it.
_ENDPOINTS = {"s3": ("endpoint", "AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL"), "gs": ("base_url", "GOOGLE_BASE_URL")}
_first: dict[str, int] = {}  # the process that made the first request
_NO_HEAD = re.compile(r"status code: (403|405|501)|Content-Length header missing", re.IGNORECASE)
_BODY = re.compile(r"body error|kind: (Interrupted|Timeout)")


def settings_of(path: ObjectPath) -> dict[str, str]:
    """The options of the library ``object_store`` that the environment does not give by itself.

    Without credentials in the environment requests are not signed: the library would otherwise ask the machine for its
    own. An endpoint without TLS must be one that the user named.
    """
    option, names = _ENDPOINTS[path.scheme]
    endpoint = next((os.environ[name] for name in names.split() if os.environ.get(name)), "")
    found = {option: endpoint} if endpoint else {}
    if endpoint.startswith("http://"):
        found["allow_http"] = "true"
    if not any(os.environ.get(key) for key in _KEYS[path.scheme]):
        found["skip_signature"] = "true"
    return found


class ObjectStore:
    """One bucket, or one object of a web server.

    It opens no connection by itself, and is remade where it is unpickled.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self.executor = PersistentExecutor(CONNECTIONS)
        self._remote = remote(path)

    def version(self, path: ObjectPath) -> Version | None:
        """The version of the object at ``path`` now; None if there is none. Raises DataError."""
        check_process(self.path)
        try:
            with _explaining(path):
                meta = self._meta(path)
        except MissingError:
            return None
        except ChangedError:
            raise DataError(f"{path} is empty (0 bytes). Write it again, or give an undamaged file.") from None
        if not meta["e_tag"] and meta["last_modified"].timestamp() <= 0:  # which stands for no date
            raise DataError(
                f"{path} cannot be read: its server gives neither an ETag nor a date, so a change would go unnoticed. "
                f"{DISK}."
            )
        return _version(meta)

    def listed(self, path: ObjectPath) -> dict[str, Version]:
        """The objects below ``path`` by their names there, sorted by the parts of these. Raises DataError."""
        check_process(self.path)
        if path.scheme.startswith("http"):
            raise DataError(f"{path} cannot be listed: web servers list no objects. Name one object.")
        prefix = f"{path.key}/" if path.key else ""
        with _explaining(path):
            metas = [meta for page in self._library.list(self._remote, prefix or None) for meta in page]
        named = {meta["path"].removeprefix(prefix): _version(meta) for meta in metas}
        return {name: named[name] for name in sorted(named, key=lambda name: name.split("/"))}

    def read(self, path: ObjectPath, version: Version, start: int, end: int) -> Any:
        """The bytes from ``start`` to below ``end``, as a buffer. Raises DataError, also if the version is another."""
        check_process(self.path)
        attempts = 1 if version.strong_etag else RETRIES + 1  # with an ETag the library itself resumes a cut answer
        for attempt in range(attempts):
            try:
                found = self._get(path, start, end, version.strong_etag)
                content = found.bytes()
            except Exception as error:  # noqa: BLE001 its library has many kinds
                if attempt + 1 < attempts and _BODY.search(str(error)):
                    time.sleep(min(MOST_WAIT_S, random.uniform(FIRST_WAIT_S, FIRST_WAIT_S * 3**attempt)))  # noqa: S311
                    continue
                raise failed(path, error, RETRIES + 1) from None  # the library's text may show secrets
            if _version(found.meta) != version:
                raise changed(path)
            if len(content) != end - start:
                raise DataError(
                    f"{path} cannot be read in parts: expected {end - start:,} bytes of it, got {len(content):,}. Does "
                    f"its server compress what it sends? {DISK}."
                )
            return content
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the threads. May be called twice."""
        self.executor.close(wait=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    @property
    def _library(self) -> Any:
        return _obstore()

    def _meta(self, path: ObjectPath) -> Mapping[str, Any]:
        """What HEAD says of the object; GET for a signed URL, which is signed for that alone, or if HEAD is refused."""
        if not path.query:
            try:
                meta: Mapping[str, Any] = self._library.head(self._remote, self._key(path))
            except Exception as error:
                if not path.scheme.startswith("http") or not _NO_HEAD.search(str(error)):
                    raise
            else:
                return meta
        found: Mapping[str, Any] = self._get(path, 0, 1).meta
        return found

    def _get(self, path: ObjectPath, start: int, end: int, etag: str | None = None) -> Any:
        options = {"range": (start, end)} | ({"if_match": etag} if etag else {})
        return self._library.get(self._remote, self._key(path), options=options)

    def _key(self, path: ObjectPath) -> str:
        return "" if path.scheme.startswith("http") else path.key


def check_process(path: ObjectPath) -> None:
    """Raise DataError in a process that was forked after the first request: there the libraries would wait forever.

    Their threads and sockets are those of the process that made the first request.
    """
    if _first.setdefault("process", os.getpid()) != os.getpid():
        raise DataError(
            f"{path}: object stores cannot be read in a process that was forked from one which has read them: their "
            'connections do not outlive that. Start workers with "spawn" or "forkserver", or give the loader '
            "optimize(...) of the table."
        )


def _version(meta: Mapping[str, Any]) -> Version:
    by_etag = Version(int(meta["size"]), meta["e_tag"], "")
    # The date of a list may be more exact than that of an answer, so it counts only where it is needed.
    return by_etag if by_etag.strong_etag else by_etag._replace(modified=meta["last_modified"].isoformat())


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise DataError(
            f"object stores need obstore, which cannot be imported ({error}). Install it: "
            "pip install 'pytest-loaderperf[objects]'"
        ) from error
    return obstore


def remote(path: ObjectPath, stores: Any = None) -> Any:
    """The store of ``path``, by the classes of the module ``stores``: obstore's, or their copy in another library."""
    stores = stores or _obstore().store
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(seconds=REQUEST_S),
    }
    retry: Any = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=RETRYING_S),
        "backoff": {
            "init_backoff": timedelta(seconds=FIRST_WAIT_S),
            "max_backoff": timedelta(seconds=MOST_WAIT_S),
            "base": 3,
        },
    }
    with _explaining(path):
        if path.scheme.startswith("http"):
            client["allow_http"] = path.scheme == "http"
            return stores.HTTPStore.from_url(path.url, client_options=client, retry_config=retry)
        settings: Any = settings_of(path)
        client["allow_http"] = settings.pop("allow_http", "") == "true"
        kind: Any = stores.S3Store if path.scheme == "s3" else stores.GCSStore
        return kind(path.store, config=settings, client_options=client, retry_config=retry)


@contextmanager
def _explaining(path: ObjectPath) -> Iterator[None]:
    """Turn the library's errors into DataError, without their cause: its text may show secrets."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 its library has many kinds
        raise failed(path, error, RETRIES + 1) from None
