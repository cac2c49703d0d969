"""Where loaders print: in the other process to the same place as in this one, so that it takes both as long."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper

_STANDARD = (1, 2)  # descriptors of output and errors


@contextmanager
def shared_outputs(*, shown: bool = True) -> Iterator[list[int]]:
    """Descriptors of this process's output and errors, for a child; none if they are not ``shown``, or in files.

    A child has a file of its own for its output, in which a parent finds the last words of a child that has died.
    """
    made: list[int] = []
    try:
        if shown:
            with suppress(OSError):  # closed
                if not all(stat.S_ISREG(os.fstat(number).st_mode) for number in _STANDARD):
                    made += [os.dup(number) for number in _STANDARD]
        yield made
    finally:
        for descriptor in made:
            os.close(descriptor)


@contextmanager
def printing_to(outputs: Sequence[int]) -> Iterator[None]:
    """In the child: print to the ``outputs`` of the parent in this block, line by line if that is a terminal."""
    if len(outputs) < len(_STANDARD):
        yield
        return
    kept = [os.dup(number) for number in _STANDARD]
    try:
        _lead_to(outputs)
        yield
    finally:
        _lead_to(kept)
        for descriptor in kept:
            os.close(descriptor)


def _lead_to(outputs: Sequence[int]) -> None:
    for stream, number, output in zip((sys.stdout, sys.stderr), _STANDARD, outputs, strict=True):
        with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            stream.flush()
        os.dup2(output, number)
        if isinstance(stream, TextIOWrapper) and number == _STANDARD[0]:
            stream.reconfigure(line_buffering=os.isatty(number))
