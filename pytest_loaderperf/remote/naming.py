"""Factories by the name ``package.module:function``, and calls of a test by what they are given."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from functools import partial
from itertools import chain, islice
from types import CellType, FunctionType, MethodType
from typing import NamedTuple

from pytest_loaderperf.errors import LoaderPerfError

_TEXTS = (str, bytes)
_PLAIN = (int, float, complex, type(None))
_EMPTY = CellType()
_DEEPEST = 4  # functions in closures of functions
_MOST_PARTS, _MOST_TEXT = 8, 200  # of one value: enough to tell the calls of one test apart


class Call(NamedTuple):
    """The ``number``-th ``loaderperf(...)`` of a test, the ``nth`` of this ``name``, both from 0.

    ``others`` are the names of the test's earlier calls.
    """

    number: int
    name: str
    nth: int
    others: tuple[str, ...]

    @classmethod
    def last(cls, names: Iterable[str]) -> Call:
        """The last of a test's calls, which have these names."""
        *others, name = names
        return cls(len(others), name, others.count(name), tuple(others))


def call_name(source: object, deepest: int = _DEEPEST) -> str:
    """What tells a factory, or a loader, from others of the same test, and is the same in another process.

    It is made of the names of functions and types, and the plain values in their closures and arguments.
    """
    try:
        if isinstance(source, _TEXTS):
            return repr(source[:_MOST_TEXT])
        if isinstance(source, _PLAIN):
            return repr(source)
        if isinstance(source, os.PathLike):
            return repr(os.fspath(source))[:_MOST_TEXT]
        parts = [call_name(part, deepest - 1) for part in islice(_parts(source), _MOST_PARTS)] if deepest else []
        name = str(getattr(source, "__qualname__", type(source).__qualname__))
        return f"{name}({', '.join(parts)})" if parts else name
    except Exception:  # noqa: BLE001 the user's object may raise anything
        return type(source).__qualname__


def _parts(source: object) -> Iterable[object]:
    if isinstance(source, partial):
        return [source.func, *source.args, *chain.from_iterable(source.keywords.items())]
    if isinstance(source, MethodType):
        return [source.__self__]
    if isinstance(source, FunctionType):
        kept = [cell.cell_contents for cell in source.__closure__ or () if cell != _EMPTY]
        return [*kept, *(source.__defaults__ or ()), *(source.__kwdefaults__ or {}).values()]
    if isinstance(source, dict):
        return chain.from_iterable(source.items())
    return source if isinstance(source, (tuple, list)) else ()  # of which the first few are read, however many it has


def resolve(spec: str, kind: str = "FACTORY", wanted: str = "the function that makes the loader") -> object:
    """The object that ``package.module:name`` names, with the current folder importable.

    Raises LoaderPerfError, whose text calls it ``MODULE:kind``, the name of what is ``wanted``.
    """
    module_name, name = name_parts(spec, kind)
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise LoaderPerfError(
            f"cannot import {module_name!r}: {error}. Run this where that module can be found."
        ) from error
    try:
        return pkgutil.resolve_name(spec)
    except (AttributeError, ValueError):
        raise LoaderPerfError(f"{module_name!r} has no {name!r}. Give the name of {wanted}.") from None


def name_parts(spec: str, kind: str = "FACTORY") -> tuple[str, str]:
    """Module and name of ``module:name``. Raises LoaderPerfError if it is not written so."""
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        example = "mypkg.data:make_loader" if kind == "FACTORY" else "mypkg.data:read_batch"
        raise LoaderPerfError(f"expected MODULE:{kind} such as {example}, got {spec!r}.")
    return module_name, name


def import_name(factory: object, called: str = "its loader's factory") -> str:
    """``module:name`` of a function, as another process can import it. Raises LoaderPerfError if it cannot."""
    if isinstance(factory, str):
        return factory
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "<object>")
    if module in (None, "__main__") or "<" in name:
        raise LoaderPerfError(
            f"another process imports {called} by name, which {name} of {module} does not allow. "
            "Expected a function at the top of a module other than the script itself, or its name 'module:function'."
        )
    return f"{module}:{name}"
