"""The regimes that loaders are measured on: data, the work for a sample, and the check of a batch."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
import torch
from PIL import Image
from torch.utils.data import Dataset

from pytest_loaderperf.data import workload
from pytest_loaderperf.data.encoded.pictures import Pictures, open_pictures

TILE = 256  # pixels
TILES = 2_048  # 44 MB of JPEG, 400 MB decoded: more than any cache
QUALITY = 90
PICTURES, SHORTEST, LONGEST = 2_000, 240, 420  # pixels of a side: photographs of many sizes
SIDE = 224  # to which they are resized and cropped, as for training
# Mean levels of 255 by which a sample differs from its picture, made by another decoder, at most: of 500 pictures of
# FFmpeg's at most 13.2, while of 7,000 pairs of different pictures one in a thousand differs by less than 18.
UNLIKE = 18.0
LINES, NUMBERS = 2_000, 1_000
LARGE_ROWS, LARGE_ROW_FLOATS = 1_000, 37_500  # 150 kB each
CHEAP_ROWS, CHEAP_FLOATS = 20_000, 60

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Regime:
    """``raw[i]`` becomes sample ``i``, an array of ``shape`` and ``dtype``, by ``make``; its label is ``i`` itself.

    ``in_arrays``: ``raw`` is one array of samples. ``map_only``: so it is, but the loader is to see it as a map-style
    dataset with ``__getitem__`` alone. ``releases_gil``: ``make`` works with the interpreter lock released.
    ``make_into(raw[i], out)`` does the same to an array that is given. ``pictures`` opens the files or the column that
    ``raw`` reads with our own decoder.
    """

    name: str
    title: str
    batch_size: int
    raw: Any  # a list, or an array of samples
    make: Callable[[Any], np.ndarray]
    shape: tuple[int, ...]
    dtype: torch.dtype
    in_arrays: bool = False
    map_only: bool = False
    releases_gil: bool = False
    make_into: Callable[[Any, np.ndarray], None] | None = None
    pictures: Callable[[], Pictures] | None = None

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def epoch_batches(self) -> int:
        return -(-len(self) // self.batch_size)

    @property
    def sample_nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @cached_property
    def labels(self) -> np.ndarray:
        return np.arange(len(self), dtype=np.int64)

    @property
    def dataset(self) -> Rows | Made:
        """An ordinary map-style dataset: one sample a call."""
        return Rows(self) if self.in_arrays or self.map_only else Made(self)

    @property
    def writing_dataset(self) -> Written:
        """The same with ``__getitem_into__``, which writes a sample directly into the batch."""
        return Written(self)

    @property
    def opened_dataset(self) -> Opened | None:
        """The result of `open_pictures`, if the regime's samples are in files or a column."""
        return None if self.pictures is None else Opened(self.pictures())

    def is_sample(self, made: torch.Tensor, index: int) -> bool:
        """Whether ``made`` is sample ``index``, from any decoder."""
        expected = torch.from_numpy(self.make(self.raw[index]))
        if self.make_into is None:
            return torch.equal(made, expected)
        return made.shape == expected.shape and float((made.float() - expected.float()).abs().mean()) < UNLIKE

    @property
    def batched_dataset(self) -> BatchedRows | BatchedMade:
        """The same with ``__getitems__``, which gives a finished batch: use it with ``collate_fn=as_is``."""
        return BatchedRows(self) if self.in_arrays or self.map_only else BatchedMade(self)


class Rows(Dataset[Any]):
    """Rows of a tensor, each with its number."""

    def __init__(self, regime: Regime) -> None:
        self.features = torch.from_numpy(regime.raw)
        self.labels = torch.from_numpy(regime.labels)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.features[index], index


class BatchedRows(Rows):
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        return self.features[chosen], self.labels[chosen]


class Made(Dataset[Any]):
    """Samples that are made on request."""

    def __init__(self, regime: Regime) -> None:
        self.raw, self.make = regime.raw, regime.make

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.make(self.raw[index])), index


