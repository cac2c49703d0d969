"""Pictures that matplotlib draws, and pages with them that need nothing else: what those of all commands share."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pytest_loaderperf.arguments import PAGE_MARK
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable
from pytest_loaderperf.report.document import whole_or_absent

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24;
       background: #fff }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .6rem; vertical-align: top;
       border-bottom: 1px solid #ddd }
td:nth-child(n+3) { overflow-wrap: anywhere } td:nth-child(-n+2) { min-width: 7rem }
 svg { width: 100%; height: auto; background: #fff }
.table { overflow-x: auto } .bad { color: #b02318; font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #e6e9ee; background: #16191d } td, th { border-color: #3a3f46 }
       .bad { color: #ff8a7a } }
"""


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches. Raises LoaderPerfError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LoaderPerfError(
            "a plot needs matplotlib, which is not installed: pip install 'pytest-loaderperf[report]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Any, file: Path) -> None:
    """Write ``file``, a PNG, SVG or PDF by its ending. Raises LoaderPerfError if that is not possible."""
    try:
        with whole_or_absent(file) as scratch:
            _save(figure, scratch, file.suffix[1:])
    except (OSError, ValueError) as error:
        raise LoaderPerfError(f"cannot write the plot {file}: {error}") from error


def svg_of(figure: Any) -> str:
    """The figure as an element of a page."""
    picture = io.StringIO()
    _save(figure, picture, "svg")
    svg = picture.getvalue()
    return svg[svg.index("<svg") :]


def page_of(title: str, parts: Iterable[str]) -> str:
    """A page with a title and parts that are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{PAGE_MARK}"><title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>'
        f"{''.join(parts)}</body></html>\n"
    )


def write_page_text(page: str, file: Path) -> None:
    """Write ``file``, complete or absent. Raises LoaderPerfError if that is not possible."""
    try:
        with whole_or_absent(file) as scratch:
            scratch.write_text(page, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise LoaderPerfError(f"cannot write {file}: {error}") from error


def html_table(names: Sequence[str], rows: Sequence[str]) -> str:
    """A table with these headings, and ``rows`` that are HTML."""
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def escaped(text: str) -> str:
    """A name from outside as HTML."""
    return escape(printable(text, MOST_OF_PATH))


def literal(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return printable(text).replace("$", r"\$")


def _save(figure: Any, to: Any, form: str) -> None:
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", message="Glyph")  # an emoji in a test's name
        figure.savefig(to, format=form)
