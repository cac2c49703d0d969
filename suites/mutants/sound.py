"""Small sound files of every format that the project opens, in the forms that users have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.data.formats.ome_zarr import OmeZarr

ROWS = 24
FEW = 6  # images of a folder: each is a file or more
SIDE = 12  # of an image, pixels


def _numbers(rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(7)
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(rng.integers(0, 256, (rows, 4, 5), np.uint8))
    floats = rng.random(rows, np.float32)
    return pa.table({"image": images, "x": floats, "flag": floats > 0.5, "label": np.arange(rows) % 3})


def _everything() -> pa.Table:
    rng = np.random.default_rng(8)
    places = range(ROWS)
    return (
        _numbers()
        .append_column("text", pa.array([None if i == 4 else f"some text {i}" * (i % 4) for i in places]))
        .append_column("tokens", pa.array([rng.integers(0, 99, i % 5).tolist() for i in places], pa.list_(pa.int32())))
        .append_column("pair", pa.array([{"a": i, "b": [f"{i}"] * (i % 3)} for i in places]))
        .append_column("kind", pa.array([f"kind {i % 3}" for i in places]).dictionary_encode())
        .append_column("bytes", pa.array([bytes([i]) * i for i in places], pa.binary()))
    )


def _images(folders: int = 2) -> pa.Table:
    rng = np.random.default_rng(9)
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(rng.integers(1, 999, (FEW, SIDE, SIDE)).astype(np.uint16))
    return pa.table({"image": images, "label": np.arange(FEW) % folders})


def _pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(10)
    return list(rng.integers(0, 256, (FEW, SIDE, SIDE, 3), np.uint8))


def _parquet(folder: Path) -> None:
    write_table(_everything(), folder / "ours.parquet")
    options: dict[str, Any] = {"data_page_version": "2.0", "write_page_checksum": True, "row_group_size": 10}
    pq.write_table(_everything(), folder / "zstd.parquet", compression="zstd", **options)
    pq.write_table(_everything(), folder / "plain.parquet", compression="none", use_dictionary=False)


def _arrow(folder: Path) -> None:
    table = _everything()
    write_table(table, folder / "ours.arrow")
    with pa.ipc.new_file(folder / "lz4.arrow", table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as out:
        out.write_table(table, 10)
    with pa.ipc.new_stream(folder / "stream.arrow", table.schema) as out:
        out.write_table(table, 10)


def _lance(folder: Path) -> None:
    import lance

    write_table(_everything(), folder / "ours.lance")
    lance.write_dataset(_numbers(), folder / "two.lance")
    lance.write_dataset(_numbers(), folder / "two.lance", mode="append")


def _duckdb(folder: Path) -> None:
    import duckdb

    write_table(_everything(), folder / "ours.duckdb")
    with duckdb.connect(str(folder / "gaps.duckdb")) as database:
        database.execute("CREATE TABLE t AS SELECT range AS i, range::VARCHAR AS s, [range] AS l FROM range(3000)")
        database.execute("DELETE FROM t WHERE i % 7 = 0")


def _vortex(folder: Path) -> None:
    write_table(_everything(), folder / "ours.vortex")
    write_table(_numbers(), folder / "numbers.vortex")


def _tiff(folder: Path) -> None:
    import tifffile

    write_table(_images(), folder / "ours-tiff")
    planes = _images()["image"].combine_chunks().to_numpy_ndarray()
    others: dict[str, dict[str, Any]] = {
        "deflate-tiff": {"compression": "zlib", "rowsperstrip": 5},
        "tiles-tiff": {"compression": "lzw", "tile": (16, 16), "predictor": True},
        "big-tiff": {"bigtiff": True, "byteorder": ">"},
        "jpeg-tiff": {"compression": "jpeg"},
        "ome-tiff": {"ome": True, "metadata": {"axes": "ZYX"}},
    }
    for name, options in others.items():
        (folder / name).mkdir()
        for i in range(3):
            image = planes[i].astype(np.uint8) if "jpeg" in name else planes[i : i + 2] if "ome" in name else planes[i]
            tifffile.imwrite(folder / name / f"{i}.tif", image, photometric="minisblack", **options)


def _ome_zarr(folder: Path) -> None:
    OmeZarr().write(_images().to_reader(), folder / "three-ome-zarr")
    OmeZarr(2).write(_images(1).to_reader(), folder / "two-ome-zarr")
    OmeZarr(sharded=True).write(_images(1).to_reader(), folder / "sharded-ome-zarr")


def _safetensors(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    write_table(_numbers(), folder / "ours.safetensors")
    save_file({"x": torch.arange(ROWS, dtype=torch.bfloat16), "y": torch.ones(ROWS, 3)}, folder / "bf16.safetensors")


def _npy(folder: Path) -> None:
    write_table(_numbers(), folder / "ours-npy")
    (folder / "plain-npy").mkdir()
    np.save(folder / "plain-npy" / "x.npy", np.asfortranarray(np.arange(ROWS * 3, dtype=">i4").reshape(ROWS, 3)))
    np.save(folder / "plain-npy" / "y.npy", np.arange(ROWS, dtype=np.float16))


def _pictures_of(suffix: str, **options: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from PIL import Image

        (folder / "pictures").mkdir()
        for i, pixels in enumerate(_pictures()):
            Image.fromarray(pixels).save(folder / "pictures" / f"{i}{suffix}", **options)

    return write


def _cache(folder: Path) -> None:
    """Each cache in its own folder, next to the table that it was made from."""
    for name, columns in (("uniform", ["image", "x", "label"]), ("ragged", ["tokens", "x"])):
        (folder / name).mkdir()
        write_table(_everything().select(columns), folder / name / "source.parquet")
        optimize(open_table(folder / name / "source.parquet"), cache="mapped", cache_dir=folder / name / "cache")


MAKERS: dict[str, Callable[[Path], None]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "lance": _lance,
    "duckdb": _duckdb,
    "vortex": _vortex,
    "tiff": _tiff,
    "ome_zarr": _ome_zarr,
    "safetensors": _safetensors,
    "npy": _npy,
    "png": _pictures_of(".png"),
    "jpeg": _pictures_of(".jpg"),
    "webp": _pictures_of(".webp", lossless=True),
    "bmp": _pictures_of(".bmp"),
    "cache": _cache,
}
PICTURES = ("png", "jpeg", "webp", "bmp")  # which `data check` reads
CHECKED = ("duckdb", "cache")  # every byte that is read has a checksum: other rows are a fault


def make(name: str, folder: Path) -> None:
    """Write the sound files of the format called ``name`` into ``folder``, each file or folder in it a sample."""
    folder.mkdir(parents=True)
    MAKERS[name](folder)
