"""Outputs at the end of a run: one that fails is reported, and keeps no other from being written."""

from __future__ import annotations

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.plugin import outputs


def test_one_that_fails_keeps_no_other_from_being_written(monkeypatch):
    def full(_document, _settings):
        raise OSError(28, "No space left on device")

    def foreign(_document, _settings):
        raise ResultError("expected a page, got a\x1b[31m folder")

    every = {
        "--full": full,
        "--foreign": foreign,
        "--page": lambda document, _: f"{len(document)} written",
        "--off": lambda *_: None,
    }
    monkeypatch.setattr(outputs, "OUTPUTS", every)
    written = outputs.write_outputs({"runs": []}, None)
    assert written.lines == ["1 written"]
    assert written.problems == [
        "--full: [Errno 28] No space left on device",
        "--foreign: expected a page, got a\\x1b[31m folder",
    ]
