"""What a side is made from: a factory, which is called to make a loader, or a loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_loaderperf.errors import LoaderError, printable

_SHOWN_ATTRIBUTES = ("batch_size", "num_workers", "prefetch_factor", "persistent_workers", "pin_memory", "drop_last")


def is_factory(source: object) -> bool:
    """Whether it is a function that makes a loader, not a loader."""
    return callable(source) and (isinstance(source, type) or not hasattr(source, "__iter__"))


def check_loader(source: object, what: str) -> None:
    """Raise LoaderError if it cannot be iterated epoch after epoch."""
    if not hasattr(source, "__iter__") or isinstance(source, (str, bytes)):
        raise LoaderError(
            f"{what}: expected a factory, a function without arguments that returns a loader, got "
            f"{type(source).__name__}, which can be neither called nor iterated. Write: lambda: DataLoader(...)."
        )
    if isinstance(source, Iterator):
        raise LoaderError(
            f"{what}: expected a factory, or a loader for many epochs, got a one-shot {type(source).__name__}. "
            "Give the function that makes it, without calling it."
        )


def call_factory(factory: Any, called: str) -> Any:
    """The loader that ``factory``, of the side ``called`` so, returns. Raises LoaderError if it returns none."""
    called = f"{called} factory {getattr(factory, '__name__', type(factory).__name__)}()"
    try:
        loader = factory()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".rstrip(".")
        raise LoaderError(f"{called} raised {said}. Expected a loader; the traceback above says where.") from error
    if loader is None:
        raise LoaderError(f"{called} returned None. Expected a loader: is its return statement missing?")
    if not hasattr(loader, "__iter__"):
        raise LoaderError(f"{called} returned a {type(loader).__name__}, which cannot be iterated. Expected a loader.")
    return loader


def describe(loader: object) -> str:
    """``repr``, or for a loader without its own, its type and settings; escaped and shortened."""
    try:
        if type(loader).__repr__ is not object.__repr__:
            return printable(repr(loader))
        settings = [f"{name}={getattr(loader, name)!r}" for name in _SHOWN_ATTRIBUTES if hasattr(loader, name)]
        dataset = getattr(loader, "dataset", None)
    except Exception as error:  # noqa: BLE001 its name changes no figure
        return printable(f"{type(loader).__name__} (its repr raised {type(error).__name__})")
    return printable(
        f"{type(loader).__name__}({', '.join([type(dataset).__name__] * (dataset is not None) + settings)})"
    )
