"""Workloads on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_loaderperf.data.workloads.spec import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.data.workloads.workload import Workload
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


_MOST_PACKED = 8  # times smaller than in memory: bools, eight of which fit into a byte


@dataclass(frozen=True, slots=True)
class Made:
    """The path, format and size of a workload on disk."""

    path: Path
    format: str
    samples: int
    nbytes: int


def checked_target(path: Path, format_name: str | None, *, force: bool) -> str:
    """The name of the format to write ``path`` in: ``format_name``, or that of its suffix.

    Raises DataError for an unknown or missing format, and for a path that exists, unless ``force``.
    """
    from pytest_loaderperf.data.formats import format_to_write, missing, named

    if format_name is not None:
        named(format_name)
    if path.exists():
        if not force:
            raise DataError(f"{path} exists. Give another path, or --force (force=True) to replace it.")
        format_to_write(path)  # folders that were not written here stay, even with force
    name = format_to_write(path, format_name).name
    if name in missing():
        raise DataError(f"the format {name} is not installed. Run: {missing()[name]}")
    return name


def make(
    workload: Workload,
    path: str | Path,
    format_name: str | None = None,
    *,
    force: bool = False,
    progress: Callable[[str], object] = str,
) -> Made:
    """Write ``workload`` to ``path``, complete or absent, in bounded memory. ``progress`` is called with texts.

    Raises DataError as ``checked_target`` does, if the format cannot store the workload, and if writing fails.
    """
    import pyarrow as pa

    path = Path(path)
    name = checked_target(path, format_name, force=force)
    reader = workload.batches()

    def counted() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in reader:
            yield batch
            done += len(batch)
            progress(f"{done:,} of {len(workload):,} samples written")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise DataError(f"cannot make the folder of {path}: {error}. Give another path.") from error
    if workload.most_nbytes > _MOST_PACKED * free:
        raise DataError(
            f"{path}: expected a workload that fits the {free:,} bytes free on that disk, got one of up to "
            f"{workload.most_nbytes:,} bytes. Take fewer samples, or give another path."
        )
    from pytest_loaderperf.data.formats import write_table

    write_table(pa.RecordBatchReader.from_batches(reader.schema, counted()), path, name)
    return Made(path, name, len(workload), disk_nbytes(path))


def disk_nbytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@dataclass(frozen=True, slots=True)
class Listed:
    """A workload in a list. ``shape`` and ``dtype`` are text, because tables have several of them."""

    name: str
    kind: str
    samples: int
    shape: str
    dtype: str
    nbytes: int


def listed(spec: WorkloadSpec) -> Listed:
    """``spec`` in a list; only the lengths of tokens are generated, and no image is read."""
    shape, dtype = str(spec.shape), spec.dtype
    if spec.factory == "volumes":
        shape = f"{len(spec.inputs)} + {len(spec.targets)} of {spec.shape}"
    elif spec.factory == "tables":
        shape, dtype = f"{len(spec.columns)} columns", ", ".join(dict.fromkeys(kind for _, kind in spec.columns))
    elif spec.factory == "tokens":
        shape = "{} to {}".format(*spec.lengths)
    return Listed(spec.name, spec.kind, spec.samples, shape, dtype, Workload(spec).nbytes)


def bundled() -> list[Listed]:
    """All workloads with a name."""
    return [listed(load_spec(name)) for name in workload_names()]


@dataclass(frozen=True, slots=True)
class Known:
    """A format: how its paths end, and the command that installs it, or none if it is installed."""

    name: str
    suffix: str
    command: str | None


def known_formats() -> list[Known]:
    """All on-disk formats."""
    from pytest_loaderperf.data.formats import FORMATS, missing

    commands = missing()
    return [Known(name, one.suffix, commands.get(name)) for name, one in FORMATS.items()]
