from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from pytest_loaderperf import Collate, ReferenceLoader, optimize
from pytest_loaderperf.data import check
from pytest_loaderperf.data.encoded import decoder, held, pictures
from pytest_loaderperf.data.encoded.pictures import open_pictures, with_pictures
from pytest_loaderperf.data.formats import format_of, open_table, write_table
from pytest_loaderperf.data.workloads.make import checked_target
from pytest_loaderperf.errors import DataError
from tests.data.encoded.encode import encoded, image_of, smooth

CACHES = ["whole", "chunked", "mapped", "compressed", "lru", "lazy"]
KINDS = ["PNG", "JPEG", "WEBP", "BMP", "GIF"]
ENDINGS = dict(zip(KINDS, [".png", ".JPG", ".webp", ".bmp", ".gif"], strict=True))


def shapes(number):
    return 10 + number, 30 - number


@pytest.fixture(scope="session")
def blobs():
    """Ten pictures of each kind and of ten sizes, one of them turned."""
    made = []
    for number in range(10):
        kind = KINDS[number % 5]
        image = Image.fromarray(smooth(*shapes(number), seed=number))
        made.append(encoded(image, kind, 6 if number == 1 else None))
    return made


def by_pillow(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def folder_of(path, blobs, names=("cat", "dog")):
    for number, data in enumerate(blobs):
        below = path / names[number * len(names) // len(blobs)]
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number}{ENDINGS[KINDS[number % 5]]}").write_bytes(data)
    return path


def column_of(kind, blobs):
    if kind == "struct":
        return pa.array([{"bytes": data, "path": None} for data in blobs])
    return pa.array(blobs, {"binary": pa.binary(), "large": pa.large_binary(), "view": pa.binary_view()}[kind])


def table_of(blobs, kind="binary"):
    return pa.table({"image": column_of(kind, blobs), "label": pa.array(np.arange(len(blobs)) % 3, pa.int32())})


@pytest.fixture(params=["folder", "parquet", "arrow", "struct", "memory"])
def source(request, blobs, tmp_path):
    """What pictures are opened from."""
    if request.param == "folder":
        return folder_of(tmp_path / "photos", blobs)
    table = table_of(blobs, "struct" if request.param == "struct" else "binary")
    if request.param == "memory":
        return table
    path = tmp_path / f"photos.{'arrow' if request.param == 'arrow' else 'parquet'}"
    write_table(table, path)
    return path


def test_samples_and_rows_are_what_pillow_makes_of_the_pictures(source, blobs):
    opened = open_pictures(source)
    assert len(opened) == 10
    assert opened.sizes().tolist() == [list(by_pillow(data).shape[:2]) for data in blobs]
    rows = opened.read()
    for number, data in enumerate(blobs):
        np.testing.assert_array_equal(opened[number]["image"].numpy(), by_pillow(data))
        np.testing.assert_array_equal(np.array(rows["image"][number].as_py(), np.uint8), by_pillow(data))
    assert [opened[number]["label"].item() for number in range(10)] == rows["label"].to_pylist()
    assert torch.equal(opened[-1]["image"], opened[9]["image"])
    taken = opened.take(np.array([7, 1, 1]), ["image"])
    assert [np.array(one, np.uint8).shape for one in taken["image"].to_pylist()] == [
        (17, 23, 3),
        (29, 11, 3),
        (29, 11, 3),
    ]
    with pytest.raises(IndexError, match="index 10 is out of range"):
        opened[10]


@pytest.mark.parametrize("options", [{}, {"size": 12}, {"size": (9, 14), "fit": "pad", "mode": "L"}])
@pytest.mark.parametrize("cache", CACHES)
def test_a_store_has_the_samples_that_are_decoded_when_asked_for(source, cache, options, tmp_path):
    opened = open_pictures(source, **options)
    if cache == "mapped" and isinstance(source, pa.Table):
        pytest.skip("has no path that a cache is known by")
    store = optimize(opened, cache=cache, cache_dir=tmp_path / "cache")
    for number in range(10):
        assert torch.equal(store[number]["image"], opened[number]["image"])
        assert torch.equal(store[number]["label"], opened[number]["label"])


def test_optimize_finds_the_columns_of_pictures_itself(blobs, tmp_path):
    pq.write_table(table_of(blobs), tmp_path / "photos.parquet")
    for given in (table_of(blobs), table_of(blobs, "struct"), open_table(tmp_path / "photos.parquet")):
        np.testing.assert_array_equal(optimize(given)[4]["image"].numpy(), by_pillow(blobs[4]))
    assert optimize(table_of(blobs), columns=["label"])[1].keys() == {"label"}
    uniform = optimize(pa.table({"image": [blobs[0]] * 3}), background=True)
    assert uniform[2]["image"].shape == (10, 30, 3)


@pytest.mark.parametrize("kind", ["binary", "large", "view", "struct"])
def test_each_type_of_column_is_read(kind, blobs):
    opened = open_pictures(table_of(blobs, kind))
    np.testing.assert_array_equal(opened[3]["image"].numpy(), by_pillow(blobs[3]))


def test_a_struct_without_bytes_names_a_file_beside_the_table(blobs, tmp_path):
    (tmp_path / "a.png").write_bytes(blobs[0])
    rows = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": blobs[1], "path": "lost.png"}])
    pq.write_table(pa.table({"image": rows}), tmp_path / "photos.parquet")
    opened = open_pictures(tmp_path / "photos.parquet")
    np.testing.assert_array_equal(opened[0]["image"].numpy(), by_pillow(blobs[0]))
    np.testing.assert_array_equal(opened[1]["image"].numpy(), by_pillow(blobs[1]))
    assert check(tmp_path / "photos.parquet").good


def test_other_bytes_are_no_pictures():
    other = pa.table({"sound": [b"RIFF\0\0\0\0WAVE"], "struct": [{"bytes": b"fLaC", "path": "a"}]})
    assert with_pictures(other) is other
    with pytest.raises(DataError) as caught:
        open_pictures(other)
    assert str(caught.value) == (
        "the table in memory: expected columns of encoded pictures, as binary or structs of bytes and path, "
        "got sound of binary, struct of struct<bytes: binary, path: string>."
    )
    with pytest.raises(DataError, match="expected columns out of sound, struct, got image"):
        open_pictures(other, columns=["image"])


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2}, {"num_workers": 2, "worker_kind": "threads"}])
@pytest.mark.parametrize("loader", [ReferenceLoader, DataLoader])
def test_batches_are_the_samples(source, loader, workers):
    if loader is DataLoader and "worker_kind" in workers:
        pytest.skip("torch's has no threads")
    opened = open_pictures(source, size=8)
    batches = list(loader(opened, batch_size=4, **workers))
    assert torch.equal(torch.cat([b["image"] for b in batches]), torch.stack([opened[i]["image"] for i in range(10)]))
    assert torch.equal(torch.cat([b["label"] for b in batches]), torch.stack([opened[i]["label"] for i in range(10)]))


