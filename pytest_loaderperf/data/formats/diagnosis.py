"""What is wrong with a path that a library cannot read, as text."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from pytest_loaderperf.errors import DataError

DAMAGED = "Write it again, or give an undamaged file"
_UNLOCK = "Close it there, then open it again."
_MOST_HEAD = 1 << 10  # bytes of a file that show what it is
_PARQUET = b"PAR1"
_OTHERS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
# The first bytes of a file: what it is, and what to do.
_HEADS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "Run: git lfs pull"),
    (b"<<<<<<< ", "a text with Git's conflict markers", "Resolve the conflict, and check the file out again"),
    (b"PK\x03\x04", "a zip archive", "Unpack it first"),
    (b"\x1f\x8b", "a gzip file", "Unpack it first"),
    (b"BZh", "a bzip2 file", "Unpack it first"),
    (b"\xfd7zXZ\0", "an xz file", "Unpack it first"),
    (b"(\xb5/\xfd", "a Zstandard file", "Unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first"),
    (b"PARE", "a Parquet file whose footer is encrypted", "Write it without encryption"),
    (b"\xff\xfe", "a text in UTF-16", "Save it as UTF-8"),
    (b"\xfe\xff", "a text in UTF-16", "Save it as UTF-8"),
    (b"FEA1", "a Feather file of version 1", "Convert it to Feather version 2 with pyarrow.feather"),
    (b"\x89HDF", "an HDF5 file", "Give its arrays to write_table first"),
    (b"SQLite format 3", "an SQLite database", "Write its table with write_table first"),
    (b"\x89PNG", "a PNG image", "Name another path"),
    (b"\xff\xd8\xff", "a JPEG image", "Name another path"),
    (b"%PDF", "a PDF document", "Name another path"),
)
_INSIDE = {"npz": b"PK\x03\x04"}  # formats that are such a file inside
# Of the formats that are files: their first bytes, the position of these, and their last bytes.
_OURS = {
    "parquet": (0, b"PAR1", b"PAR1"),
    "arrow": (0, b"ARROW1", b"ARROW1"),
    "vortex": (0, b"VTXF", b"VTXF"),
    "duckdb": (8, b"DUCK", b""),
    "npy": (0, b"\x93NUMPY", b""),
}


def no_file(path: Path) -> str | None:
    """What is at ``path`` if it is not a readable file, and what to do; None for a file.

    Opening a pipe would wait forever, and devices have no end. Raises OSError.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    kind = next((name for test, name in _OTHERS if test(mode)), "a device")
    return f"is {kind}; expected a file. Put the file there, or name another path."


def check_file(path: Path) -> None:
    """Raise DataError if ``path`` is not a readable file, and OSError if it does not exist."""
    if why := no_file(path):
        raise DataError(f"{path} {why}")


def refuse_others(folder: Path) -> None:
    """Raise DataError for a pipe or device in ``folder`` or below it, which a library would wait for forever."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.exists():
                check_file(path)


def refused_file(file: BinaryIO, size: int, expected: str) -> str | None:
    """Why ``file`` of ``size`` bytes is none of the format called ``expected``, and what to do; None if it may be one.

    Told by its size, its first bytes, and the mark at its end. Raises OSError.
    """
    head = file.read(_MOST_HEAD)
    file.seek(max(0, size - 8))
    tail = file.read()
    if any(head.startswith(mark, place) for place, mark, _ in _OURS.values()):
        return _of_ours(head, tail, size, expected)
    marks = [one for one in _HEADS if one[0] != _INSIDE.get(expected)]
    other = next((f"is {what}; {{}} {advice}." for mark, what, advice in marks if head.startswith(mark)), None)
    if not size:
        other = f"is empty (0 bytes). {DAMAGED}."
    elif re.match(rb"\s*(<!doctype html|<html)", head, re.IGNORECASE):
        other = "is a web page (HTML); {} Download the file itself."
    elif not head.strip(b"\0"):
        other = f"begins with zeros; {{}} It is damaged. {DAMAGED}."
    elif other is None and expected in _OURS and not _is_stream(head, expected):
        other = "begins with other bytes; {} Name its format, or another path."
    return other and other.format(f"expected a file of the format {expected}.")


def _is_stream(head: bytes, expected: str) -> bool:
    return expected == "arrow" and head.startswith(b"\xff\xff\xff\xff")


def _of_ours(head: bytes, tail: bytes, size: int, expected: str) -> str | None:
    name = next(name for name, (place, mark, _) in _OURS.items() if head.startswith(mark, place))
    if name != expected:
        return f"is a file of the format {name}; expected {expected}. Open it with format={name!r}."
    end = _OURS[name][2]
    # An encrypted Parquet file, and one that is being written, also have another end.
    return None if end in tail else f"is truncated: its {size:,} bytes lack the end of a file of {name}. {DAMAGED}."


# The text of a library's error: what it means, and what to do.
_CAUSES = (
    (r"lock is held in (?:\S*/)?(\S+) \(PID (\d+)\)", "is locked by another process, {1} (PID {2}). " + _UNLOCK),
    (r"could not set lock|conflicting lock", "is locked by another process. " + _UNLOCK),
    (r"permission denied", "may not be read. Get permission to read it."),
    (
        r"not found: (/\S+)",
        "cannot be read: its file {1} is missing. Open it again if it was replaced meanwhile, else write it again.",
    ),
    (
        r"too many open files",
        "cannot be read: this process has too many open files. Raise the limit (ulimit -n), or close some.",
    ),
    (
        r"cannot allocate memory|malloc of size|out of memory",
        "cannot be read: {0}. There is too little memory. Read fewer columns or rows at a time.",
    ),
    (
        r"newer version|too new|version number .* but|unsupported (file )?version|feature flag",
        "was written by a newer version of its library: {0}. Update the library that reads it.",
    ),
    (
        r"does not fit in precision",
        "cannot be read: {0}. Choose the other columns, or cast it to another type in its file.",
    ),
    (
        r"unsupported cast|no kernel|not (yet )?implemented|unhandled type|notimplemented",
        "cannot be read: {0}. A column has a type that is not supported. Choose the other columns, or cast it.",
    ),
    (r"", "cannot be read: {0}. " + DAMAGED + "."),
)


def explained(path: Path, text: str) -> str:
    """What a library's error ``text`` says about ``path``, and what to do."""
    found = ((re.search(pattern, text, re.IGNORECASE), words) for pattern, words in _CAUSES)
    match, words = next((match, words) for match, words in found if match)
    return f"{path} {words.format(text, *match.groups())}"


def plain_text(text: str) -> str:
    """The first line of a library's error, without source locations and wrappers."""
    lines = text.strip().splitlines() or [""]
    line = re.sub(r",? /\S+\.rs:\d+(:\d+)?", "", lines[0])
    line = re.sub(r"[. ]*Detail: Python exception.*", "", line)
    line = re.sub(r"called `\w+::unwrap\(\)` on an? `\w+` value: ?", "the library stopped at ", line)
    line = re.sub(r"^((LanceError\(\w+\)|External error|Invalid user input|Invalid): )+", "", line)
    return line.rstrip(". ")
