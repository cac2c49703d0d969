"""Which images a folder holds, which labels they have, and of which format it is."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pytest_loaderperf.data import check
from pytest_loaderperf.data.formats import format_of, open_table
from pytest_loaderperf.errors import DataError
from tests.data import stand_in

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    stand_in.stay_in_process(monkeypatch)


def tiff(path: Path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((4, 4), value, "u1"))


def ome_zarr(path: Path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.open_group(str(path), mode="w", attributes={"ome": {"multiscales": [{"datasets": [{"path": "0"}]}]}})
    group.create_array("0", data=np.full((4, 4), value, "u1"))


FORMATS = {"tiff": (".tif", tiff), "ome_zarr": (".zarr", ome_zarr)}
each_format = pytest.mark.parametrize("name", FORMATS)


def rows(path: Path, name: str):
    """The label, or None, and the first pixel of each row."""
    with closing(open_table(path, name)) as table:
        whole = table.read()
    labels = whole["label"].to_pylist() if "label" in whole.schema.names else [None] * len(whole)
    return sorted(zip(labels, whole["image"].combine_chunks().to_numpy_ndarray()[:, 0, 0].tolist(), strict=True))


@pytest.fixture
def tree(tmp_path, name):
    ending, write = FORMATS[name]
    for i, sample in enumerate(("a/0", "b/1")):
        write(tmp_path / "tree" / f"{sample}{ending}", i + 1)
    return tmp_path / "tree"


CIRCLES = {
    "to the parent": {"b/up": ".."},
    "two to the parent": {"a/up": "..", "b/up": ".."},
    "to itself": {"a/self": "."},
    "to each other": {"a/other": "../b", "b/other": "../a"},
    "a class again": {"c": "a"},
    "deep and back": {"a/deep/er/top": "../../.."},
}


@each_format
@pytest.mark.parametrize("links", CIRCLES.values(), ids=CIRCLES)
def test_a_folder_is_entered_once_however_many_links_lead_to_it(name, links, tree):
    for link, target in links.items():
        (tree / link).parent.mkdir(parents=True, exist_ok=True)
        (tree / link).symlink_to(target)
    assert rows(tree, name) == [(0, 1), (1, 2)]
    assert format_of(tree).name == name
    result = check(tree)
    assert (result.total, result.found) == (2, 0)


@each_format
def test_links_to_folders_and_files_elsewhere_are_followed(name, tree, tmp_path):
    ending, write = FORMATS[name]
    write(tmp_path / "elsewhere" / f"2{ending}", 3)
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    (tree / "c").symlink_to(tmp_path / "elsewhere")
    (tree / "a" / f"3{ending}").symlink_to(tree / "b" / f"1{ending}")
    assert rows(tree, name) == [(0, 1), (0, 2), (1, 2), (2, 3)]
    assert check(tree).total == 4


@each_format
@pytest.mark.parametrize("only_links", [True, False])
def test_the_format_is_seen_through_links(name, only_links, tree, tmp_path):
    (tmp_path / "links").mkdir()
    for label in "ab":
        (tmp_path / "links" / label).symlink_to(tree / label)
    assert format_of(tmp_path / "links").name == name
    assert rows(tmp_path / "links", name) == [(0, 1), (1, 2)]


@each_format
@pytest.mark.parametrize("target", ["gone", "{link}"], ids=["dangling", "to itself"])
@pytest.mark.parametrize("kind", ["sample", "folder"])
def test_a_link_that_leads_nowhere_is_named(name, target, kind, tree):
    link = tree / "a" / (f"9{FORMATS[name][0]}" if kind == "sample" else "c")
    link.symlink_to(target.format(link=link))
    with pytest.raises(DataError) as caught:
        open_table(tree, name)
    why = os.strerror(2 if target == "gone" else 40)
    what = f"is a link to {link.readlink()}, which cannot be followed: {why}"
    assert str(caught.value) == f"{link} {what}. Repair it, or take it out of the folder."
    result = check(tree)
    assert [(problem.file, problem.what) for problem in result.problems] == [(str(link), what)]
    assert result.checked == 3


SAME = {
    "numbers": (["1", "01"], "'01' and '1', which are one number"),
    "signs": (["0", "-0"], "'-0' and '0', which are one number"),
    "digits of another script": (["1", "\u0661"], "'1' and '\\u0661', which are one number"),
    "Unicode": (["caf\u00e9", "cafe\u0301"], "'cafe\\u0301' and 'caf\\xe9', which are one text in Unicode"),
}


@each_format
@pytest.mark.parametrize("names, text", SAME.values(), ids=SAME)
def test_two_folders_of_one_class_are_an_error(name, names, text, tmp_path):
    for i, folder in enumerate(names):
        FORMATS[name][1](tmp_path / folder / f"{i}{FORMATS[name][0]}")
    if len(list(tmp_path.iterdir())) < len(names):
        pytest.skip("a file system that knows one Unicode form")
    what = f"expected one folder for each class, got {text}. Rename one, or put their images into one folder."
    with pytest.raises(DataError) as caught:
        open_table(tmp_path, name)
    assert str(caught.value) == f"{tmp_path}: {what}"
    assert [(problem.file, problem.what) for problem in check(tmp_path).problems] == [(str(tmp_path), what)]


DIFFERENT = {
    "case": (["Cat", "cat"], [0, 1]),
    "more than 64 bits": (["2", "20230105123456789012"], [0, 1]),
    "the largest": (["2", str(2**63 - 1)], [2, 2**63 - 1]),
    "beyond the largest": (["2", str(2**63)], [0, 1]),
    "a fraction": (["1", "1.0"], [0, 1]),
    "compatible, and not the same": (["\ufb01", "fi"], [0, 1]),
    "negative": (["-1", "1"], [-1, 1]),
}


@pytest.mark.parametrize("names, labels", DIFFERENT.values(), ids=DIFFERENT)
def test_names_that_differ_are_labels_that_differ(names, labels, tmp_path):
    for i, folder in enumerate(names):
        tiff(tmp_path / folder / f"{i}.tif", i)
    assert sorted(label for label, _ in rows(tmp_path, "tiff")) == labels
    assert check(tmp_path).good


def test_labels_of_the_widest_type_come_back(tmp_path):
    import pyarrow as pa

    from pytest_loaderperf.data.formats import write_table

    images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 4, 4), "u1"))
    table = pa.table({"image": images, "label": pa.array([1, 2**64 - 1], pa.uint64())})
    write_table(table, tmp_path / "a", "tiff")
    with closing(open_table(tmp_path / "a")) as opened:
        assert opened.read().equals(table)


@pytest.mark.parametrize("folder", ["x", "01"])
def test_a_foreign_folder_among_those_of_labels_is_named(folder, tmp_path):
    import pyarrow as pa

    from pytest_loaderperf.data.formats import write_table

    images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 4, 4), "u1"))
    write_table(pa.table({"image": images, "label": [1, 2]}), tmp_path / "a", "tiff")
    tiff(tmp_path / "a" / folder / "9.tif")
    with pytest.raises(DataError, match=f"{tmp_path / 'a'}: expected .*{folder}.* Rename"):
        open_table(tmp_path / "a")


MIXED = {
    "images and arrays": (["a.tif", "a.npy"], "npy and tiff", "npy"),
    "in class folders": (["x/a.tif", "y/a.npy"], "npy and tiff", "npy"),
    "both kinds of images": (["a.tif", "b.zarr"], "ome_zarr and tiff", "ome_zarr"),
    "all": (["a.TIFF", "b.ome.zarr", "c.npy"], "npy and ome_zarr and tiff", "npy"),
}


@pytest.mark.parametrize("files, names, first", MIXED.values(), ids=MIXED)
def test_the_format_of_a_mixed_folder_is_asked_for(files, names, first, tmp_path):
    write = {".tif": tiff, ".tiff": tiff, ".zarr": ome_zarr, ".npy": lambda file: np.save(file, np.zeros(3))}
    for turn in (files, files[::-1]):
        folder = tmp_path / f"{turn[0].replace('/', ' ')} first"
        for file in turn:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write[Path(file).suffix.lower()](folder / file)
        with pytest.raises(DataError) as caught:
            format_of(folder)
        assert str(caught.value) == (
            f"{folder} holds files of {names}: expected a folder of one format. "
            f"Say which to read, as in format={first!r}, or keep the others elsewhere."
        )


def test_a_named_format_opens_a_mixed_folder(tmp_path):
    tiff(tmp_path / "a.tif", 3)
    np.save(tmp_path / "a_seg.npy", {"masks": 1}, allow_pickle=True)
    assert rows(tmp_path, "tiff") == [(None, 3)]
    result = check(tmp_path)
    assert (result.kind, result.total, result.found) == ("images", 1, 0)


@pytest.mark.parametrize("name", ["tiff", "pictures"])
def test_a_class_without_files_is_an_error_because_it_changes_the_labels_of_others(name, tmp_path):
    for folder in ("b", "c"):
        if name == "tiff":
            tiff(tmp_path / folder / "0.tif")
        else:
            (tmp_path / folder).mkdir()
            pytest.importorskip("PIL.Image").new("RGB", (2, 2)).save(tmp_path / folder / "0.png")
    for folder, file in (("notes", "a.txt"), (".hidden", ".keep")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    assert open_table(tmp_path).read(["label"])["label"].to_pylist() == [0, 1]
    (tmp_path / "a" / "more").mkdir(parents=True)
    (tmp_path / "a" / ".keep").touch()
    with pytest.raises(DataError) as caught:
        open_table(tmp_path)
    assert str(caught.value).endswith(
        f"{tmp_path}: expected files in each class folder, got none in 'a': labels are the places of the folders' "
        "names. Put some there, or remove it."
    )


def test_numbers_are_labels_whatever_other_folders_there_are(tmp_path):
    tiff(tmp_path / "7" / "0.tif")
    (tmp_path / "3").mkdir()
    assert open_table(tmp_path).read(["label"])["label"].to_pylist() == [7]
