"""A store in an Arrow IPC file that every process maps into its memory, so that all share one copy of the rows.

Each record batch has a block of rows: for each column their number, their values one after the other, and their
shapes, or the one shape of all.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.arrays.columns import Gathered
from pytest_loaderperf.data.arrays.mapping import FileMapping
from pytest_loaderperf.data.arrays.ragged import Flat, alike, one_shape, settled
from pytest_loaderperf.data.stores.blocks import column_of_blocks
from pytest_loaderperf.data.stores.cache_file import Stamp, open_own, private_folder, seal, stamp_of, verify
from pytest_loaderperf.data.stores.identity import digest, made_from, refuse_inside
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.data.stores.store import Store, Taken
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("pytest_loaderperf")
LAYOUT = b"loaderperf-cache-2"  # the key of the file's own description, and part of its name
BLOCK_NBYTES = 64 << 20  # in memory while it is written; few blocks, because a batch is gathered block by block
_BLOCKS = 4  # that fit the limit: one as read, one as written, and two in between


class MappedStore(Store):
    """The rows in the cache file at ``path``; this process holds at most about ``most_nbytes`` of them at a time.

    It is pickled as path, limit and the stamp of the verified file. The complete file is read once if ``checked`` is
    another stamp. Raises DataError if the file is damaged, or others may have written it.
    """

    def __init__(self, path: Path, most_nbytes: int, checked: Stamp | None = None) -> None:
        self._open(path, most_nbytes, checked)

    def _open(self, path: Path, most_nbytes: int, checked: Stamp | None) -> None:
        self.path, self._most_nbytes = path, most_nbytes
        try:
            with open_own(path) as file:
                self._checked = stamp_of(os.fstat(file.fileno()))
                if self._checked != checked:
                    verify(file)
                kept = _read(FileMapping(file, most_nbytes), path)
        except (OSError, ValueError, KeyError) as error:
            raise DamagedCacheError(
                f"the cache {path} cannot be read ({error}). Expected what optimize wrote there; call it again."
            ) from error
        self._keep(kept)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "most_nbytes": self._most_nbytes, "checked": self._checked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(**state)


class DamagedCacheError(DataError):
    """The file is not one that this module completely wrote for this user."""


def mapped(source: Source, cache_dir: Path | None, most_nbytes: int) -> MappedStore:
    """The rows of ``source`` from their cache file, which is written if it is missing or damaged.

    Raises DataError if the file cannot be written; one that was there stays as it was.
    """
    folder = cache_dir or default_folder()
    files = source.files()
    if files is not None:
        refuse_inside(folder, source.table.path, files)
    identity = source.identity(files)
    return _stored(identity, partial(_build, source, identity), folder, most_nbytes)


def mapped_object(
    table: Any, source: Callable[[], Source], key: Sequence[Any], cache_dir: Path | None, most_nbytes: int
) -> MappedStore:
    """The rows of ``table``, of an object store, from the cache file of its version, or else of ``source()``.

    Nothing of the table is read if the file is there. ``key``: what else determines its rows. Raises DataError.
    """
    identity = digest("object", made_from(table), *key).hexdigest()

    def build(new: Path, block_nbytes: int) -> None:
        _write(source(), identity, new, block_nbytes)

    return _stored(identity, build, cache_dir or default_folder(), most_nbytes)


def _stored(identity: str, build: Callable[[Path, int], None], folder: Path, most_nbytes: int) -> MappedStore:
    """The file called ``identity`` in ``folder``; ``build`` writes a missing or damaged one, with blocks of a size."""
    from pytest_loaderperf.data.formats.writing import complete_or_absent, remove_abandoned

    path = folder.absolute() / _file_name(identity)
    private_folder(folder)
    if os.path.lexists(path):
        remove_abandoned(path)
        try:
            return MappedStore(path, most_nbytes)
        except DamagedCacheError as error:
            _log.warning("%s It is written again.", error)
    advice = 'free some space, or give another cache_dir, or cache="lru", which needs no disk'
    with complete_or_absent(path, advice) as new:
        build(new, min(BLOCK_NBYTES, max(1 << 20, most_nbytes // _BLOCKS)))
    return MappedStore(path, most_nbytes, stamp_of(path.stat()))


def _build(source: Source, identity: str, new: Path, block_nbytes: int) -> None:
    """Write the source's current rows; the table may have been opened before they were written. Raises DataError."""
    with source.reopened() as current:
        _write(current, identity, new, block_nbytes)
        if current.identity(current.files()) != identity:
            raise DataError(
                "the source changed after it was opened, or while it was cached. "
                "Open it again when it no longer changes."
            )


