"""CSV (RFC 4180): one row for each metric of each side."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.reading import Document, Figure, figures, fingerprint

HEADING = (*Figure._fields, "commit", "machine", "file")
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet evaluates a text that begins so


def csv_text(documents: Sequence[Document]) -> str:
    """All figures, with a heading. An unknown value, and an end of an interval without limit, is an empty cell."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)  # its default dialect ends lines with CR LF, as RFC 4180 asks
    rows.writerow(HEADING)
    for document in documents:
        origin = (document.get("commit"), fingerprint(document["machine"]), document.get("file"))
        rows.writerows([_cell(cell) for cell in (*row, *origin)] for run in document["runs"] for row in figures(run))
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    shown = printable(value, MOST_OF_PATH)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
