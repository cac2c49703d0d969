"""Loaders of another process print where those of this one do."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from itertools import chain

import pytest

from pytest_loaderperf.remote.output import printing_to, shared_outputs


@contextmanager
def pipes(monkeypatch):
    """Output and errors in pipes, without pytest's capturing; gives what was written to each so far."""
    kept = [os.dup(number) for number in (1, 2)]
    made = [os.pipe() for _ in kept]
    streams = [os.fdopen(number, "w", closefd=False) for number in (1, 2)]
    for number, (_, written) in zip((1, 2), made, strict=True):
        os.dup2(written, number)

    def so_far():
        for stream in streams:
            stream.flush()
        return [os.read(read, 1000).decode() for read, _ in made]

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        try:
            yield so_far
        finally:
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
            for descriptor in [*kept, *chain.from_iterable(made)]:
                os.close(descriptor)


def test_what_is_printed_in_the_block_goes_there_and_what_is_before_and_after_does_not(monkeypatch, tmp_path):
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err, pipes(monkeypatch) as so_far:
        sys.stdout.write("before ")
        with printing_to([out.fileno(), err.fileno()]):
            sys.stdout.write("within ")
            sys.stderr.write("an error")
            os.write(1, b"by a library ")
        sys.stdout.write("after")
        sys.stderr.write("another")
        assert so_far() == ["before after", "another"]
    assert (tmp_path / "err").read_text() == "an error"
    assert (tmp_path / "out").read_text() == "by a library within "


def test_descriptors_are_given_where_output_is_shown_and_closed_afterwards(monkeypatch):
    with pipes(monkeypatch) as so_far:
        with shared_outputs() as outputs:
            os.write(outputs[0], b"out")
            os.write(outputs[1], b"err")
        assert so_far() == ["out", "err"]
        for descriptor in outputs:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)


@pytest.mark.parametrize("shown", [False, True])
def test_none_are_given_where_output_is_captured_or_in_files(monkeypatch, tmp_path, shown):
    with (tmp_path / "out").open("wb") as file, pipes(monkeypatch):
        for number in (1, 2) if shown else ():
            os.dup2(file.fileno(), number)
        with shared_outputs(shown=shown) as outputs, printing_to(outputs):
            assert outputs == []
