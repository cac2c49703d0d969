"""pytest-loaderperf: catch performance regressions in PyTorch-style data loaders.

Importing this package imports nothing heavy; using ``measure`` or ``ReferenceLoader`` imports torch and numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_loaderperf.data import PersistentExecutor, as_tensor, optimize
    from pytest_loaderperf.errors import FrozenAugmentationWarning
    from pytest_loaderperf.loader import Collate, ReferenceLoader, vectorized_collate
    from pytest_loaderperf.runs.script import measure
    from pytest_loaderperf.units import ms, s, us

__all__ = [
    "Collate",
    "FrozenAugmentationWarning",
    "PersistentExecutor",
    "ReferenceLoader",
    "__version__",
    "as_tensor",
    "measure",
    "ms",
    "optimize",
    "s",
    "us",
    "vectorized_collate",
]
__version__ = "0.1.0"

_HOME = {
    "Collate": "loader",
    "FrozenAugmentationWarning": "errors",
    "PersistentExecutor": "data",
    "ReferenceLoader": "loader",
    "as_tensor": "data",
    "measure": "runs.script",
    "ms": "units",
    "optimize": "data",
    "s": "units",
    "us": "units",
    "vectorized_collate": "loader",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
