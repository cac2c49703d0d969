"""Optional libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pytest_loaderperf.errors import DataError


def library(module: str, package: str) -> Any:
    """The module ``module``. Raises DataError that names the command to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(f"{module} cannot be imported ({error}). Install it: pip install {package}") from error
