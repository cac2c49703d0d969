"""What an object store's failure means, and what to do, without anything secret."""

from __future__ import annotations

import re

from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.errors import DataError

DISK = "Copy it to a disk first"
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) in the environment",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS in the environment",
}
# The text of the library's error, which also has the addresses of the requests: what it means.
_CAUSES = (
    (r"status code: (\d{3}[\w ]*)", "the server answered {0}"),
    (r"TimedOut|kind: Timeout|timed out", "the server did not answer in time"),
    (r"IncompleteBody|UnexpectedEof|kind: Interrupted|body error", "the connection ended before the end of the answer"),
    (r"following redirect", "the server sends it from one address to the other"),
    (r"dns error|lookup address|Name or service", "the name of the server is not known"),
    (r'message: "([^"]+)"', "{0}"),
    (r"builder error", "the address of the server is not one that may be used"),
)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_UNUSABLE = re.compile(r"invalid (last modified|etag|content.length|content.range)", re.IGNORECASE)  # not asked again
_OTHER_BYTES = re.compile(r"content.range header|requested [\d.]+, got", re.IGNORECASE)


class ChangedError(DataError):
    """An object was replaced after it was opened."""


class MissingError(DataError):
    """There is no such object."""


def changed(path: ObjectPath) -> ChangedError:
    """The error of a read that found another version."""
    return ChangedError(
        f"{path} changed after it was opened: its ETag or its size is another one now. Nothing of the new content was "
        "returned. Open it again when it no longer changes."
    )


def missing(path: ObjectPath) -> MissingError:
    """The error of a name without an object."""
    return MissingError(f"{path} is missing. Check its name; names distinguish upper and lower case.")


def failed(path: ObjectPath, error: Exception, attempts: int) -> DataError:
    """The library's ``error`` about ``path`` as a DataError. ``attempts``: those made, where it does not say."""
    text = str(error)
    kind = type(error).__name__
    if kind == "PreconditionError" or "status code: 412" in text or "status code: 416" in text:
        return changed(path)
    found = _CODE.search(text)
    code = found[1] if found else ""
    if code == "NoSuchBucket":
        return DataError(f"{path}: there is no bucket {path.store!r}. Check its name, and the region or endpoint.")
    if isinstance(error, FileNotFoundError) or "status code: 404" in text:
        return missing(path)
    status = re.search(r"status code: (40[13])", text)
    if status or kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return _refused(path, status[1] if status else "403", code)
    if never := _never(kind, text):
        return DataError(f"{path} {never}")
    retries = re.search(r"after (\d+) retries", text)
    made = int(retries[1]) + 1 if retries else attempts
    times = f"after {made} attempts" if made > 1 else "at the first attempt"
    why, way_out = f"{times}, {_cause(text)}{f' ({code})' if code else ''}", "Try it again later"
    if unusable := _UNUSABLE.search(text):
        why, way_out = f"its server sends an {unusable[0].lower()}", "Correct that"
    elif _OTHER_BYTES.search(text):
        why, way_out = (
            "its server does not send the bytes that were requested, or not say which it sends",
            "Correct that",
        )
    return DataError(f"{path} cannot be read: {why}. {way_out}, or copy it to a disk first.")


def _never(kind: str, text: str) -> str:
    """Why the object can be read neither now nor later, and what to do; empty if it may be."""
    if kind == "NotSupportedError":
        return f"cannot be read in parts: its server does not answer range requests. {DISK}."
    if "Could not parse path" in text or "object with invalid path" in text:
        return (
            "cannot be read: there are names with empty parts (a//b), with '.' or '..' as a part, or with control "
            "characters. Rename such objects, or copy them to a disk first."
        )
    return ""


def _refused(path: ObjectPath, status: str, code: str) -> DataError:
    what = f"the store refused access ({status}{f', {code}' if code else ''})"
    set_ = _CREDENTIALS.get(path.scheme)
    advice = f"Set {set_}, with the permission to read and list it" if set_ else "Give a signed URL, or another one"
    return DataError(f"{path} may not be read: {what}. {advice}.")


def _cause(text: str) -> str:
    for pattern, words in _CAUSES:
        if match := re.search(pattern, text):
            return words.format(*(part.strip() for part in match.groups()))
    first = text.strip().partition("\n")[0]
    return re.sub(r"\S+://\S+", "the store", first).rstrip(". ") or "the library gave no reason"
