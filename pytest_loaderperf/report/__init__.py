"""The report layer: all formatting, for terminals, assertions and files."""

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
from pytest_loaderperf.report.terminal import TableLine, disturbance_lines, summary_lines, table_lines, unpaired_lines
from pytest_loaderperf.report.why import Why, why
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
    "unpaired_lines",
    "whole_or_absent",
    "why",
    "workload_lines",
    "write_json",
    "write_text",
]
