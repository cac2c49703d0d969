"""Folders that the `datasets` library writes with `save_to_disk`: Arrow streams, and a list of them in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from pytest_loaderperf.data.formats.arrow_ipc import ArrowIpcTable
from pytest_loaderperf.data.formats.dense import is_file_name
from pytest_loaderperf.data.formats.parts import Part, PartsTable
from pytest_loaderperf.data.formats.protocol import OnlyRead
from pytest_loaderperf.errors import DataError

STATE, SPLITS = "state.json", "dataset_dict.json"
_ENDS = (b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0")  # of an Arrow stream; the second until 2019


class SavedDataset(OnlyRead):
    """Format ``saved_dataset``: what ``Dataset.save_to_disk`` and ``DatasetDict.save_to_disk`` write.

    The option ``split`` says which of a DatasetDict.
    """

    name = "saved_dataset"
    suffix = "-dataset"
    package = "pyarrow"
    options = ("split",)

    def open(self, path: Path, **options: Any) -> SavedDatasetTable:
        """The rows in the folder ``path``. Raises DataError."""
        return SavedDatasetTable(path, options)


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``folder`` is one that `save_to_disk` wrote."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


class WholeStreamTable(ArrowIpcTable):
    """A mapped Arrow stream that ends with the mark of its end, as the `datasets` library writes it."""

    def _open(self) -> tuple[pa.Schema, int]:
        opened = super()._open()
        if self._is_stream and not self._map.buffer[-8:].to_pybytes().endswith(_ENDS):
            raise DataError(
                f"{self.path} is truncated: it lacks the mark of the end of an Arrow stream. "
                "Save the dataset again, or copy the whole file."
            )
        return opened


class SavedDatasetTable(PartsTable):
    """The rows of a dataset, in the order of its files."""

    def _opened(self) -> list[Part]:
        folder = self._folder()
        state = _json(folder / STATE)
        if state.get("_indices_files") or state.get("_indices_data_files"):
            raise DataError(
                f"{folder}: expected the rows in its files, got an additional list of indices. "
                "Save it again with dataset.flatten_indices().save_to_disk(path)."
            )
        files = state.get("_data_files")
        names = [one.get("filename") for one in files] if isinstance(files, list) and _all(files, dict) else []
        if not names or not _all(names, str) or not all(map(is_file_name, names)):
            raise DataError(
                f"{folder / STATE}: expected the names of the files of this folder, got {state!r:.200}. Save it again."
            )
        return [Part(WholeStreamTable(folder / name), {}) for name in names]

    def _folder(self) -> Path:
        split = self.options.get("split")
        if (self.path / SPLITS).is_file():
            splits = _json(self.path / SPLITS).get("splits", [])
            if split not in splits:
                raise DataError(
                    f"{self.path} has the splits {', '.join(map(str, splits))}: expected one of them, got {split!r}. "
                    f"Say which to open, as in open_table(path, split={str(next(iter(splits), 'train'))!r})."
                )
            return self.path / str(split)
        if split is not None and split != _json(self.path / STATE).get("_split"):
            raise DataError(f"{self.path} has no splits, got split={split!r}. Leave it out.")
        return self.path


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise DataError(
            f"{file} cannot be read: {error}. Save the dataset again, or give an undamaged file."
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{file}: expected an object of JSON, got {type(found).__name__}. Save the dataset again.")
    return found


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
