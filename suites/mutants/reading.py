"""One damaged file or folder, read in every way of the project, and the result."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data import check, optimize
from pytest_loaderperf.data.checks.check import _Asked, _checked_table
from pytest_loaderperf.data.checks.findings import CheckResult, Expected, Findings
from pytest_loaderperf.data.checks.images import image_samples, inspect_image
from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.data.stores.mapped import MappedStore
from pytest_loaderperf.errors import DataError
from suites.mutants.mutation import mutate
from suites.mutants.sound import CHECKED, PICTURES

RIGHT, ERROR, OTHER_ROWS, FOREIGN, WRONG = "right", "error", "other rows", "foreign error", "wrong rows"
NUMBERS = ("image", "x", "flag", "label", "tokens", "i", "y")  # columns that `optimize` loads
_DUCKDB_HEADER, _DUCKDB_HEADERS, _DUCKDB_BLOCK = 1 << 12, 3 << 12, 1 << 18  # bytes
BUDGET = 64 << 20  # bytes: for each of the small tables


class Outcome(NamedTuple):
    """``kind``: the result; ``what``: how the file was damaged; ``text``: the error, or what is wrong."""

    kind: str
    what: str
    text: str = ""


class Reader:
    """Reads mutants of the sound files in ``sound``, in the folder ``scratch``, which it empties before each."""

    def __init__(self, name: str, sound: Path, scratch: Path, seed: int) -> None:
        self.name, self._scratch, self._seed = name, scratch, seed
        self._paths = sorted(sound.iterdir())
        self._wanted: dict[Path, Any] = {}

    def mutant(self, index: int) -> tuple[Path, Path, str]:
        """Make the mutant ``index``: the sound one, the path of its mutant, and what was done."""
        rng = Random(f"{self._seed}:{self.name}:{index}")  # noqa: S311 a seed that repeats
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        path = rng.choice(self._paths)
        target = self._scratch / path.name
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copyfile(path, target)
        return path, target, mutate(next((target / "cache").iterdir()) if self.name == "cache" else target, rng)

    def outcome(self, index: int) -> Outcome:
        """The result of reading the mutant ``index``."""
        path, target, what = self.mutant(index)
        read = _pictures if self.name in PICTURES else _cache if self.name == "cache" else _table
        if path not in self._wanted:
            self._wanted[path] = read(path, self.name)
        try:
            found = read(target, self.name)
        except DataError as error:
            return Outcome(ERROR, what, str(error))
        except Exception as error:  # noqa: BLE001 errors are what is tested
            return Outcome(FOREIGN, what, f"{type(error).__module__}.{type(error).__name__}: {error}")
        if found == self._wanted[path]:
            return Outcome(RIGHT, what)
        if self.name == "duckdb" and have_equal_checksums(path, target):
            return Outcome(OTHER_ROWS, what)
        return Outcome(WRONG if self.name in CHECKED else OTHER_ROWS, what)

    def checked(self, index: int) -> Outcome:
        """The result of `data check` for the mutant ``index``, even if the libraries that read it crash."""
        _, target, what = self.mutant(index)
        try:
            result = check(target / "source.parquet" if self.name == "cache" else target)
        except DataError as error:
            return Outcome(ERROR, what, str(error))
        except Exception as error:  # noqa: BLE001 errors are what is tested
            return Outcome(FOREIGN, what, f"{type(error).__module__}.{type(error).__name__}: {error}")
        problems = "; ".join(problem.what for problem in result.problems)
        return Outcome(ERROR if problems else RIGHT, what, problems)


def have_equal_checksums(sound: Path, damaged: Path) -> bool:
    """Whether two DuckDB files differ only in the order of a block's 8-byte words.

    DuckDB's checksum of a block is the XOR of a hash of each word, whatever their order (its src/common/checksum.cpp).
    """
    files = [np.frombuffer(path.read_bytes(), np.uint8) for path in (sound, damaged)]
    if len({len(file) for file in files}) > 1:
        return False
    starts = [*range(0, _DUCKDB_HEADERS, _DUCKDB_HEADER), *range(_DUCKDB_HEADERS, len(files[0]), _DUCKDB_BLOCK)]
    blocks = zip(*(np.split(file, starts[1:]) for file in files), strict=True)
    return all(np.array_equal(*(np.sort(block.view("<u8")) for block in pair)) for pair in blocks)


def _table(path: Path, name: str) -> list[Any]:
    """All ways to read a table. An error is kept until the others are done."""
    raised: list[DataError] = []
    kept: list[Any] = []

    def attempt(way: Any) -> None:
        try:
            kept.append(way())
        except DataError as error:
            raised.append(error)

    attempt(lambda: _inspected(path, name))
    with closing(open_table(path, name)) as table:
        some = np.arange(len(table))[:: max(1, len(table) // 5)][::-1]
        columns = [column for column in table.schema.names if column in NUMBERS]
        attempt(lambda: _values(table.read()))
        attempt(lambda: _values(table.take(some)))
        attempt(lambda: _values(pa.Table.from_batches(table.stream(7), table.schema)))
        if columns and len(table):
            attempt(lambda: _batch(optimize(table, columns=columns, cache="whole", memory_budget=BUDGET)))
    if raised:
        raise raised[0]
    return kept


def _values(table: pa.Table) -> Any:
    """As Python objects, so that every value is read, as by a user."""
    return table.to_pylist()


def _batch(dataset: Any) -> Any:
    """Every sample of a store, as bytes and shapes."""
    batch = dataset.__getitems__(list(range(len(dataset))))
    samples = batch if isinstance(batch, list) else [batch]
    return [
        [(key, str(part.dtype), tuple(part.shape), part.numpy().tobytes()) for key, part in sample.items()]
        for sample in samples
    ]


def _inspected(path: Path, name: str) -> Any:
    """What `data check` does in its child."""
    if name in ("tiff", "ome_zarr"):
        return _pictures(path)
    expected = Expected(None, None, None, 1, stop=True, progress=str)
    return _sound(_checked_table(_Asked(path, name, {}), Findings(10), expected))


def _sound(result: CheckResult) -> int:
    if result.problems and any(problem.row is None for problem in result.problems):
        raise DataError(result.problems[0].what)
    return result.checked


def _pictures(path: Path, _: str = "") -> list[Any]:
    images = [inspect_image(sample) if not sample.wrong else sample for sample in image_samples(path)]
    for image in images:
        if image.wrong:
            raise DataError(f"{image.file} {image.wrong}")
    return [(Path(image.file).name, image.shape, image.dtype) for image in images]


def _cache(path: Path, _: str) -> Any:
    """The existing cache is used if it is undamaged; else it is written again, with the same rows."""
    table = open_table(path / "source.parquet")
    folder = path / "cache"
    try:
        found = _batch(MappedStore(next(folder.glob("[!.]*")), BUDGET))
    except (DataError, StopIteration):
        found = None
    again = _batch(optimize(table, cache="mapped", cache_dir=folder))
    if found not in (None, again):
        raise AssertionError("the damaged cache gave other rows")
    return again
