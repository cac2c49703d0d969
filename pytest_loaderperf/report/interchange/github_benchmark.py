"""Entries for benchmark-action/github-action-benchmark, whose tools for own figures each have one direction."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import UNBOUNDED
from pytest_loaderperf.report.reading import (
    LOADER,
    ROOFLINE,
    Document,
    Figure,
    distinct,
    figures,
    fingerprint,
    higher_is_better,
)


def github_smaller(documents: Sequence[Document]) -> str:
    """What ``tool: customSmallerIsBetter`` reads: times, memory and CPU seconds."""
    return _entries(documents, higher=False)


def github_bigger(documents: Sequence[Document]) -> str:
    """What ``tool: customBiggerIsBetter`` reads: rates and ratios."""
    return _entries(documents, higher=True)


def _entries(documents: Sequence[Document], *, higher: bool) -> str:
    chosen = [
        (figure, document)
        for document in documents
        for run in document["runs"]
        for figure in figures(run)
        if figure.value is not None
        and figure.n  # 0: not measured, such as a loader's ratio to itself
        and figure.side != ROOFLINE  # it tells of the machine, not of a loader
        and higher_is_better(figure.metric, figure.unit) == higher
    ]
    names = distinct([_name(figure) for figure, _ in chosen])
    entries = [
        {
            "name": name,
            "unit": figure.unit,
            "value": figure.value,
            **_range(figure),
            "extra": f"n: {figure.n}\nmachine: {fingerprint(document['machine'])}",
        }
        for name, (figure, document) in zip(names, chosen, strict=True)
    ]
    return json.dumps(entries, indent=1, allow_nan=False) + "\n"


def _name(figure: Figure) -> str:
    """Stable across runs, because the action finds the previous value by it."""
    side = "" if figure.side == LOADER else f" [{printable(figure.side)}]"
    # The action puts the name between backticks in a comment, where no escape exists.
    return f"{printable(figure.nodeid, MOST_OF_PATH)}{side}: {figure.metric}".replace("`", "'")


def _range(figure: Figure) -> dict[str, str]:
    if figure.low is None and figure.high is None:
        return {}
    low, high = (UNBOUNDED if end is None else f"{end:.6g}" for end in (figure.low, figure.high))
    return {"range": f"95 % interval {low} to {high}"}
