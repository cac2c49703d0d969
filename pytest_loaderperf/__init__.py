"""pytest-loaderperf: catch performance regressions in PyTorch-style data loaders.

Importing this package imports neither torch, numpy nor pyarrow; using ``measure`` or ``ReferenceLoader`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_loaderperf.units import ms, s, us

if TYPE_CHECKING:
    from pytest_loaderperf.loader import ReferenceLoader
    from pytest_loaderperf.run import measure

__all__ = ["ReferenceLoader", "__version__", "measure", "ms", "s", "us"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "measure":
        from pytest_loaderperf.run import measure

        return measure
    if name == "ReferenceLoader":
        from pytest_loaderperf.loader import ReferenceLoader

        return ReferenceLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