class Written(Made):
    def __init__(self, regime: Regime) -> None:
        super().__init__(regime)
        self.make_into = regime.make_into

    def __getitem_into__(self, index: int, out: Any) -> tuple[torch.Tensor, int]:
        assert self.make_into is not None
        self.make_into(self.raw[index], out[0].numpy())
        return out[0], index


class Opened(Dataset[Any]):
    """Our own pictures, each with its number."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.pictures[index]["image"], index

    def __getitem_into__(self, index: int, out: Any) -> tuple[torch.Tensor, int]:
        return self.pictures.__getitem_into__(index, {"image": out[0]})["image"], index


class BatchedMade(Made):
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        make, raw = self.make, self.raw
        return torch.from_numpy(np.stack([make(raw[i]) for i in indices])), torch.as_tensor(indices)


def decode(blob: bytes) -> np.ndarray:
    """One tile, ``(256, 256, 3)`` uint8. simplejpeg is libjpeg-turbo with the interpreter lock released.

    imagecodecs is as fast and twenty times as large; OpenCV gives BGR, and starts threads of its own.
    """
    pixels: np.ndarray = simplejpeg.decode_jpeg(blob)
    return pixels


def decode_into(blob: bytes, out: np.ndarray) -> None:
    """The same to ``out``."""
    simplejpeg.decode_jpeg(blob, buffer=out)


def resized(blob: bytes) -> np.ndarray:
    """A photograph as in training: its middle, ``(224, 224, 3)`` uint8.

    libjpeg-turbo halves a large one while it decodes; Pillow crops and resizes at once. Both release the lock.
    """
    pixels = Image.fromarray(simplejpeg.decode_jpeg(blob, min_height=SIDE, min_width=SIDE))
    side = min(pixels.size)
    left, top = ((length - side) / 2 for length in pixels.size)
    box = (left, top, left + side, top + side)
    return np.asarray(pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box))


def resized_into(blob: bytes, out: np.ndarray) -> None:
    """The same to ``out``."""
    out[:] = resized(blob)


def parse(line: str) -> np.ndarray:
    """``NUMBERS`` float32 from one line of CSV, as one writes it by hand."""
    return np.array([float(field) for field in line.split(",")], np.float32)


def _itself(row: np.ndarray) -> np.ndarray:
    return row


def encode_tiles() -> list[bytes]:
    """``TILES`` overlapping tiles of the two photographs that scikit-learn bundles, as JPEG."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    tiles = []
    for number in range(TILES):
        photograph = photographs[number % len(photographs)]
        top, left = (rng.integers(0, size - TILE) for size in photograph.shape[:2])
        tile = np.ascontiguousarray(photograph[top : top + TILE, left : left + TILE])
        tiles.append(simplejpeg.encode_jpeg(tile, quality=QUALITY, colorsubsampling="420"))
    return tiles


def encode_pictures() -> list[bytes]:
    """``PICTURES`` parts of the same photographs, of many sizes, as JPEG."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng(1)
    pictures = []
    for number in range(PICTURES):
        photograph = photographs[number % len(photographs)]
        height, width = rng.integers(SHORTEST, LONGEST, 2)
        top, left = (
            rng.integers(0, size - length) for size, length in zip(photograph.shape, (height, width), strict=False)
        )
        part = np.ascontiguousarray(photograph[top : top + height, left : left + width])
        pictures.append(simplejpeg.encode_jpeg(part, quality=QUALITY, colorsubsampling="420"))
    return pictures


class Files(Sequence[bytes]):
    """The bytes of the files in a folder, read on request."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(map(str, folder.iterdir()))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        with open(self.paths[index], "rb") as file:  # noqa: PTH123 as one writes it where files are many
            return file.read()


class Column(Sequence[bytes]):
    """The values of a column of bytes, each a view of the table's memory."""

    def __init__(self, file: Path) -> None:
        self._values = pq.read_table(file)["image"].combine_chunks()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._values[int(index)].as_py()