def test_a_sample_is_decoded_into_the_batch_that_is_given(source):
    opened = open_pictures(source, size=8)
    batch = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
    sample = opened.__getitem_into__(2, {"image": batch[1], "label": None})
    assert sample["image"].data_ptr() == batch[1].data_ptr()
    assert torch.equal(batch[1], opened[2]["image"])
    assert not batch[::2].any()
    ragged = open_pictures(source).__getitem_into__(2, {"image": batch[0], "label": None})
    assert ragged["image"].shape == (12, 28, 3)
    assert not batch[0].any()


def test_pictures_of_many_sizes_are_listed_or_padded_by_the_collate_function(source):
    opened = open_pictures(source)
    listed = next(iter(ReferenceLoader(opened, batch_size=4, collate_fn=Collate(ragged="list"))))
    assert [tuple(one.shape) for one in listed["image"]] == [(10, 30, 3), (29, 11, 3), (12, 28, 3), (13, 27, 3)]
    padded = next(iter(ReferenceLoader(opened, batch_size=4, collate_fn=Collate(ragged="pad"))))
    assert any(tuple(t.shape) == (4, 29, 30, 3) for t in padded.values() if isinstance(t, torch.Tensor))


def test_a_folder_has_the_labels_of_image_folder(blobs, tmp_path):
    """Places of sorted names, also where the names are numbers."""
    path = folder_of(tmp_path / "photos", blobs, names=("10", "2"))
    assert format_of(path).name == "pictures"
    opened = open_table(path)
    assert (opened.classes, opened.class_to_idx) == (["10", "2"], {"10": 0, "2": 1})
    assert json.loads(opened.schema.field("label").metadata[b"classes"]) == ["10", "2"]
    assert [opened[number]["label"].item() for number in (0, 9)] == [0, 1]
    assert next(problem.what for problem in check(path, classes=1).problems) == "is 1; expected 0 to 0"


