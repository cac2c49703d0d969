"""The report layer: all formatting, for terminals, assertions and files."""

from pytest_loaderperf.report.calibration import calibration_document, calibration_lines, draw_operating_curve
from pytest_loaderperf.report.data import check_lines, format_lines, made_line, workload_lines
from pytest_loaderperf.report.document import result_document, run_document, write_json
from pytest_loaderperf.report.terminal import TableLine, disturbance_lines, summary_lines, table_lines, unpaired_lines
from pytest_loaderperf.report.words import explain, undecided

__all__ = [
    "TableLine",
    "calibration_document",
    "calibration_lines",
    "check_lines",
    "disturbance_lines",
    "draw_operating_curve",
    "explain",
    "format_lines",
    "made_line",
    "result_document",
    "run_document",
    "summary_lines",
    "table_lines",
    "undecided",
    "unpaired_lines",
    "workload_lines",
    "write_json",
]
