"""Which image of a file or group: series, levels, pages, fields and wells."""

from __future__ import annotations

import json
from contextlib import closing

import numpy as np
import pytest

from pytest_loaderperf.data import check, optimize
from pytest_loaderperf.data.formats import format_of, open_table
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.errors import DataError

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")


def image(value, *shape):
    return np.full(shape, value, np.uint16) + np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


def pixels(path, **options):
    with closing(open_table(path, **options)) as table:
        return [row["image"].numpy() for row in optimize(table, columns=["image"])]


def same(came, *expected):
    assert len(came) == len(expected)
    for one, other in zip(came, expected, strict=True):
        assert np.array_equal(one, other)


def refused(text, path, **options):
    with pytest.raises(DataError) as caught:
        open_table(path, **options)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


# TIFF


def pyramid(file, first):
    """Two series of other shapes; the first has a level of half its size."""
    levels = [image(first, 2, 32, 32), image(first + 1, 2, 16, 16)]
    with tifffile.TiffWriter(file, bigtiff=False) as tiff:
        options = {"photometric": "minisblack", "tile": (16, 16)}
        tiff.write(levels[0], subifds=1, metadata=None, **options)
        tiff.write(levels[1], subfiletype=1, metadata=None, **options)
        tiff.write(image(first + 7, 8, 24), metadata=None, photometric="minisblack")
    return [*levels, image(first + 7, 8, 24)]


def test_a_series_level_or_page_of_each_tiff_is_the_image(tmp_path):
    found = [pyramid(tmp_path / f"{row}.tif", row * 100) for row in range(2)]
    same(pixels(tmp_path), *[one[0] for one in found])
    same(pixels(tmp_path, level=1), *[one[1] for one in found])
    same(pixels(tmp_path, series=1), *[one[2] for one in found])
    same(pixels(tmp_path, page=1), *[one[0][1] for one in found])
    same(pixels(tmp_path, page=2), *[one[2] for one in found])


def test_a_single_tiff_is_a_table_of_one_row(tmp_path):
    found = pyramid(tmp_path / "a.tif", 5)
    assert format_of(tmp_path / "a.tif").name == "tiff"
    same(pixels(tmp_path / "a.tif"), found[0])
    same(pixels(tmp_path / "a.tif", series=1), found[2])
    assert check(tmp_path / "a.tif").good


@pytest.mark.parametrize(
    "options, text",
    [
        ({"series": 2}, "expected a series below 2, as many as it has, got series=2"),
        ({"level": 3}, "expected a level below 2, as many as it has, got level=3"),
        ({"page": 3}, "expected a page below 3, as many as it has, got page=3"),
        ({"page": 1, "level": 0}, "expected series and level, or page alone"),
        ({"series": -1}, "expected series and level, or page alone, integers of at least 0, got series=-1"),
        ({"series": "a"}, "got series='a'"),
    ],
)
def test_a_part_of_a_tiff_that_is_not_there_is_an_error(options, text, tmp_path):
    pyramid(tmp_path / "a.tif", 0)
    refused(text, tmp_path, **options)


