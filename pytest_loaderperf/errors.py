"""The errors, and how text from outside is shown.

Every message says what was expected, what it got, and what to do.
"""

from __future__ import annotations

import errno

MOST_OF_PATH = 4096  # characters: as long as paths may be
MOST_SHOWN = 500  # characters of a name, a repr or a library's message: more does not help a reader
_MOST_OF_ERROR = 20_000  # characters: room for the stacks of all threads
_LINES = "\n\t"  # what lays out a message of several lines


def printable(text: object, most: int = MOST_SHOWN, keep: str = "") -> str:
    """``text`` as it can be printed and stored anywhere: escaped, and of at most about ``most`` characters.

    Control characters, line ends, marks that change the direction of writing, and lone surrogates become backslash
    escapes, except those in ``keep``. A long text keeps its beginning and its end.

    >>> printable("x" * 99, most=12)
    'xxxxxx...xxxxxx (99 characters)'
    """
    shown = str(text)
    if (length := len(shown)) > most:
        half = most // 2
        shown = f"{shown[:half]}...{shown[-half:]} ({length:,} characters)"
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in shown)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def lines_of(text: object) -> str:
    """The same for a message that may have several lines."""
    return printable(text, _MOST_OF_ERROR, _LINES)


_ADVICE = {
    errno.EMFILE: "Raise the limit of open files: ulimit -n 1024.",
    errno.ENFILE: "Close programs that hold many files open.",
    errno.EAGAIN: "Raise the limit of processes: ulimit -u.",
    errno.ENOMEM: "Free some memory, or raise its limit: ulimit -v.",
    errno.ENOSPC: "Free some space on that disk.",
    errno.EDQUOT: "Free some of your space on that disk.",
    errno.EROFS: "Give a path that can be written to.",
    errno.EACCES: "Give a path that you may write to.",
}


def refusal(error: OSError | MemoryError) -> str:
    """What the system refused, and what to do about it."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno
    said = printable(str(error) or "out of memory").rstrip(".")
    return f"the system refused what is needed: {said}. {_ADVICE.get(number or 0, '')}".rstrip()


class LoaderPerfError(Exception):
    """Base of every error that this package raises; text from outside in its message is escaped and shortened."""

    _layout = _LINES

    def __str__(self) -> str:
        return printable(super().__str__(), _MOST_OF_ERROR, self._layout)


class LoaderError(LoaderPerfError):
    """The loader, its factory or its batches cannot be measured."""


class ShortEpochError(LoaderError):
    """The epoch has fewer batches than the trial needs."""


class ClaimError(LoaderPerfError):
    """A comparison that has no meaning, such as seconds against samples/s."""


class DataError(LoaderPerfError):
    """A dataset or a workload spec cannot be used. Its message is one line: line ends can only be in file names."""

    _layout = ""


class MeasureError(LoaderPerfError):
    """The measurement itself is unusable, for example because the clock stands still."""


class ResultError(LoaderPerfError):
    """A result file cannot be used: not JSON, cut off, not a loaderperf result, or of another schema."""


class LoaderHangError(LoaderPerfError):
    """A loader yielded nothing for longer than the watchdog allows."""


class FrozenAugmentationWarning(UserWarning):
    """A dataset is random, but the samples kept from it will be the same in every epoch."""