def _file_name(identity: str) -> str:
    return f"{LAYOUT.decode()}-{identity}.arrow"


def default_folder() -> Path:
    """The folder of this user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loaderperf"


def _write(source: Source, identity: str, file: Path, block_nbytes: int) -> None:
    import pyarrow as pa

    flats = source.first
    dtypes = {name: flat.values.dtype for name, flat in flats.items()}
    about = {
        name: {"dtype": dtypes[name].str, "axes": flat.shapes.shape[1], "droppable": flat.droppable}
        for name, flat in flats.items()
    }
    fields = [pa.field(name, _block_type(dtype)) for name, dtype in dtypes.items()]
    facts = {"identity": identity, "rows": len(source), "columns": about}
    schema = pa.schema(fields, metadata={LAYOUT: json.dumps(facts)})
    with pa.ipc.new_file(file, schema) as writer:
        for chunk in source.chunks(block_nbytes):
            blocks = [_block(chunk.flat(name), dtypes[name]) for name in source.names]
            writer.write_batch(pa.record_batch(blocks, schema=schema))
            del chunk, blocks
            pa.default_memory_pool().release_unused()  # or it keeps the memory for later
    seal(file)


def _block_type(dtype: np.dtype[Any]) -> pa.StructType:
    import pyarrow as pa

    values = pa.from_numpy_dtype(_written_as(dtype))
    return pa.struct([("rows", pa.int64()), ("values", pa.large_list(values)), ("shapes", pa.large_list(pa.int64()))])


def _written_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Bools as bytes, of which Arrow stores eight in one, and complex numbers, which it lacks, as their parts."""
    if dtype.kind == "c":
        return np.dtype(f"f{dtype.itemsize // 2}")
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _block(flat: Flat, dtype: np.dtype[Any]) -> pa.StructArray:
    import pyarrow as pa

    kind = _block_type(dtype)
    one = one_shape(flat.shapes)
    shapes = flat.shapes.ravel() if one is None else np.array(one, np.int64)
    values = _one_list(flat.values.view(_written_as(dtype)))
    parts = [pa.array([len(flat.shapes)]), values, _one_list(shapes)]
    return pa.StructArray.from_arrays(parts, fields=list(kind))


def _one_list(items: np.ndarray) -> pa.LargeListArray:
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(pa.array([0, len(items)], pa.int64()), pa.array(items))


@dataclass(frozen=True, slots=True, eq=False)
class _Mapped:
    items: np.ndarray

    def values(self) -> np.ndarray:
        return self.items


def _read(mapping: FileMapping, path: Path) -> Mapping[str, np.ndarray | Gathered | Taken]:
    """The columns over the file at ``path``. Raises ValueError or KeyError if it is not what it is called."""
    import pyarrow as pa

    reader = pa.ipc.open_file(pa.BufferReader(mapping.buffer))
    about = json.loads((reader.schema.metadata or {})[LAYOUT])
    if path.name != _file_name(about["identity"]):
        raise ValueError("it is the cache of another source")
    batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    kept = {}
    for name, facts in about["columns"].items():
        flats = [_flat(batch.column(name), facts) for batch in batches]
        if sum(len(flat.shapes) for flat in flats) != about["rows"]:
            raise ValueError(f"it lacks some of its {about['rows']} rows")
        kept[name] = _column(flats, np.dtype(facts["dtype"]), mapping)
    return kept


def _flat(block: pa.StructArray, facts: dict[str, Any]) -> Flat:
    values, shapes = (block.field(field).values.to_numpy() for field in ("values", "shapes"))
    rows, axes = block.field("rows")[0].as_py(), facts["axes"]
    uniform = len(shapes) == axes
    return Flat(
        values.view(facts["dtype"]),
        alike(rows, shapes.tolist()) if uniform else shapes.reshape(rows, axes),
        facts["droppable"],
    )


def _column(flats: list[Flat], dtype: np.dtype[Any], mapping: FileMapping) -> np.ndarray | Gathered | Taken:
    if len(flats) == 1 and not mapping.bounded:
        return settled(flats[0])
    shapes = [flat.shapes for flat in flats]
    blocks = [_Mapped(flat.values) for flat in flats]
    return column_of_blocks(blocks, shapes, dtype, flats[0].droppable, mapping.note_read)
