"""The report layer: all formatting, for terminals, assertions and files."""

from pytest_loaderperf.report.calibration import calibration_document, calibration_lines, draw_operating_curve
from pytest_loaderperf.report.document import result_document, run_document, write_json
from pytest_loaderperf.report.terminal import TableLine, disturbance_lines, summary_lines, table_lines
from pytest_loaderperf.report.words import explain

__all__ = [
    "TableLine",
    "calibration_document",
    "calibration_lines",
    "disturbance_lines",
    "draw_operating_curve",
    "explain",
    "result_document",
    "run_document",
    "summary_lines",
    "table_lines",
    "write_json",
]
