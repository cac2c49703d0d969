"""The report layer: all formatting, for terminals, assertions and files. Importing it imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_loaderperf.report.calibration import (
        CALIBRATION_SCHEMA,
        calibration_document,
        calibration_lines,
        draw_operating_curve,
        loader_words,
    )
    from pytest_loaderperf.report.data import check_lines, format_lines, made_line, workload_lines
    from pytest_loaderperf.report.document import (
        read_json,
        result_document,
        run_document,
        whole_or_absent,
        write_json,
        write_text,
    )
    from pytest_loaderperf.report.terminal import (
        TableLine,
        disturbance_lines,
        summary_lines,
        table_lines,
        unheeded_lines,
        unpaired_lines,
    )
    from pytest_loaderperf.report.why import Why, why_section
    from pytest_loaderperf.report.words import explain, undecided

__all__ = [
    "CALIBRATION_SCHEMA",
    "TableLine",
    "Why",
    "calibration_document",
    "calibration_lines",
    "check_lines",
    "disturbance_lines",
    "draw_operating_curve",
    "explain",
    "format_lines",
    "loader_words",
    "made_line",
    "read_json",
    "result_document",
    "run_document",
    "summary_lines",
    "table_lines",
    "undecided",
    "unheeded_lines",
    "unpaired_lines",
    "whole_or_absent",
    "why_section",
    "workload_lines",
    "write_json",
    "write_text",
]

_HOME = {
    "CALIBRATION_SCHEMA": "calibration",
    "TableLine": "terminal",
    "Why": "why",
    "calibration_document": "calibration",
    "calibration_lines": "calibration",
    "check_lines": "data",
    "disturbance_lines": "terminal",
    "draw_operating_curve": "calibration",
    "explain": "words",
    "format_lines": "data",
    "loader_words": "calibration",
    "made_line": "data",
    "read_json": "document",
    "result_document": "document",
    "run_document": "document",
    "summary_lines": "terminal",
    "table_lines": "terminal",
    "undecided": "words",
    "unheeded_lines": "terminal",
    "unpaired_lines": "terminal",
    "whole_or_absent": "document",
    "why_section": "why",
    "workload_lines": "data",
    "write_json": "document",
    "write_text": "document",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
