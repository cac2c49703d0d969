"""Errors name the row of the table and its file, however a store came by the row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array
from pytest_loaderperf.data.stores import background, compressed, mapped, whole
from pytest_loaderperf.errors import DataError

ROWS, BAD = 90, 77
CACHES = ["whole", "chunked", "mapped", "compressed", "lru", "lazy", "background"]


def null_number():
    return pa.array([None if i == BAD else i for i in range(ROWS)])


def null_list():
    return pa.array([None if i == BAD else [i, i] for i in range(ROWS)])


def null_item():
    return pa.array([[[i, None]] if i == BAD else [[i, i]] for i in range(ROWS)])


def null_in_fixed_list():
    return pa.array([[i, None] if i == BAD else [i, i] for i in range(ROWS)], pa.list_(pa.int64(), 2))


def jagged():
    return pa.array([[[1], [1, 2]] if i == BAD else [[1], [2]] for i in range(ROWS)])


def images(change):
    structs = ome_arrow_array(np.ones((ROWS, 2, 2), np.uint16)).to_pylist()
    change(structs[BAD])
    return pa.array(structs, ome_arrow_array(np.ones((1, 2, 2), np.uint16)).type)


def null_image():
    return pa.array(
        [None if i == BAD else image for i, image in enumerate(images(lambda one: None).to_pylist())],
        images(lambda one: None).type,
    )


def null_meta():
    return images(lambda image: image.update(pixels_meta=None))


def null_pixel():
    return images(lambda image: image["planes"][0]["pixels"].__setitem__(3, None))


def no_planes():
    return images(lambda image: image.update(planes=[]))


def few_pixels():
    return images(lambda image: image["planes"][0]["pixels"].pop())


def plane_elsewhere():
    return images(lambda image: image["planes"][0].update(z=5))


KINDS = [null_number, null_list, null_item, null_in_fixed_list, jagged]
KINDS += [null_image, null_meta, null_pixel, no_planes, few_pixels, plane_elsewhere]


@pytest.fixture
def make(tmp_path, monkeypatch):
    for module, name in [(compressed, "BLOCK_NBYTES"), (mapped, "BLOCK_NBYTES"), (whole, "CHUNK_NBYTES")]:
        monkeypatch.setattr(module, name, 100)
    monkeypatch.setattr(background, "CHUNK_NBYTES", 100)

    def store(table, cache):
        if cache == "background":
            return optimize(table, background=True)
        return optimize(table, cache=cache, cache_dir=tmp_path / "c")

    return store


def name_of(kind):
    return kind.__name__


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("cache", CACHES)
def test_the_row_of_the_table_and_its_file_are_named(kind, cache, make, on_disk):
    source = on_disk(pa.table({"row 0": kind()}))
    asks = {
        "one": lambda store: store[BAD],
        "last": lambda store: store[BAD - ROWS],
        "list": lambda store: store[[BAD + 1, 3, BAD]],
        "array": lambda store: store[np.array([2, BAD, 80])],
        "slice": lambda store: store[BAD - 2 : BAD + 2],
        "samples": lambda store: store.__getitems__([BAD]),
        "all": lambda store: [store.wait(), store[list(range(ROWS))]],
    }
    for ask, asked in asks.items():
        with pytest.raises(DataError) as caught:
            asked(make(source, cache))
        text = str(caught.value)
        assert text.startswith(f"{source.path}: column 'row 0'"), ask
        assert text.count(str(source.path)) == 1
        assert f"row {BAD}" in text.replace("'row 0'", ""), (ask, text)


def test_several_bad_rows_give_the_first_of_those_asked_for(make):
    table = pa.table({"x": pa.array([None if i in (40, 60, 77) else i for i in range(ROWS)])})
    for cache in ("lru", "lazy"):
        store = make(table, cache)
        for indices, bad in [([77, 3, 60], 60), ([41, 77], 77), ([40], 40)]:
            with pytest.raises(DataError, match=f"is null in row {bad}, and"):
                store[indices]
        assert store[[41, 61]]["x"].tolist() == [41, 61]
