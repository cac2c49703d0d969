"""A user's functions of batches: how to count their samples, and how to read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_loaderperf.errors import LoaderError

Deliver = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """``count`` returns the samples of a batch (None: by its structure), ``touch`` reads a lazy batch.

    Raises LoaderError if one is not a function.
    """

    count: Callable[[Any], int] | None = None
    touch: Callable[[Any], object] | None = None

    def __post_init__(self) -> None:
        for name, does in (("count", "returns its number of samples"), ("touch", "reads it")):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise LoaderError(
                    f"{name}= expected a function that takes a batch and {does}, got {type(function).__name__}. "
                    f"Write: {name}=lambda batch: ..."
                )

    def after(self, deliver: Deliver | None) -> Deliver | None:
        """``deliver``, and then ``touch``, whose time is part of a batch's time. Raises LoaderError that names it."""
        if self.touch is None:
            return deliver
        touch, called = self.touch, getattr(self.touch, "__name__", type(self.touch).__name__)

        def read(batch: Any) -> Any:
            if deliver is not None:
                batch = deliver(batch)
            try:
                touch(batch)
            except Exception as error:
                said = f"{type(error).__name__}: {error}".rstrip(": .")
                raise LoaderError(
                    f"touch={called} raised {said}, for a batch of type {type(batch).__name__}. "
                    "Expected a function that reads a batch, such as lambda batch: batch.X."
                ) from error
            return batch

        return read