def test_a_folder_without_classes_has_no_labels(blobs, tmp_path):
    (tmp_path / "a.png").write_bytes(blobs[0])
    opened = open_table(tmp_path)
    assert opened.schema.names == ["image"]
    assert (opened.classes, opened.class_to_idx) == ([], {})
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "b.jpg").write_bytes(blobs[1])
    with pytest.raises(DataError) as caught:
        open_table(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: expected all pictures in class folders or none, got a.png next to cat/b.jpg. "
        "Move it to a folder of its class, or elsewhere."
    )


def test_a_folder_of_pictures_is_not_written_and_not_replaced(blobs, tmp_path):
    path = folder_of(tmp_path / "photos", blobs)
    with pytest.raises(DataError, match="which is only read"):
        write_table(pa.table({"a": [1]}), tmp_path / "new", "pictures")
    with pytest.raises(DataError, match="expected a format that can be written, got pictures"):
        checked_target(path, "npy", force=True)
    with pytest.raises(DataError, match="got pictures, which is only read"):
        checked_target(tmp_path / "new", "pictures", force=False)


def test_a_damaged_picture_is_told_with_its_file_or_row(source, blobs, tmp_path):
    damaged = blobs[6][: len(blobs[6]) // 2]  # a JPEG
    if isinstance(source, pa.Table):
        rows = list(blobs)
        rows[6] = damaged
        source, where = table_of(rows), "the table in memory, column 'image', row 6: "
    elif source.is_dir():
        where = f"{source}/dog/6.JPG: "
        (source / "dog" / "6.JPG").write_bytes(damaged)
    else:
        rows = list(blobs)
        rows[6] = damaged
        struct = pa.types.is_struct(open_table(source).schema.field("image").type)
        write_table(table_of(rows, "struct" if struct else "binary"), source)
        where = f"{source}, column 'image', row 6: "
    opened = open_pictures(source)
    for read in (lambda: opened[6], opened.read, lambda: optimize(opened), lambda: opened.take(np.array([2, 6]))):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value).startswith(f"{where}is damaged: expected a ")
    assert opened[5]["image"].shape == (15, 25, 3)
    if not isinstance(source, pa.Table):
        result = check(source)
        assert any(problem.what.startswith("is damaged: expected a ") for problem in result.problems)


def test_a_check_of_a_column_names_rows_that_are_null_damaged_or_not_as_expected(blobs, tmp_path):
    rows = [encoded(image_of("RGB")), None, b"", encoded(image_of("RGB"))[:-40], encoded(image_of("L"))]
    write_table(pa.table({"image": rows}), tmp_path / "photos.parquet")
    found = [(problem.row, problem.field, problem.what) for problem in check(tmp_path / "photos.parquet").problems]
    assert [(row, what.split(":")[0]) for row, _, what in found] == [
        (1, "is null"),
        (2, "is empty (0 bytes)"),
        (3, "is damaged"),
    ]
    assert {name for _, name, _ in found} == {"image"}
    with_shape = check(tmp_path / "photos.parquet", shape=(24, 40, 3), dtype="uint8").problems
    assert with_shape[-1].what == "has shape (24, 40); expected (24, 40, 3)"
    assert check(tmp_path / "photos.parquet", dtype="uint16").found == 5


def test_a_null_is_told_with_its_row(blobs):
    opened = open_pictures(pa.table({"image": [blobs[0], None]}))
    for read in (lambda: opened[1], opened.read):
        with pytest.raises(DataError, match="column 'image', row 1: is null, which no tensor can hold"):
            read()


