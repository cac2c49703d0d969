"""Factories by the name ``package.module:function``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from pytest_loaderperf.errors import LoaderPerfError


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
