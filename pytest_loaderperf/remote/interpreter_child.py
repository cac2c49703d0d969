"""In the process of another interpreter: makes the named loader, and serves it."""

from __future__ import annotations

import json
from typing import Any

from pytest_loaderperf.measurement import Reading
from pytest_loaderperf.measurement.factory import is_factory
from pytest_loaderperf.remote.naming import resolve
from pytest_loaderperf.remote.server import Parent, Served


def main() -> None:
    """Serve the loader that the parent named, until the parent is done."""
    parent = Parent()
    spec, arguments, device, timeout_s, *functions, name = parent.told

    def make() -> object:
        factory: Any = resolve(spec)
        return factory(**json.loads(arguments)) if is_factory(factory) else factory

    def reading() -> Reading:
        found: list[Any] = [resolve(spec, "FUNCTION", "a function of a batch") if spec else None for spec in functions]
        return Reading(*found)

    make.__name__ = spec
    parent.serve(Served(name, make, reading, parent, device=device, timeout_s=float(timeout_s)), str)
