"""What a library's file gives the harness: ways to use its loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class Unable(Exception):  # noqa: N818 a reason, not a fault
    """The library cannot load this dataset; the text says why."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to use a loader. ``make`` builds it; iterating it once gives one epoch of batches.

    ``in_order`` builds it without shuffling. ``unpack`` turns a batch into what the harness checks, if it is not that
    already; its time counts. ``close`` ends what the loader started. ``run(batches)``, for a limit, does the work with
    no loader at all.
    """

    how: str
    make: Callable[[], Any]
    unpack: Callable[[Any], Any] | None = None
    close: Callable[[Any], None] | None = None
    run: Callable[[int], None] | None = None
    in_order: Callable[[], Any] | None = None


class Epochs:
    """A loader whose epochs are made by a function: for libraries with an iterator but no object to loop over."""

    def __init__(self, epoch: Callable[[], Iterable[Any]]) -> None:
        self._epoch = epoch

    def __iter__(self) -> Any:
        return iter(self._epoch())
