"""Frozen workload specs, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pytest_loaderperf.errors import DataError

# An installed wheel carries the specs inside the package; a checkout keeps them under fixtures/.
_PACKAGE = Path(__file__).parent.parent
_FOLDERS = (_PACKAGE / "_workloads", _PACKAGE.parent / "fixtures" / "workloads")


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What a workload is: ``samples`` rows of ``shape`` and ``dtype``, an int64 label below ``classes`` for each.

    ``batch_size`` is in samples; ``batches`` is how many batches of an epoch a benchmark of fixed length takes.
    """

    name: str
    factory: str
    samples: int
    shape: tuple[int, ...]
    dtype: str
    classes: int
    seed: int
    batch_size: int
    batches: int

    def __post_init__(self) -> None:
        for key in ("samples", "classes", "batch_size", "batches"):
            value = getattr(self, key)
            if not isinstance(value, int) or value < 1:
                raise DataError(f"workload {self.name!r}: {key} must be a whole number from 1 up, but {value!r} came.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise DataError(f"workload {self.name!r}: seed must be a whole number from 0 up, but {self.seed!r} came.")
        if not all(isinstance(size, int) and size > 0 for size in self.shape):
            raise DataError(f"workload {self.name!r}: shape must hold whole numbers from 1 up, but {self.shape} came.")


def _spec_files() -> dict[str, Path]:
    for folder in _FOLDERS:
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    raise DataError(f"no workload specs found; looked in {', '.join(map(str, _FOLDERS))}. Reinstall pytest-loaderperf.")


def workload_names() -> list[str]:
    """Names that ``load_spec`` and the ``workload`` fixture take."""
    return list(_spec_files())


def load_spec(name: str) -> WorkloadSpec:
    """Read the spec called ``name``, or the TOML file at the path ``name`` if it ends in ``.toml``.

    Raises DataError for an unknown name, unreadable TOML, and keys that are missing or unknown.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise DataError(f"no workload spec at {name}. Give the path of a TOML file that exists.")
    else:
        known = _spec_files()
        if name not in known:
            raise DataError(f"unknown workload {name!r}. Known: {', '.join(known)}. A path ending in .toml works too.")
        path = known[name]
    return _parse(path)


def _parse(path: Path) -> WorkloadSpec:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"workload spec {path.name} is not TOML: {error}. Mend that line.") from error
    expected = {field.name for field in fields(WorkloadSpec)} - {"name"}
    missing, unknown = sorted(expected - set(table)), sorted(set(table) - expected)
    if missing or unknown:
        raise DataError(
            f"workload spec {path.name}: missing keys: {', '.join(missing) or 'none'}; "
            f"unknown keys: {', '.join(unknown) or 'none'}. Expected exactly: {', '.join(sorted(expected))}."
        )
    if not isinstance(table["shape"], list):
        raise DataError(f"workload spec {path.name}: shape must be a list of sizes, but {table['shape']!r} came.")
    table["shape"] = tuple(table["shape"])
    return WorkloadSpec(name=path.stem, **table)
