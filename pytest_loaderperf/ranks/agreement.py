"""Whether all ranks run the same: versions, options and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_loaderperf.errors import printable

_MOST_ENTRIES = 3  # of a list that are named: more do not help


def differences(given: Sequence[Mapping[str, object]], called: Sequence[str]) -> str:
    """What the ranks after the first have that it does not have, in one text; empty if all agree.

    ``given`` has the values of each rank by name, and ``called`` what each rank is called.
    """
    first = given[0]
    found = [
        f"{name}: {_difference(first.get(name), values.get(name))} on {where}"
        for values, where in zip(given[1:], called[1:], strict=True)
        for name in {**first, **values}
        if first.get(name) != values.get(name)
    ]
    if not found:
        return ""
    return (
        f"expected the same on all ranks, got differences from {called[0]}:\n"
        + "\n".join(found)
        + "\nStart all ranks with the same command, files and packages."
    )


def _difference(expected: object, got: object) -> str:
    if not (isinstance(expected, (list, tuple)) and isinstance(got, (list, tuple))):
        return f"expected {_shown(expected)}, got {_shown(got)}"
    without, besides = ([x for x in a if x not in set(b)] for a, b in ((expected, got), (got, expected)))
    parts = [
        f"{word} {', '.join(map(str, entries[:_MOST_ENTRIES]))}{', ...' if len(entries) > _MOST_ENTRIES else ''}"
        for word, entries in (("without", without), ("with also", besides))
        if entries
    ]
    return f"expected {len(expected)}, got {len(got)}: {'; '.join(parts) or 'in another order'}"


def _shown(value: object) -> str:
    return "nothing" if value is None else printable(value)