def test_a_budget_counts_the_headers_of_all_pictures_and_decodes_none(tmp_path, monkeypatch):
    small, large = encoded(Image.fromarray(smooth(4, 4))), encoded(Image.fromarray(smooth(400, 400)))
    table = pa.table({"image": [small] * 40 + [large] * 10})
    decoded = []
    into = decoder.Decoder.decode_into
    monkeypatch.setattr(decoder.Decoder, "decode_into", lambda *given: decoded.append(given[2].shape) or into(*given))
    with pytest.raises(DataError, match="more than the budget of 1,000,000"):
        optimize(table, cache="whole", memory_budget=1_000_000)
    assert (400, 400, 3) not in decoded
    assert optimize(table, cache="whole", memory_budget=6_000_000)[49]["image"].shape == (400, 400, 3)


def test_columns_of_pixels_are_made_in_parts(source, monkeypatch):
    whole = open_pictures(source).read()
    monkeypatch.setattr(pictures, "BATCH_NBYTES", 1000)
    parts = open_pictures(source).read()
    assert parts["image"].num_chunks == 10
    assert parts.equals(whole)


def test_a_table_that_memory_does_not_hold_is_read_row_by_row(blobs, tmp_path, monkeypatch):
    write_table(table_of(blobs), tmp_path / "photos.parquet")
    monkeypatch.setattr(held, "budget_of", lambda _: 100)
    opened = open_pictures(tmp_path / "photos.parquet")
    monkeypatch.setattr(opened.encoded, "read", None)
    np.testing.assert_array_equal(opened[8]["image"].numpy(), by_pillow(blobs[8]))
    assert opened[8]["label"] == 2


def test_pictures_pickle_as_their_path_and_options(source):
    opened = open_pictures(source, size=(6, 7), mode="L", fit="stretch")
    again = pickle.loads(pickle.dumps(opened))  # noqa: S301 made here
    assert again.decoder == opened.decoder
    assert torch.equal(again[3]["image"], opened[3]["image"])


def test_a_cache_file_knows_the_options(blobs, tmp_path):
    path = folder_of(tmp_path / "photos", blobs)
    for options in ({"size": 5}, {"size": 5, "mode": "L"}, {"size": 5, "fit": "pad"}, {"size": 6}):
        optimize(open_pictures(path, **options), cache="mapped", cache_dir=tmp_path / "cache")
    assert len([file for file in (tmp_path / "cache").iterdir() if file.suffix == ".arrow"]) == 4


def test_texts_beside_pictures_come_as_they_are(blobs):
    opened = open_pictures(pa.table({"image": blobs, "caption": [f"no. {i}" for i in range(10)]}), size=4)
    assert opened[3]["caption"] == "no. 3"
    batch = next(iter(ReferenceLoader(opened, batch_size=2)))
    assert batch["caption"] == ["no. 0", "no. 1"]
    assert open_pictures(opened, columns=["image"]).schema.names == ["image"]


def test_a_closed_one_gives_nothing(source):
    opened = open_pictures(source)
    opened.close()
    opened.close()
    with pytest.raises(DataError, match="was closed"):
        opened[0]


def test_a_check_of_a_folder_finds_what_pillow_lets_pass_and_sees_pictures_upright(tmp_path):
    """A JPEG of which a half was never written is grey there, and a flipped byte breaks the checksum of a PNG."""
    good = encoded(image_of("RGB", 120, 160), "JPEG")
    turned = encoded(image_of("RGB", 160, 120), "JPEG", 6)
    flipped = bytearray(encoded(image_of("RGB", 120, 160), compress_level=0))
    flipped[flipped.index(b"IDAT") + 60] ^= 1
    half = good[: len(good) // 2] + bytes(100_000)
    for name, data in {"a.jpg": good, "b.jpg": turned, "c.jpg": half, "d.png": bytes(flipped)}.items():
        (tmp_path / name).write_bytes(data)
    Image.open(io.BytesIO(half)).load()
    problems = check(tmp_path).problems
    assert [problem.file.rpartition("/")[2] for problem in problems] == ["c.jpg", "d.png"]
    assert "it is truncated" in problems[0].what
    assert "expected the checksum of the chunk 'IDAT'" in problems[1].what