def prepare(folder: Path) -> None:
    """Write the data that would take every child too long to make."""
    (folder / "tiles.pickle").write_bytes(pickle.dumps(encode_tiles()))
    pictures = encode_pictures()
    (folder / "pictures").mkdir()
    for number, picture in enumerate(pictures):
        (folder / "pictures" / f"{number:05d}.jpg").write_bytes(picture)
    pq.write_table(
        pa.table({"image": pa.array(pictures, pa.binary())}), folder / "pictures.parquet", row_group_size=256
    )


def _vectors(name: str, title: str, batch_size: int) -> Regime:
    features = workload("vectors").features
    return Regime(name, title, batch_size, features, _itself, features.shape[1:], torch.float32, in_arrays=True)


def _uniform(rows: int, floats: int) -> np.ndarray:
    return np.random.default_rng(0).random((rows, floats), dtype=np.float32)


def _pictures(name: str, title: str, raw: Any, make: Any, make_into: Any, *, side: int, path: Any = None) -> Regime:
    shape, opened = (side, side, 3), None if path is None else partial(open_pictures, path, size=side)
    more = {"releases_gil": True, "make_into": make_into, "pictures": opened}
    return Regime(name, title, 32, raw, make, shape, torch.uint8, **more)


def _large_rows(name: str, _folder: Path) -> Regime:
    raw, title = _uniform(LARGE_ROWS, LARGE_ROW_FLOATS), "in memory, 1,000 rows of 150 kB, batch 32"
    return Regime(name, title, 32, raw, _itself, raw.shape[1:], torch.float32, in_arrays=True)


def _tiles(name: str, folder: Path) -> Regime:
    blobs = pickle.loads((folder / "tiles.pickle").read_bytes())  # noqa: S301 we wrote it
    title = f"JPEG decode, {TILES:,} tiles of {TILE} x {TILE}, batch 32"
    return _pictures(name, title, blobs, decode, decode_into, side=TILE)


def _folder(name: str, folder: Path) -> Regime:
    title = f"{PICTURES:,} JPEG files of {SHORTEST} to {LONGEST} pixels, resized and cropped to {SIDE}, batch 32"
    return _pictures(name, title, Files(path := folder / "pictures"), resized, resized_into, side=SIDE, path=path)


def _encoded(name: str, folder: Path) -> Regime:
    title = f"the same JPEGs in a column of a Parquet file, resized and cropped to {SIDE}, batch 32"
    return _pictures(
        name, title, Column(path := folder / "pictures.parquet"), resized, resized_into, side=SIDE, path=path
    )


def _lines(name: str, _folder: Path) -> Regime:
    lines = [",".join(f"{value:.6f}" for value in row) for row in _uniform(LINES, NUMBERS).tolist()]
    title = f"pure Python, a CSV line of {NUMBERS:,} numbers, batch 32"
    return Regime(name, title, 32, lines, parse, (NUMBERS,), torch.float32)


def _cheap(name: str, _folder: Path) -> Regime:
    raw, title = _uniform(CHEAP_ROWS, CHEAP_FLOATS), "pure Python, __getitem__ returns a row and an int, batch 32"
    return Regime(name, title, 32, raw, _itself, raw.shape[1:], torch.float32, map_only=True)


_LOAD: dict[str, Callable[[str, Path], Regime]] = {
    "vectors": lambda name, _folder: _vectors(name, "in memory, 10,000 x 784 float32, batch 32", 32),
    "vectors-256": lambda name, _folder: _vectors(name, "in memory, 10,000 x 784 float32, batch 256", 256),
    "large-rows": _large_rows,
    "decode": _tiles,
    "folder": _folder,
    "encoded": _encoded,
    "parse": _lines,
    "cheap": _cheap,
}
NAMES = tuple(_LOAD)


def load(name: str, folder: Path) -> Regime:
    """The regime called ``name``; ``folder`` is where ``prepare`` wrote."""
    if name not in _LOAD:
        raise ValueError(f"unknown regime {name!r}. Known: {', '.join(NAMES)}.")
    return _LOAD[name](name, folder)
