"""Frozen workload specs, from TOML or keywords."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pytest_loaderperf.data.arrays.indices import is_count
from pytest_loaderperf.data.workloads.kinds import (
    DEFAULT_CLASSES,
    KINDS,
    NEEDED_BY_ALL,
    REAL,
    TAKEN_BY_ALL,
    check_values,
    shown,
)
from pytest_loaderperf.errors import DataError, printable

# An installed wheel carries the specs inside the package; a checkout keeps them under fixtures/.
_PACKAGE = Path(__file__).parents[2]
_FOLDERS = (_PACKAGE / "_workloads", _PACKAGE.parent / "fixtures" / "workloads")
_BATCH_SIZE = 32  # a usual value in torch
_MOST_SPEC_NBYTES = 1 << 20  # enough for a spec with ten thousand column names


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """A workload: ``samples`` rows, made by ``factory``, whose kind determines which other keys are used.

    ``shape`` and ``dtype`` are those of one sample's array; int64 labels are below ``classes``, each class as frequent
    as its share of ``class_weights`` (none: all equal). ``inputs`` and ``targets`` name the arrays of a volume,
    ``columns`` the (name, dtype) pairs of a table, ``lengths`` the (least, most) tokens of a sample, ``vocabulary``
    what token ids are below, ``folder`` where TIFFs are. ``batch_size`` is in samples; ``batches`` is how many batches
    of an epoch a benchmark of fixed length takes.

    Raises DataError for a value that the kind cannot have.
    """

    name: str
    factory: str
    samples: int
    shape: tuple[int, ...] = ()
    dtype: str = ""
    classes: int = 0
    seed: int = 0
    batch_size: int = _BATCH_SIZE
    batches: int = 1
    class_weights: tuple[float, ...] = ()
    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    lengths: tuple[int, ...] = ()
    vocabulary: int = 0
    folder: str = ""

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        check_values(f"workload {self.name!r}", self.factory, values)

    @property
    def kind(self) -> str:
        """The name of the kind: arrays, images, volumes, tables, tokens or real images."""
        return KINDS[self.factory].name

    @property
    def is_real(self) -> bool:
        """Whether the samples are real images, which have to be read."""
        return self.kind == REAL


def _spec_files() -> dict[str, Path]:
    for folder in _FOLDERS:
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    raise DataError(f"no workload specs found; looked in {', '.join(map(str, _FOLDERS))}. Reinstall pytest-loaderperf.")


def workload_names() -> list[str]:
    """Names for ``load_spec`` and the ``workload`` fixture."""
    return list(_spec_files())


def load_spec(name: str, **overrides: Any) -> WorkloadSpec:
    """Read the spec ``name``, or the TOML file at the path ``name`` if it ends in ``.toml``.

    ``overrides`` replace its keys. Raises DataError for an unknown name, unreadable TOML, keys that are
    missing or unknown, and values that the kind cannot have.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        known = _spec_files()
        if name not in known:
            raise DataError(f"unknown workload {name!r}. Known: {', '.join(known)}. A path ending in .toml works too.")
        path = known[name]
    return spec_of(path.stem, _table(path) | overrides, where=f"workload spec {path.name}")


def _table(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise DataError(f"no workload spec at {path}. Give the path of a TOML file that exists.")
        if (nbytes := path.stat().st_size) > _MOST_SPEC_NBYTES:
            raise DataError(
                f"workload spec {path.name}: expected at most {_MOST_SPEC_NBYTES:,} bytes of TOML, got {nbytes:,}."
            )
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"workload spec {path} cannot be read: {error}. Give a file that you may read.") from error
    except RecursionError:
        raise DataError(f"workload spec {path.name}: expected plain values and lists, got lists nested deep.") from None
    except ValueError as error:  # also for text that is not UTF-8, and for numbers of thousands of digits
        raise DataError(f"workload spec {path.name} is not TOML: {error}. Fix that line.") from error


def spec_of(name: str, table: Mapping[str, Any], *, where: str | None = None) -> WorkloadSpec:
    """A spec from the keys of ``table``, named ``name``; optional keys have defaults.

    Raises DataError, whose text begins with ``where``, for keys that are missing or unknown.
    """
    where = where or f"workload {name!r}"
    factory = table.get("factory")
    kind = KINDS.get(factory) if isinstance(factory, str) else None
    if kind is None:
        got = f"unknown factory {shown(factory)}" if "factory" in table else "missing keys: factory"
        raise DataError(f"{where}: {got}. Known factories: {', '.join(sorted(KINDS))}.")
    needs, takes = {*NEEDED_BY_ALL, *kind.needs}, {*TAKEN_BY_ALL, *kind.takes}
    missing, unknown = sorted(needs - set(table)), sorted(set(table) - needs - takes)
    if missing or unknown:
        others = printable(", ".join(unknown))
        raise DataError(
            f"{where}: missing keys: {', '.join(missing) or 'none'}; unknown keys: {others or 'none'}. "
            f"A workload of {factory} needs {', '.join(sorted(needs))}, and may have {', '.join(sorted(takes))}."
        )
    values: dict[str, Any] = {key: _frozen(value) for key, value in table.items()}
    if "dtype" in kind.takes:
        values.setdefault("dtype", kind.dtypes[0])
    if "classes" in kind.takes:
        weights = values.get("class_weights")
        values.setdefault("classes", len(weights) if isinstance(weights, tuple) and weights else DEFAULT_CLASSES)
    samples, batch_size = values["samples"], values.get("batch_size", _BATCH_SIZE)
    if is_count(samples) and is_count(batch_size):
        values.setdefault("batches", math.ceil(samples / batch_size))
    return WorkloadSpec(name=name, **values)


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return tuple(value.items())
    return tuple(value) if isinstance(value, list) else value