def test_a_page_whose_strips_lie_beyond_the_end_is_an_error(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", image(0, 2, 32, 32), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        tiff.pages[1].tags["StripOffsets"].overwrite(1 << 20)
    refused("is damaged: expected strips in a file of", tmp_path, page=1)
    assert len(pixels(tmp_path, page=0)) == 1


def test_an_image_of_an_ome_tiff_with_several_is_chosen(tmp_path):
    images = [image(1, 4, 5), image(50, 6, 7)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for one in images:
            tiff.write(one)
    same(pixels(tmp_path), images[0])
    same(pixels(tmp_path, series=1), images[1])


def test_the_choice_is_part_of_what_a_cache_is_known_by(tmp_path):
    pyramid(tmp_path / "a.tif", 0)
    known = set()
    for options in ({}, {"series": 1}, {"level": 1}, {"page": 0}, {"page": 1}):
        with closing(open_table(tmp_path, **options)) as table:
            source = Source(table, None)
            known.add(source.identity(source.files()))
    assert len(known) == 5


# OME-Zarr

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


def group(path, version, metadata):
    path.mkdir(parents=True, exist_ok=True)
    if version == "0.5":
        attributes = {"ome": {"version": version, **metadata}}
        (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(metadata))


def zarr_image(path, version, value):
    levels = [image(value, 3, 8, 8), image(value + 1, 3, 4, 4)]
    axes = [{"name": name} for name in "zyx"]
    group(path, version, {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]})
    parent = zarr.open_group(str(path), mode="r+")
    for place, level in enumerate(levels):
        parent.create_array(str(place), data=level)
    return levels


def plate(path, version, wells=("B/2", "A/10", "A/2"), fields=2):
    """Wells by name; their fields."""
    found = {}
    listed = [{"path": w, "rowIndex": "AB".index(w[0]), "columnIndex": int(w[2:]) - 1} for w in wells]
    group(path, version, {"plate": {"wells": listed}})
    for place, well in enumerate(wells):
        group(path / well, version, {"well": {"images": [{"path": str(field)} for field in range(fields)]}})
        found[well] = [zarr_image(path / well / str(f), version, 100 * place + 10 * f)[0] for f in range(fields)]
    return found


@VERSIONS
def test_a_level_of_a_pyramid_is_chosen(version, tmp_path):
    found = [zarr_image(tmp_path / "d" / f"{row}.ome.zarr", version, row * 50) for row in range(2)]
    same(pixels(tmp_path / "d"), *[levels[0] for levels in found])
    same(pixels(tmp_path / "d", level=1), *[levels[1] for levels in found])
    refused("expected a level from 0 to below 2, got level=2", tmp_path / "d", level=2)


@VERSIONS
def test_a_single_image_is_a_table_of_one_row(version, tmp_path):
    levels = zarr_image(tmp_path / "a.ome.zarr", version, 3)
    same(pixels(tmp_path / "a.ome.zarr"), levels[0])
    assert check(tmp_path / "a.ome.zarr").good


@VERSIONS
@pytest.mark.parametrize("listed", [False, True])
def test_the_images_of_bioformats2raw_are_rows_in_order(version, listed, tmp_path):
    path = tmp_path / "a.zarr"
    group(path, version, {"bioformats2raw.layout": 3})
    found = [zarr_image(path / str(place), version, place * 20)[0] for place in range(11)]
    order = list(range(11))
    if listed:
        order = [10, 0]
        group(path / "OME", version, {"series": ["10", "0"]})
    same(pixels(path), *[found[place] for place in order])
    same(pixels(path, series=1), found[order[1]])
    refused(f"expected a series from 0 to below {len(order)}, got series={len(order)}", path, series=len(order))
    result = check(path)
    assert (result.good, result.total) == (True, len(order))


@VERSIONS
def test_images_of_bioformats2raw_in_a_folder_are_rows_of_it(version, tmp_path):
    found = []
    for name in ("a", "b"):
        path = tmp_path / "d" / name / f"{name}.zarr"
        group(path, version, {"bioformats2raw.layout": 3})
        found += [zarr_image(path / str(place), version, len(name) + place * 20)[0] for place in range(2)]
    same(pixels(tmp_path / "d"), *found)
    with closing(open_table(tmp_path / "d")) as table:
        assert table.read(["label"])["label"].to_pylist() == [0, 0, 1, 1]
    assert check(tmp_path / "d").total == 4


@VERSIONS
def test_a_plate_has_rows_and_labels_by_well(version, tmp_path):
    found = plate(tmp_path / "p.zarr", version)
    same(pixels(tmp_path / "p.zarr"), *found["A/2"], *found["A/10"], *found["B/2"])
    with closing(open_table(tmp_path / "p.zarr")) as table:
        classes = json.loads(table.schema.field("label").metadata[b"classes"])
        labels = [classes[label] for label in table.read(["label"])["label"].to_pylist()]
    assert labels == ["A/2", "A/2", "A/10", "A/10", "B/2", "B/2"]
    same(pixels(tmp_path / "p.zarr", well="A/10"), *found["A/10"])
    same(pixels(tmp_path / "p.zarr", field=1), *[found[well][1] for well in ("A/2", "A/10", "B/2")])
    same(pixels(tmp_path / "p.zarr" / "A" / "2"), *found["A/2"])
    refused("expected one of its wells A/2, A/10, B/2, got well='C/1'", tmp_path / "p.zarr", well="C/1")
    with pytest.raises(DataError, match="expected a field from 0 to below 2, got field=2"):
        open_table(tmp_path / "p.zarr", field=2)
    assert check(tmp_path / "p.zarr").total == 6


@VERSIONS
def test_a_plate_whose_well_or_field_is_lost_is_an_error(version, tmp_path):
    plate(tmp_path / "p.zarr", version)
    (tmp_path / "p.zarr" / "A" / "2" / "1").rename(tmp_path / "gone")
    with pytest.raises(DataError, match="expected the group '1', which its metadata name, got nothing there"):
        open_table(tmp_path / "p.zarr")
    assert not check(tmp_path / "p.zarr").good
    (tmp_path / "p.zarr" / "A" / "2").rename(tmp_path / "too")
    with pytest.raises(DataError, match="expected the group 'A/2', which its metadata name, got nothing there"):
        open_table(tmp_path / "p.zarr")


@VERSIONS
@pytest.mark.parametrize("name", ["../out.zarr", "/etc", "", None])
def test_metadata_that_lead_out_of_the_plate_are_refused(version, name, tmp_path):
    zarr_image(tmp_path / "out.zarr", version, 1)
    group(tmp_path / "p.zarr", version, {"plate": {"wells": [{"path": name}]}})
    with pytest.raises(DataError):
        open_table(tmp_path / "p.zarr")


@VERSIONS
def test_a_plate_in_a_folder_and_options_that_do_not_fit_say_what_to_do(version, tmp_path):
    plate(tmp_path / "d" / "p.zarr", version)
    refused("is a plate of many images. Open it by itself", tmp_path / "d")
    zarr_image(tmp_path / "a.zarr", version, 1)
    refused("expected well for a group that has such, got another. Leave it out.", tmp_path / "a.zarr", well="A/1")
